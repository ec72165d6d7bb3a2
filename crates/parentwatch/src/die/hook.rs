//! The hook and the thread that it runs on.

use std::ffi::c_void;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sys::{self, HOOK_NAME, HookMark, SignalsBlocked, Word};

/// What a program wants to do before it exits.
pub(crate) struct Hook {
    run: Box<dyn FnOnce() + Send>,
    identity: Option<HookIdentity>,
}

/// A C function and its data: a repeated call is recognised by them. A closure has no identity.
pub(crate) type HookIdentity = (usize, usize);

impl Hook {
    pub(crate) fn closure(hook: impl FnOnce() + Send + 'static) -> Hook {
        Hook { run: Box::new(hook), identity: None }
    }

    /// # Safety
    /// `function` must be callable once with `user_data` from any thread, at any later time.
    pub(crate) unsafe fn function(
        function: unsafe extern "C" fn(*mut c_void),
        user_data: *mut c_void,
    ) -> Hook {
        struct UserData(*mut c_void);
        // SAFETY: the caller promises that the data may be used from another thread.
        unsafe impl Send for UserData {}
        let data = UserData(user_data);
        let run = move || {
            let UserData(data) = { data };
            // SAFETY: the caller's promise; an FnOnce runs once.
            unsafe { function(data) }
        };
        let identity = Some((function as usize, user_data as usize));
        Hook { run: Box::new(run), identity }
    }

    pub(crate) fn identity(&self) -> Option<HookIdentity> {
        self.identity
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// The hook's own thread. It is made when arming, while a thread can still be had, and sleeps until then.
#[derive(Clone)]
pub(crate) struct HookThread {
    stage: Arc<Word>,
}

const ASLEEP: u32 = 0;
const WANTED: u32 = 1;
const DONE: u32 = 2;
/// Arming has failed after all: the hook never runs.
const CANCELLED: u32 = 3;

/// 1 MiB for what a hook may call (printf, Python).
const STACK: usize = 1 << 20;

impl HookThread {
    /// Call it with all signals blocked: the thread inherits the mask. Returns the error number if there is no thread.
    pub(crate) fn spawn(hook: Hook, blocked: &SignalsBlocked) -> Result<HookThread, i32> {
        // Before there is a thread: another copy may look before the thread has run at all.
        let mark = HookMark::new();
        let stage = Arc::new(Word::default());
        let own = Arc::clone(&stage);
        sys::spawn_thread(HOOK_NAME, STACK, blocked, move || {
            {
                let _until_done = mark;
                while own.get() == ASLEEP {
                    own.wait(ASLEEP, None);
                }
                if own.get() == WANTED {
                    // A hook that panics is done.
                    let _ = catch_unwind(AssertUnwindSafe(hook.run));
                }
            }
            own.replace(DONE);
        })?;
        Ok(HookThread { stage })
    }

    /// Runs the hook and waits until it is done, `grace` at most.
    pub(crate) fn run(&self, grace: Duration) {
        let until = Instant::now() + grace;
        self.stage.replace(WANTED);
        while self.stage.get() == WANTED {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.stage.wait(WANTED, Some(left));
        }
    }

    pub(crate) fn cancel(&self) {
        self.stage.replace(CANCELLED);
    }
}

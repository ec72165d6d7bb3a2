//! The hook and the thread that it runs on.

use std::ffi::c_void;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::sys::SignalsBlocked;

/// What a program wants done before it exits.
pub(crate) struct Hook {
    run: Box<dyn FnOnce() + Send>,
    identity: Option<HookIdentity>,
}

/// A C function with its data, by which a repeated call is recognised. A closure has none.
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

/// The hook's own thread, made while threads can still be had, asleep until it is wanted.
#[derive(Clone)]
pub(crate) struct HookThread {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stage: Mutex<Stage>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Asleep,
    Wanted,
    Done,
    /// Arming failed after all: the hook will not be run.
    Cancelled,
}

impl Shared {
    /// Nobody panics with this lock held, and the program's hook never holds it.
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, stage: Stage) {
        *self.stage() = stage;
        self.changed.notify_all();
    }
}

/// 1 MiB for what a hook may call (printf, Python), and as much for the static thread-local storage of the
/// program and its libraries, which glibc takes from a thread's stack.
const STACK: usize = 2 << 20;

impl HookThread {
    /// Must be called with all signals blocked, which the thread inherits.
    pub(crate) fn spawn(hook: Hook, _blocked: &SignalsBlocked) -> std::io::Result<HookThread> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        std::thread::Builder::new().name("parent-hook".to_owned()).stack_size(STACK).spawn(
            move || {
                let stage = own.changed.wait_while(own.stage(), |stage| *stage == Stage::Asleep);
                let stage = *stage.unwrap_or_else(PoisonError::into_inner);
                if stage == Stage::Wanted {
                    // A hook that panics is a hook that is done.
                    let _ = catch_unwind(AssertUnwindSafe(hook.run));
                    own.set(Stage::Done);
                }
            },
        )?;
        Ok(HookThread { shared })
    }

    /// Runs the hook and waits until it is done, but no longer than the grace.
    pub(crate) fn run(&self, grace: Duration) {
        self.shared.set(Stage::Wanted);
        let _ = self
            .shared
            .changed
            .wait_timeout_while(self.shared.stage(), grace, |stage| *stage == Stage::Wanted);
    }

    pub(crate) fn cancel(&self) {
        self.shared.set(Stage::Cancelled);
    }
}

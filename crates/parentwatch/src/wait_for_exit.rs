//! Waiting for the parent without a watcher: for programs that have a thread of their own for it.

use std::convert::Infallible;
use std::ffi::CStr;
use std::time::Duration;

use crate::config::{MAX_INTERVAL, MIN_INTERVAL};
use crate::state::State;
use crate::sys::{self, Handle, OwnTable, SignalsBlocked, Word};

/// How a wait for the parent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The process is no longer this process's parent.
    Exited,
    /// It is PID 1 or lower: there is nothing to wait for, and nobody has died.
    NoParent,
    /// This operating system is not supported.
    Unsupported,
}

/// Blocks the calling thread until `pid` is no longer this process's parent.
///
/// The kernel wakes it where it can; else it looks every `interval`, which is brought into 10 ms … 1 h.
/// It needs no watcher and does not read the environment, and may be called repeatedly, from any thread and
/// after a fork. A thread, one for the process, holds the descriptor that tells of the death in a table of its own;
/// it ends when the parent has. Signals that arrive meanwhile are handled by their handlers; the wait goes on. It is no
/// cancellation point. For a `pid` of 1 or less it returns at once, and so it does when `pid` is not the parent to
/// begin with.
pub fn wait_for_exit(pid: i32, interval: Duration) -> Exit {
    let Ok(exit) = wait(pid, interval, None, || Ok::<(), Infallible>(()));
    exit
}

/// [`wait_for_exit`] with a way out: `go_on` is asked on the calling thread before it sleeps, so also
/// after every signal that was handled on this thread and ended a sleep, and at least every interval. It is for
/// programs whose signal handlers only take a note, as those of Python do, on whichever thread it was.
///
/// # Errors
///
/// That of `go_on`, at once: the wait is over, and says nothing about the parent.
pub fn wait_for_exit_or<E>(
    pid: i32,
    interval: Duration,
    go_on: impl FnMut() -> Result<(), E>,
) -> Result<Exit, E> {
    wait(pid, interval, Some(interval), go_on)
}

/// `asks` is how long a sleep may be before `go_on` is asked again, whether or not the kernel wakes us.
fn wait<E>(
    pid: i32,
    interval: Duration,
    asks: Option<Duration>,
    mut go_on: impl FnMut() -> Result<(), E>,
) -> Result<Exit, E> {
    if !sys::SUPPORTED {
        return Ok(Exit::Unsupported);
    }
    if pid <= 1 {
        return Ok(Exit::NoParent);
    }
    let _whole = sys::CancellationDisabled::here();
    let within_limits = |time: Duration| time.clamp(MIN_INTERVAL, MAX_INTERVAL);
    let (interval, asks) = (within_limits(interval), asks.map(within_limits));
    let sentry = &State::of_this_process().sentry;
    while !sys::parent_is_gone(pid, false) {
        go_on()?;
        match sentry.get() {
            NO_SENTRY => post_sentry(sentry, pid),
            POLLS => sys::nap(interval),
            // Held up, by a hung file system, say: look meanwhile.
            STARTS => sentry.wait(STARTS, Some(interval.min(asks.unwrap_or(interval)))),
            watches => sentry.wait(watches, asks),
        }
    }
    Ok(Exit::Exited)
}

/// What the process's one sentry does: a thread that wakes whoever waits for the parent.
const NO_SENTRY: u32 = 0;
const STARTS: u32 = 1;
const WATCHES: u32 = 2;
/// There is no thread, or it can have no handle, or its handle claimed what was not so.
const POLLS: u32 = 3;

fn post_sentry(sentry: &'static Word, pid: i32) {
    if !sentry.replace_if(NO_SENTRY, STARTS) {
        return;
    }
    let blocked = SignalsBlocked::all();
    let started = sys::spawn_thread(SENTRY_NAME, STACK, &blocked, move || {
        let table = OwnTable::take();
        let handle = Handle::open_in(table.as_ref(), pid).ok();
        if handle.is_some() {
            sentry.replace(WATCHES);
            while !sys::parent_is_gone(pid, false) {
                // A signal may end a wait: all are blocked here but those that a fault raises.
                let fired = sys::wait([handle, None], None).is_none_or(|[fired, _]| fired);
                if fired && !sys::parent_is_gone(pid, fired) {
                    sentry.replace(POLLS);
                    return;
                }
            }
        }
        sentry.replace(if handle.is_some() { NO_SENTRY } else { POLLS });
    });
    if started.is_err() {
        sentry.replace(POLLS);
    }
}

const SENTRY_NAME: &CStr = c"parent-wait";
const STACK: usize = 64 << 10;

/// Whether `pid`, which was this process's parent, no longer is, or is PID 1, which only adopts (a
/// process that PID 1 has started asks before whether there is anything to watch).
///
/// Safe from any thread and after a fork.
pub fn parent_died(pid: i32) -> bool {
    sys::SUPPORTED && (sys::parent_is_gone(pid, false) || sys::parent_pid() == 1)
}

//! Waiting for the parent without a watcher, for programs that have their own thread for it.

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
    /// The process id is 1 or less: there is nothing to wait for, and nobody has died.
    NoParent,
    /// This operating system is not supported.
    Unsupported,
}

/// Blocks the calling thread until `pid` is no longer this process's parent. It returns at once if `pid` is not the
/// parent to begin with, or is 1 or less.
///
/// It sleeps until the kernel wakes it. Where the kernel cannot, it polls every `interval`, clamped to 10 ms … 1 h. It
/// needs no watcher and ignores the environment. Any thread may call it, repeatedly and after a fork. Signal handlers
/// run during the wait, and the wait goes on. It is not a cancellation point.
///
/// The first call creates a thread, one per process, which ends when the parent has died. It has its own descriptor
/// table, so that the program sees no new descriptor.
pub fn wait_for_exit(pid: i32, interval: Duration) -> Exit {
    let Ok(exit) = wait(pid, interval, None, || Ok::<(), Infallible>(()));
    exit
}

/// [`wait_for_exit`] with a way out: `go_on` may end the wait by an error. It is called on this thread before each
/// sleep: at least once per interval, and after each signal that was handled on this thread and ended a sleep.
///
/// This is for programs whose signal handlers only take a note, on any thread, as those of Python do.
///
/// # Errors
///
/// The error of `go_on`, at once. It says nothing about the parent.
pub fn wait_for_exit_or<E>(
    pid: i32,
    interval: Duration,
    go_on: impl FnMut() -> Result<(), E>,
) -> Result<Exit, E> {
    wait(pid, interval, Some(interval), go_on)
}

/// `asks` is the longest time between two calls of `go_on`, if the kernel does not wake us before.
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
            // A hung file system, for example, may delay the thread: poll meanwhile.
            STARTS => sentry.wait(STARTS, Some(interval.min(asks.unwrap_or(interval)))),
            watches => sentry.wait(watches, asks),
        }
    }
    Ok(Exit::Exited)
}

/// The states of the sentry: one thread per process, which wakes all that wait for the parent.
const NO_SENTRY: u32 = 0;
const STARTS: u32 = 1;
const WATCHES: u32 = 2;
/// There is no thread, it could not open a handle, or the handle's claim was not confirmed.
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
                // Only a signal that a fault raises can end this wait: all others are blocked.
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

/// Whether `pid` is no longer this process's parent, or the parent is PID 1, which adopts orphans. (A process that PID
/// 1 started has nothing to watch, and should not ask.)
///
/// Safe from any thread and after a fork.
pub fn parent_died(pid: i32) -> bool {
    sys::SUPPORTED && (sys::parent_is_gone(pid, false) || sys::parent_pid() == 1)
}

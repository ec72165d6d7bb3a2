//! Waiting for the parent without a watcher: for programs that have a thread of their own for it.

use std::convert::Infallible;
use std::time::Duration;

use crate::config::{MAX_INTERVAL, MIN_INTERVAL};
use crate::sys::{self, Handle, Wake};

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
/// It needs no watcher and does not read the environment, may be called repeatedly, from any thread and
/// after a fork, and keeps nothing: its descriptor is closed when it returns. Signals that arrive
/// meanwhile are handled by their handlers; the wait goes on. It is no cancellation point. For a `pid` of 1 or
/// less it returns at once, and so it does when `pid` is not the parent to begin with.
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
    let mut handle = Handle::open(pid).ok();
    let mut fired = false;
    let mut pause = interval;
    while !sys::parent_is_gone(pid, fired) {
        go_on()?;
        let timeout = if handle.is_some() { asks } else { Some(pause) };
        let [wake, _] = sys::wait([handle.as_ref().map(Handle::raw), None], timeout);
        fired = wake == Wake::Readable;
        pause = pause.saturating_mul(2).min(interval);
        if wake != Wake::Quiet && !sys::parent_is_gone(pid, fired) {
            // unconfirmed: never back into a wait that returns at once, but look again soon
            pause = MIN_INTERVAL;
            if let Some(lost) = handle.take().filter(|handle| !handle.is_ours()) {
                lost.forget();
            }
        }
    }
    Ok(Exit::Exited)
}

/// Whether `pid`, which was this process's parent, no longer is, or is PID 1, which only adopts (a
/// process that PID 1 has started asks before whether there is anything to watch).
///
/// Safe from any thread and after a fork.
pub fn parent_died(pid: i32) -> bool {
    sys::SUPPORTED && (sys::parent_is_gone(pid, false) || sys::parent_pid() == 1)
}

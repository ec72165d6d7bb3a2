//! The order of dying. Nothing here may wait without a bound, panic, allocate, or take a lock that the program could
//! hold.
//!
//! 1. The worker's time, if it has any: its hook, or its own graceful stop, which a SIGTERM to itself begins.
//! 2. The helpers get SIGTERM.
//! 3. The reaper, a process of its own, sends SIGKILL to those that are left when their time is over.
//! 4. One line on stderr.
//! 5. `_exit(1)`.

pub(crate) mod hook;
pub(crate) mod line;

// What is dead code on macOS is for a guardian.
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod group;
#[cfg(any(target_os = "linux", target_os = "macos"))]
#[cfg_attr(any(target_os = "macos", parentwatch_macos_shim), allow(dead_code))]
pub(crate) mod reaper;
#[cfg(any(target_os = "linux", target_os = "macos"))]
#[cfg_attr(any(target_os = "macos", parentwatch_macos_shim), allow(dead_code))]
mod tree;
#[cfg(any(target_os = "linux", target_os = "macos"))]
use reaper::Helpers;

#[cfg(windows)]
mod descendants;
#[cfg(windows)]
use descendants::Helpers;

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
use crate::sys::Helpers;

use std::time::{Duration, Instant};

use crate::config::{DEFAULT_GRACE, Scope};
use crate::state::Tier;
use crate::sys::{self, OwnTable};
use hook::HookThread;
use line::Line;

/// Whose death it was, and how it was seen.
pub(crate) struct Cause {
    pub pid: i32,
    /// It is the supervisor that was named, not a direct parent that nobody named.
    pub is_named: bool,
    /// `None`: it was seen while arming.
    pub tier: Tier,
}

/// How this process dies; settled when arming.
pub(crate) struct Death {
    pub scope: Scope,
    /// This process led its process group when it armed.
    pub led: bool,
    /// The leader of our process group, when it is proven to stand between supervisor and worker.
    pub group_leader: Option<i32>,
    pub hook: Option<HookThread>,
    /// `None`: unset.
    pub grace: Option<Duration>,
    /// That of the thread that this process dies on.
    pub table: Option<OwnTable>,
}

/// The process group that ends with this process: the one that it leads, or has led, or the one whose leader is
/// proven. Else nothing proves whose group it is, and its members live.
pub(crate) fn group_to_end(led: bool, proven_leader: Option<i32>) -> Option<i32> {
    let (own, current) = (sys::own_pid(), sys::process_group());
    match led || current == own {
        true => Some(own),
        false => proven_leader.filter(|leader| *leader == current),
    }
    .filter(|group| *group > 1)
}

impl Death {
    pub(crate) fn now(&self, cause: &Cause) -> ! {
        // Should any of it unwind, the exit still follows.
        let _exit = ExitNow;

        // A group that an ancestor leads dies with the supervisor or with that leader. When some process in between
        // has died, its healthy members live.
        let leader = self.group_leader.filter(|leader| cause.is_named || *leader == cause.pid);
        let group = match self.scope {
            Scope::Process => None,
            Scope::Group | Scope::Tree => group_to_end(self.led, leader),
        };
        let has_tree = self.scope == Scope::Tree;
        let mut helpers = Helpers::of(group, has_tree, self.grace, self.table.is_some());

        // However the worker ends in its own time, its helpers go: the reaper is made first.
        let reaper = self.time(cause).and_then(|(time, length)| {
            let reaper = helpers.reap_once_gone(length);
            time.pass(length);
            reaper
        });
        helpers.end();
        if let Some(reaper) = reaper {
            reaper.kill();
        }
        self.tell(cause);
        sys::exit_now()
    }

    /// What the worker has time for, and how long.
    fn time(&self, cause: &Cause) -> Option<(Time<'_>, Duration)> {
        // A worker that is only just arming has nothing to stop gracefully.
        let may_stop = cause.tier != Tier::None;
        match (&self.hook, self.grace) {
            (_, Some(Duration::ZERO)) => None,
            (Some(hook), grace) => Some((Time::Hook(hook), grace.unwrap_or(DEFAULT_GRACE))),
            (None, Some(grace)) if may_stop && !sys::sigterm_ends_this_process() => {
                Some((Time::GracefulStop, grace))
            }
            (None, grace) if sys::has_other_hook(0) => {
                Some((Time::HookOfAnotherCopy, grace.unwrap_or(DEFAULT_GRACE)))
            }
            (None, _) => None,
        }
    }

    fn tell(&self, cause: &Cause) {
        let line = Line::gone(cause.pid, cause.is_named, sys::own_pid(), cause.tier);
        sys::write_to_stderr(line.as_bytes(), self.table.as_ref());
    }
}

/// What the worker has time for.
enum Time<'a> {
    Hook(&'a HookThread),
    /// Begun by a SIGTERM to this process.
    GracefulStop,
    /// Another copy of this library is in this process, and ends it when its hook is done.
    HookOfAnotherCopy,
}

impl Time<'_> {
    /// Returns when the time is over, or nothing is left to be waited for.
    fn pass(&self, length: Duration) {
        const LOOK: Duration = Duration::from_millis(1);
        let until = Instant::now() + length;
        let own_hook = match self {
            Time::Hook(hook) => {
                hook.run(length);
                hook.thread()
            }
            Time::GracefulStop => {
                sys::begin_graceful_stop();
                sys::nap(length);
                return;
            }
            Time::HookOfAnotherCopy => 0,
        };
        while sys::has_other_hook(own_hook) && Instant::now() < until {
            sys::nap(LOOK);
        }
    }
}

struct ExitNow;

impl Drop for ExitNow {
    fn drop(&mut self) {
        sys::exit_now()
    }
}

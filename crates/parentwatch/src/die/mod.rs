//! The order of dying. Nothing here may wait without a bound, panic, allocate, or take a lock that the program could
//! hold.
//!
//! 1. The worker's own time, if it has any: its hook runs, or a SIGTERM to itself begins its graceful stop.
//! 2. The helpers get SIGTERM.
//! 3. The reaper, a forked process, sends SIGKILL to helpers that outlast the grace.
//! 4. One line goes to stderr.
//! 5. `_exit(1)`.

pub(crate) mod hook;
pub(crate) mod line;

// On macOS there is no guardian: what only a guardian uses is dead code there.
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
use crate::sys::{self, HookMark, OwnTable};
use hook::HookThread;
use line::Line;

/// Which process died, and how that was seen.
pub(crate) struct Cause {
    pub pid: i32,
    /// It is the named supervisor, not a direct parent that was not named.
    pub is_named: bool,
    /// [`Tier::None`]: it was seen while arming.
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
    /// `None`: the defaults.
    pub grace: Option<Duration>,
    /// The descriptor table of the thread that runs this.
    pub table: Option<OwnTable>,
}

/// The process group that ends with this process: one that it leads or has led, or one whose leader is proven to stand
/// between supervisor and worker. Any other group may belong to someone else, and is left alone.
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
        // The exit follows even if something below unwinds.
        let _exit = ExitNow;

        // A group that an ancestor leads ends with the supervisor or with that leader. If another process in between
        // has died, the group's members are healthy and live on.
        let leader = self.group_leader.filter(|leader| cause.is_named || *leader == cause.pid);
        let group = match self.scope {
            Scope::Process => None,
            Scope::Group | Scope::Tree => group_to_end(self.led, leader),
        };
        let has_tree = self.scope == Scope::Tree;
        let mut helpers = Helpers::of(group, has_tree, self.grace, self.table.is_some());

        // The worker may end by itself in its own time. The reaper comes first, so that the helpers end all the same.
        let reaper = self.time(cause).and_then(|(time, length)| {
            let reaper = helpers.reap_once_gone(length);
            time.spend(length);
            reaper
        });
        helpers.end();
        if let Some(reaper) = reaper {
            reaper.kill();
        }
        self.write_line(cause);
        sys::exit_now()
    }

    /// What the worker may still do, and for how long.
    fn time(&self, cause: &Cause) -> Option<(Time<'_>, Duration)> {
        // A worker that is still arming has nothing to stop gracefully.
        let may_stop = cause.tier != Tier::None;
        match (&self.hook, self.grace) {
            (_, Some(Duration::ZERO)) => None,
            (Some(hook), grace) => Some((Time::Hook(hook), grace.unwrap_or(DEFAULT_GRACE))),
            (None, Some(grace)) if may_stop && !sys::sigterm_ends_this_process() => {
                Some((Time::GracefulStop, grace))
            }
            (None, grace) if HookMark::exists() => {
                Some((Time::HookOfAnotherCopy, grace.unwrap_or(DEFAULT_GRACE)))
            }
            (None, _) => None,
        }
    }

    fn write_line(&self, cause: &Cause) {
        let line = Line::gone(cause.pid, cause.is_named, sys::own_pid(), cause.tier);
        sys::write_to_stderr(line.as_bytes(), self.table.as_ref());
    }
}

/// What the worker may still do.
enum Time<'a> {
    Hook(&'a HookThread),
    /// Begun by a SIGTERM to this process.
    GracefulStop,
    /// Another copy of this library in this process has a hook, and ends the process when that is done.
    HookOfAnotherCopy,
}

impl Time<'_> {
    /// Returns when the time is over, or earlier when all hooks are done.
    fn spend(&self, length: Duration) {
        const LOOK: Duration = Duration::from_millis(1);
        let until = Instant::now() + length;
        match self {
            Time::Hook(hook) => hook.run(length),
            Time::GracefulStop => {
                sys::begin_graceful_stop();
                sys::nap(length);
                return;
            }
            Time::HookOfAnotherCopy => {}
        }
        while HookMark::exists() && Instant::now() < until {
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

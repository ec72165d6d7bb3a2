//! The order of dying. Nothing here may wait without a bound, panic, allocate, or take a lock that the
//! program could hold.

use std::time::Duration;

use crate::config::Scope;
use crate::hook::HookThread;
use crate::line::Line;
use crate::machine::Whose;
use crate::state::Tier;
use crate::sys;

/// Whose death it was, and how it was seen.
pub(crate) struct Cause {
    pub pid: i32,
    pub whose: Whose,
    /// `None`: it was seen while arming.
    pub tier: Tier,
}

/// How this process dies; settled when arming.
pub(crate) struct Death {
    pub scope: Scope,
    /// The leader of our process group, when it is proven to stand between supervisor and worker.
    pub group_leader: Option<i32>,
    pub hook: Option<HookThread>,
    pub grace: Duration,
}

impl Death {
    /// The line, the hook, the group, the exit.
    pub(crate) fn now(&self, cause: &Cause) -> ! {
        // Should any of it unwind, the exit still follows.
        let _exit = ExitNow;

        let seen = match cause.tier {
            Tier::None => "arming",
            Tier::Event => "event",
            Tier::Poll => "poll",
        };
        let line = Line::new(format_args!(
            "localai-parentwatch: supervisor {} is gone, worker {} exits ({seen})",
            cause.pid,
            sys::own_pid(),
        ));
        sys::write_to_stderr(line.as_bytes());

        // A group that an ancestor leads dies with the supervisor or with that leader. That some process
        // in between has died is no reason for its healthy members to go.
        let leader = self
            .group_leader
            .filter(|leader| cause.whose == Whose::Supervisor || *leader == cause.pid);
        let mut has_group = self.scope == Scope::Group;
        if let Some(hook) = &self.hook {
            // It may end the process its own way, or crash it: the helpers go all the same.
            has_group = has_group && !sys::end_group_once_gone(leader, self.grace);
            hook.run(self.grace);
        }
        if has_group {
            sys::end_group(leader);
        }
        sys::exit_now()
    }
}

struct ExitNow;

impl Drop for ExitNow {
    fn drop(&mut self) {
        sys::exit_now()
    }
}

//! The watcher: one thread that sleeps until a watched process may have ended, and asks the kernel.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::die::{Cause, Death};
use crate::state::{State, Tier};
use crate::sys::{self, Handle, SignalsBlocked, Wake};

/// One watched process.
pub(crate) struct Target {
    pub pid: i32,
    pub role: Role,
    /// `None`: it is polled.
    pub handle: Option<Handle>,
}

/// Who can say that it is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The direct parent: `getppid()` is the authority.
    Parent,
    /// The supervisor further up: its readable pidfd is, or a polled look at its number.
    Supervisor { start: Option<u64> },
}

/// What the watcher does about one target after a wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Sleep on.
    Keep,
    /// Poll this target from now on: an unconfirmed claim is never an exit, and never a wait that
    /// would return at once again.
    Poll,
    /// Die.
    Die,
}

/// The whole of the watcher's logic. A wake is a hint; the authority decides. `None` is the wake of a
/// target that is polled.
pub(crate) fn step(role: Role, wake: Option<Wake>, authority: Authority) -> Step {
    match (role, wake) {
        _ if authority.says_gone => Step::Die,
        (_, None | Some(Wake::Quiet)) => Step::Keep,
        (Role::Supervisor { .. }, Some(Wake::Readable)) if authority.handle_is_ours => Step::Die,
        (_, Some(Wake::Readable | Wake::Invalid)) => Step::Poll,
    }
}

/// What was asked of the kernel about one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Authority {
    /// `getppid()` for the parent; for a polled supervisor the look at its number.
    pub says_gone: bool,
    /// The descriptor still is the handle that was opened.
    pub handle_is_ours: bool,
}

pub(crate) struct Watch {
    pub targets: [Option<Target>; 2],
    pub interval: Duration,
    pub death: Death,
    pub state: &'static State,
}

/// Enough for a poll, a read of `/proc` and the dying path, in a debug build too. Only what is touched
/// takes memory.
const STACK: usize = 128 << 10;

impl Watch {
    pub(crate) fn tier(&self) -> Tier {
        match self
            .targets
            .iter()
            .flatten()
            .all(|target| target.handle.is_some())
        {
            true => Tier::Event,
            false => Tier::Poll,
        }
    }

    /// Must be called with all signals blocked, which the thread inherits. It is `Builder::spawn`, since
    /// `thread::spawn` panics when no thread can be had, and a raw small pthread stack does not hold a
    /// program's large static TLS.
    pub(crate) fn spawn(self, _blocked: &SignalsBlocked) -> std::io::Result<()> {
        let hook = self.death.hook.clone();
        let mut watch = self;
        let spawned = std::thread::Builder::new()
            .name("parent-watch".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                loop {
                    // There is no panic in it that we know of. If there is one, the watch goes on.
                    let _ = catch_unwind(AssertUnwindSafe(|| watch.run()));
                    sys::nap(watch.interval);
                }
            });
        match spawned {
            Ok(_detached) => Ok(()),
            Err(error) => {
                if let Some(hook) = hook {
                    hook.cancel();
                }
                Err(error)
            }
        }
    }

    fn run(&mut self) -> ! {
        loop {
            let polled = self.tier() == Tier::Poll;
            let [first, second] = &self.targets;
            let handle =
                |target: &Option<Target>| target.as_ref()?.handle.as_ref().map(Handle::raw);
            let wakes = sys::wait(
                [handle(first), handle(second)],
                polled.then_some(self.interval),
            );
            for (target, wake) in self.targets.iter_mut().zip(wakes) {
                let Some(target) = target else { continue };
                match target.look(wake) {
                    Step::Keep => {}
                    Step::Poll => target.poll_from_now_on(),
                    Step::Die => {
                        let tier = if target.handle.is_some() {
                            Tier::Event
                        } else {
                            Tier::Poll
                        };
                        self.death.now(&Cause {
                            pid: target.pid,
                            tier,
                        });
                    }
                }
            }
            self.state.set_tier(self.tier());
        }
    }
}

impl Target {
    fn look(&self, wake: Wake) -> Step {
        let wake = self.handle.as_ref().map(|_| wake);
        let mut authority = Authority::default();
        match self.role {
            Role::Parent => {
                authority.says_gone = sys::parent_is_gone(self.pid, wake == Some(Wake::Readable));
            }
            Role::Supervisor { start } if wake.is_none() => {
                authority.says_gone = sys::looks_gone(self.pid, start);
            }
            Role::Supervisor { .. } => {
                authority.handle_is_ours = wake == Some(Wake::Readable)
                    && self.handle.as_ref().is_some_and(Handle::is_ours);
            }
        }
        step(self.role, wake, authority)
    }

    fn poll_from_now_on(&mut self) {
        if let Some(handle) = self.handle.take() {
            // What the program put in its place is not ours to close.
            match handle.is_ours() {
                true => drop(handle),
                false => handle.forget(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Role = Role::Supervisor { start: Some(1) };
    const SILENT: Authority = Authority {
        says_gone: false,
        handle_is_ours: true,
    };
    const NOT_OURS: Authority = Authority {
        says_gone: false,
        handle_is_ours: false,
    };
    const GONE: Authority = Authority {
        says_gone: true,
        handle_is_ours: false,
    };

    #[test]
    fn the_authority_on_the_parent_is_never_its_handle() {
        assert_eq!(step(Role::Parent, Some(Wake::Readable), SILENT), Step::Poll);
        assert_eq!(
            step(Role::Parent, Some(Wake::Readable), NOT_OURS),
            Step::Poll
        );
        assert_eq!(step(Role::Parent, Some(Wake::Readable), GONE), Step::Die);
        assert_eq!(step(Role::Parent, Some(Wake::Quiet), GONE), Step::Die);
        assert_eq!(step(Role::Parent, None, GONE), Step::Die);
    }

    #[test]
    fn a_supervisor_further_up_is_gone_when_its_own_handle_says_so() {
        assert_eq!(step(UP, Some(Wake::Readable), SILENT), Step::Die);
        assert_eq!(step(UP, Some(Wake::Readable), NOT_OURS), Step::Poll);
        assert_eq!(step(UP, None, GONE), Step::Die);
        assert_eq!(step(UP, None, NOT_OURS), Step::Keep);
    }

    #[test]
    fn a_lost_handle_is_polled_and_a_quiet_wake_is_nothing() {
        for role in [Role::Parent, UP] {
            assert_eq!(step(role, Some(Wake::Invalid), SILENT), Step::Poll);
            assert_eq!(step(role, Some(Wake::Invalid), NOT_OURS), Step::Poll);
            assert_eq!(step(role, Some(Wake::Quiet), SILENT), Step::Keep);
            assert_eq!(step(role, None, SILENT), Step::Keep);
        }
    }
}

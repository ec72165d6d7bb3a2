//! The watcher: one thread that sleeps until a watched process may have ended, and asks the kernel.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::config::MIN_INTERVAL;
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

/// The whole of the watcher's logic. A wake is a hint; what was asked of the kernel afterwards decides. `None`
/// is the wake of a target that is polled.
pub(crate) fn step(role: Role, wake: Option<Wake>, answer: Answer) -> Step {
    match (role, wake) {
        _ if answer.is_gone => Step::Die,
        (_, None) => Step::Keep,
        (_, Some(Wake::Quiet)) if answer.handle_is_ours => Step::Keep,
        (Role::Supervisor { .. }, Some(Wake::Readable)) if answer.handle_is_ours => {
            // It may be readable for an instant while its process execs from another thread than the main
            // one; then the next wait does not return at once.
            if answer.is_still_readable { Step::Die } else { Step::Keep }
        }
        (_, Some(_)) => Step::Poll,
    }
}

/// What the kernel answered about one target after a wake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// `getppid()` for the parent; for a polled supervisor the look at its number.
    pub is_gone: bool,
    /// The descriptor still is the handle that was opened.
    pub handle_is_ours: bool,
    /// The handle says, asked once more, that its process has ended.
    pub is_still_readable: bool,
}

pub(crate) struct Watch {
    pub targets: [Option<Target>; 2],
    pub interval: Duration,
    pub death: Death,
    pub state: &'static State,
}

/// Only what is touched takes memory. glibc takes the static thread-local storage of the program and its
/// libraries from it; when that is more, std makes the stack as large as that and the least that a thread
/// needs (16 KiB), which the watcher and the dying path have to do with.
const STACK: usize = 256 << 10;

impl Watch {
    pub(crate) fn tier(&self) -> Tier {
        match self.targets.iter().flatten().all(|target| target.handle.is_some()) {
            true => Tier::Event,
            false => Tier::Poll,
        }
    }

    /// Must be called with the signals blocked, which the thread inherits. It is `Builder::spawn`, since
    /// `thread::spawn` panics when no thread can be had.
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
        let mut pause = self.interval;
        loop {
            let polled = self.tier() == Tier::Poll;
            let [first, second] = &self.targets;
            let handle =
                |target: &Option<Target>| target.as_ref()?.handle.as_ref().map(Handle::raw);
            let wakes = sys::wait([handle(first), handle(second)], polled.then_some(pause));
            pause = pause.saturating_mul(2).min(self.interval);
            // The supervisor first: when it and the wrapper are gone at once, it is the reason.
            for (target, wake) in self.targets.iter_mut().zip(wakes).rev() {
                let Some(target) = target else { continue };
                let tier = if target.handle.is_some() { Tier::Event } else { Tier::Poll };
                let mut step = target.look(wake);
                if step == Step::Poll {
                    target.poll_from_now_on();
                    // Whatever woke us: look now, and soon again. A process that is being reaped shows, for a
                    // moment, nothing that a look could tell.
                    step = target.look(Wake::Quiet);
                    pause = MIN_INTERVAL;
                }
                if step == Step::Die {
                    self.death.now(&Cause { pid: target.pid, role: target.role, tier });
                }
            }
            self.state.set_tier(self.tier());
        }
    }
}

impl Target {
    fn look(&self, wake: Wake) -> Step {
        let wake = self.handle.as_ref().map(|_| wake);
        let mut answer = Answer {
            is_gone: match self.role {
                Role::Parent => sys::parent_is_gone(self.pid, wake == Some(Wake::Readable)),
                Role::Supervisor { start } => wake.is_none() && sys::looks_gone(self.pid, start),
            },
            ..Answer::default()
        };
        if let (false, Some(handle)) = (answer.is_gone, &self.handle) {
            answer.handle_is_ours = handle.is_ours();
            answer.is_still_readable = answer.handle_is_ours && handle.is_readable();
        }
        step(self.role, wake, answer)
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

    fn answer(is_gone: bool, handle_is_ours: bool, is_still_readable: bool) -> Answer {
        Answer { is_gone, handle_is_ours, is_still_readable }
    }

    #[test]
    fn the_authority_on_the_parent_is_never_its_handle() {
        for is_still_readable in [false, true] {
            for handle_is_ours in [false, true] {
                let alive = answer(false, handle_is_ours, is_still_readable);
                assert_eq!(step(Role::Parent, Some(Wake::Readable), alive), Step::Poll);
                let gone = answer(true, handle_is_ours, is_still_readable);
                for wake in [None, Some(Wake::Quiet), Some(Wake::Readable), Some(Wake::Invalid)] {
                    assert_eq!(step(Role::Parent, wake, gone), Step::Die);
                }
            }
        }
    }

    #[test]
    fn a_supervisor_further_up_is_gone_when_its_own_handle_says_so_twice() {
        assert_eq!(step(UP, Some(Wake::Readable), answer(false, true, true)), Step::Die);
        assert_eq!(step(UP, Some(Wake::Readable), answer(false, true, false)), Step::Keep);
        assert_eq!(step(UP, Some(Wake::Readable), answer(false, false, true)), Step::Poll);
        assert_eq!(step(UP, None, answer(true, false, false)), Step::Die);
        assert_eq!(step(UP, None, answer(false, false, false)), Step::Keep);
    }

    #[test]
    fn a_handle_that_is_lost_is_polled_whatever_the_wake() {
        for role in [Role::Parent, UP] {
            assert_eq!(step(role, Some(Wake::Quiet), answer(false, true, false)), Step::Keep);
            assert_eq!(step(role, Some(Wake::Quiet), answer(false, false, false)), Step::Poll);
            assert_eq!(step(role, Some(Wake::Invalid), answer(false, true, false)), Step::Poll);
            assert_eq!(step(role, Some(Wake::Invalid), answer(false, false, false)), Step::Poll);
            assert_eq!(step(role, None, answer(false, false, false)), Step::Keep);
        }
    }
}

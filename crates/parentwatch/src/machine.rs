//! The state machines of arming and of watching. They are pure: a state is the next thing to be done, an
//! event is what came of it, and `step` is the whole of the logic between them. `arm` and `watch` do what
//! a state asks for and nothing else; the tests in `machine/explored.rs` go every way through both.
//!
//! An event that a state did not ask for changes nothing: it is asked for again.

use crate::identity::Decision;
use crate::sys::Wake;

#[cfg(test)]
mod explored;

/// What arming does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Arming {
    /// Ask who the parent is, and what can be proven of the supervisor that was named.
    Identify,
    /// Make the hook's thread, if there is to be a hook.
    MakeHook(Plan),
    /// Open a handle on the parent; the one on a supervisor further up came with its proof.
    Open,
    /// Ask for the parent once more: it may have died before its handle was open, and have left its number
    /// to another process.
    Recheck(Targets),
    /// Start the watcher's thread, which does what [`Watching::begin`] asks for.
    StartThread(Targets),
    /// Nothing: the watcher runs.
    Armed(Targets),
    /// Die of this death.
    Die(Whose),
    /// Nothing: there is nobody to watch.
    NoParent,
    /// Nothing: no thread could be had.
    Exhausted(NoThread),
}

/// What follows when the hook's thread is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Plan {
    /// Nobody was proven dead.
    Watch,
    /// The named supervisor was.
    Die,
}

/// The error number of the attempt to make a thread, 0 if it had none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NoThread(pub i32);

impl From<std::io::Error> for NoThread {
    fn from(error: std::io::Error) -> NoThread {
        NoThread(error.raw_os_error().unwrap_or(0))
    }
}

/// What came of what arming did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ArmingEvent {
    Identified {
        has_parent: bool,
        decision: Option<Decision>,
    },
    /// Also when there is no hook to make a thread for.
    HookMade(Result<(), NoThread>),
    Opened(Targets),
    Rechecked {
        parent_is_gone: bool,
    },
    ThreadStarted(Result<(), NoThread>),
}

impl Arming {
    pub(crate) fn step(self, event: ArmingEvent) -> Arming {
        match (self, event) {
            (Arming::Identify, ArmingEvent::Identified { has_parent, decision }) => {
                match decision {
                    Some(Decision::Orphaned) => Arming::MakeHook(Plan::Die),
                    // A parent that was named is one to watch, PID 1 too.
                    Some(Decision::Parent) => Arming::MakeHook(Plan::Watch),
                    _ if has_parent => Arming::MakeHook(Plan::Watch),
                    _ => Arming::NoParent,
                }
            }
            // A proven orphan dies with or without its hook.
            (Arming::MakeHook(Plan::Die), ArmingEvent::HookMade(_)) => {
                Arming::Die(Whose::Supervisor)
            }
            (Arming::MakeHook(Plan::Watch), ArmingEvent::HookMade(made)) => match made {
                Ok(()) => Arming::Open,
                Err(reason) => Arming::Exhausted(reason),
            },
            (Arming::Open, ArmingEvent::Opened(targets)) => Arming::Recheck(targets),
            (Arming::Recheck(targets), ArmingEvent::Rechecked { parent_is_gone }) => {
                match parent_is_gone {
                    true => Arming::Die(Whose::Parent),
                    false => Arming::StartThread(targets),
                }
            }
            (Arming::StartThread(targets), ArmingEvent::ThreadStarted(started)) => match started {
                Ok(()) => Arming::Armed(targets),
                Err(reason) => Arming::Exhausted(reason),
            },
            (asked_again, _) => asked_again,
        }
    }
}

/// How each of the two is watched; not at all, where there is no supervisor further up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Targets {
    pub parent: By,
    pub supervisor: Option<By>,
}

/// What tells of a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum By {
    /// An event handle, which wakes the watcher.
    Handle,
    /// A look at every interval.
    Looks,
}

/// One of the two processes that can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Whose {
    /// The direct parent's: `getppid()` is the authority.
    Parent,
    /// The supervisor's further up: its readable pidfd is, or a polled look at its number.
    Supervisor,
}

/// What the watcher does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Watching {
    /// Sleep until a handle is ready, or, if somebody is polled, for a time: the interval, or a short one.
    Sleep { targets: Targets, soon: bool },
    /// Ask the kernel about this target.
    Look { targets: Targets, at: Whose, woke: Woke, soon: bool },
    /// Give up the handle of this target, which is polled from now on.
    LetGo { targets: Targets, at: Whose, woke: Woke },
    /// Die of this death.
    Die { of: Whose, seen: By },
}

/// What a sleep told of each handle. It is a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Woke {
    pub parent: Wake,
    pub supervisor: Wake,
}

/// What came of what the watcher did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum WatchingEvent {
    Woke(Woke),
    Looked(Answer),
    HasLetGo,
}

/// What the kernel answered about one target after a wake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Answer {
    /// `getppid()` for the parent; for a polled supervisor the look at its number.
    pub is_gone: bool,
    /// The descriptor still is the handle that was opened.
    pub handle_is_ours: bool,
    /// The handle says, asked once more, that its process has ended.
    pub is_still_readable: bool,
}

impl Watching {
    /// What a watcher does first.
    pub(crate) fn begin(targets: Targets) -> Watching {
        Watching::Sleep { targets, soon: false }
    }

    pub(crate) fn step(self, event: WatchingEvent) -> Watching {
        match (self, event) {
            // The supervisor first: when it and the wrapper are gone at once, it is the reason.
            (Watching::Sleep { targets, .. }, WatchingEvent::Woke(woke)) => {
                let at = targets.supervisor.map_or(Whose::Parent, |_| Whose::Supervisor);
                Watching::Look { targets, at, woke, soon: false }
            }
            (Watching::Look { targets, at, woke, soon }, WatchingEvent::Looked(answer)) => {
                let seen = targets.by(at);
                match judge(at, (seen == By::Handle).then(|| woke.of(at)), answer) {
                    Verdict::Dead => Watching::Die { of: at, seen },
                    Verdict::HandleLost => Watching::LetGo { targets, at, woke },
                    Verdict::Alive if at == Whose::Supervisor => {
                        Watching::Look { targets, at: Whose::Parent, woke, soon }
                    }
                    Verdict::Alive => Watching::Sleep { targets, soon },
                }
            }
            // Whatever woke us: look now, and soon again. A process that is being reaped shows, for a
            // moment, nothing that a look could tell.
            (Watching::LetGo { targets, at, woke }, WatchingEvent::HasLetGo) => {
                Watching::Look { targets: targets.polled(at), at, woke, soon: true }
            }
            (asked_again, _) => asked_again,
        }
    }
}

impl Woke {
    pub(crate) fn of(&self, whose: Whose) -> Wake {
        match whose {
            Whose::Parent => self.parent,
            Whose::Supervisor => self.supervisor,
        }
    }
}

impl Targets {
    pub(crate) fn by(&self, whose: Whose) -> By {
        match whose {
            Whose::Parent => self.parent,
            Whose::Supervisor => self.supervisor.unwrap_or(By::Looks),
        }
    }

    fn polled(self, whose: Whose) -> Targets {
        match whose {
            Whose::Parent => Targets { parent: By::Looks, ..self },
            Whose::Supervisor => Targets { supervisor: Some(By::Looks), ..self },
        }
    }

    /// Whether somebody is polled, so that a sleep must end by itself.
    pub(crate) fn is_any_polled(&self) -> bool {
        self.parent == By::Looks || self.supervisor == Some(By::Looks)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Alive,
    /// An unconfirmed claim is never an exit, and never a wait that would return at once again.
    HandleLost,
    Dead,
}

/// A wake is a hint; what was asked of the kernel afterwards decides. `None` is the wake of a target that
/// is polled.
fn judge(whose: Whose, wake: Option<Wake>, answer: Answer) -> Verdict {
    match (whose, wake) {
        _ if answer.is_gone => Verdict::Dead,
        (_, None) => Verdict::Alive,
        (_, Some(Wake::Quiet)) if answer.handle_is_ours => Verdict::Alive,
        (Whose::Supervisor, Some(Wake::Readable)) if answer.handle_is_ours => {
            // It may be readable for an instant while its process execs from another thread than the main
            // one; then the next wait does not return at once.
            if answer.is_still_readable { Verdict::Dead } else { Verdict::Alive }
        }
        (_, Some(_)) => Verdict::HandleLost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(is_gone: bool, handle_is_ours: bool, is_still_readable: bool) -> Answer {
        Answer { is_gone, handle_is_ours, is_still_readable }
    }

    #[test]
    fn the_authority_on_the_parent_is_never_its_handle() {
        for is_still_readable in [false, true] {
            for handle_is_ours in [false, true] {
                let alive = answer(false, handle_is_ours, is_still_readable);
                // Also when it is not readable any more: where the question took the event (macOS), nothing
                // would ever wake us again.
                assert_eq!(judge(Whose::Parent, Some(Wake::Readable), alive), Verdict::HandleLost);
                let gone = answer(true, handle_is_ours, is_still_readable);
                for wake in [None, Some(Wake::Quiet), Some(Wake::Readable), Some(Wake::Invalid)] {
                    assert_eq!(judge(Whose::Parent, wake, gone), Verdict::Dead);
                }
            }
        }
    }

    #[test]
    fn a_supervisor_further_up_is_gone_when_its_own_handle_says_so_twice() {
        let judged = |wake, answer| judge(Whose::Supervisor, wake, answer);
        assert_eq!(judged(Some(Wake::Readable), answer(false, true, true)), Verdict::Dead);
        assert_eq!(judged(Some(Wake::Readable), answer(false, true, false)), Verdict::Alive);
        assert_eq!(judged(Some(Wake::Readable), answer(false, false, true)), Verdict::HandleLost);
        assert_eq!(judged(None, answer(true, false, false)), Verdict::Dead);
        assert_eq!(judged(None, answer(false, false, false)), Verdict::Alive);
    }

    #[test]
    fn a_handle_that_is_lost_is_polled_whatever_the_wake() {
        let alive = answer(false, true, false);
        let lost = answer(false, false, false);
        for whose in [Whose::Parent, Whose::Supervisor] {
            assert_eq!(judge(whose, Some(Wake::Quiet), alive), Verdict::Alive);
            assert_eq!(judge(whose, Some(Wake::Quiet), lost), Verdict::HandleLost);
            assert_eq!(judge(whose, Some(Wake::Invalid), alive), Verdict::HandleLost);
            assert_eq!(judge(whose, Some(Wake::Invalid), lost), Verdict::HandleLost);
            assert_eq!(judge(whose, None, lost), Verdict::Alive);
        }
    }

    #[test]
    fn without_a_parent_only_a_supervisor_that_was_named_matters() {
        let identified = |has_parent, decision| {
            Arming::Identify.step(ArmingEvent::Identified { has_parent, decision })
        };
        let unproven = Some(Decision::Unproven("a test"));
        for has_parent in [false, true] {
            assert_eq!(
                identified(has_parent, Some(Decision::Parent)),
                Arming::MakeHook(Plan::Watch),
                "PID 1 too, when it was named"
            );
            assert_eq!(
                identified(has_parent, Some(Decision::Orphaned)),
                Arming::MakeHook(Plan::Die)
            );
        }
        for decision in [None, unproven, Some(Decision::ParentAndSupervisor)] {
            assert_eq!(identified(true, decision), Arming::MakeHook(Plan::Watch));
            assert_eq!(identified(false, decision), Arming::NoParent);
        }
    }

    #[test]
    fn an_event_that_was_not_asked_for_changes_nothing() {
        let targets = Targets { parent: By::Handle, supervisor: None };
        for state in [Arming::Identify, Arming::Recheck(targets), Arming::Armed(targets)] {
            let stray = ArmingEvent::ThreadStarted(Ok(()));
            assert_eq!(state.step(stray), state);
        }
        let asleep = Watching::begin(targets);
        assert_eq!(asleep.step(WatchingEvent::HasLetGo), asleep);
        assert_eq!(asleep.step(WatchingEvent::Looked(answer(true, true, true))), asleep);
    }
}

//! The watcher: one thread that sleeps until a watched process may have ended, and asks the kernel.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::config::MIN_INTERVAL;
use crate::die::{Cause, Death};
use crate::machine::{Answer, By, Targets, Watching, WatchingEvent, Whose, Woke};
use crate::state::{State, Tier};
use crate::sys::{self, Handle, SignalsBlocked, Wake};

/// One watched process.
pub(crate) struct Target {
    pub pid: i32,
    /// `None`: it is polled.
    pub handle: Option<Handle>,
}

pub(crate) struct Watch {
    pub parent: Target,
    /// Further up, where there is one to be watched.
    pub supervisor: Option<Target>,
    /// When the supervisor started, by which a polled look tells it from another process with its number.
    pub supervisor_start: Option<u64>,
    pub interval: Duration,
    pub death: Death,
    pub state: &'static State,
}

/// Only what is touched takes memory. glibc takes the static thread-local storage of the program and its
/// libraries from it; when that is more, std makes the stack as large as that and the least that a thread
/// needs (16 KiB), which the watcher and the dying path have to do with.
const STACK: usize = 256 << 10;

impl Watch {
    pub(crate) fn targets(&self) -> Targets {
        Targets {
            parent: self.parent.is_watched_by(),
            supervisor: self.supervisor.as_ref().map(Target::is_watched_by),
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

    /// Does what the state machine asks for.
    fn run(&mut self) -> ! {
        let mut pause = self.interval;
        let mut state = Watching::begin(self.targets());
        loop {
            state = state.step(match state {
                Watching::Sleep { targets, soon } => {
                    self.state.set_tier(Tier::of(targets));
                    if soon {
                        pause = MIN_INTERVAL;
                    }
                    let handles = [self.handle(Whose::Parent), self.handle(Whose::Supervisor)];
                    let [parent, supervisor] = sys::wait(
                        handles.map(|handle| handle.map(Handle::raw)),
                        targets.is_any_polled().then_some(pause),
                    );
                    pause = pause.saturating_mul(2).min(self.interval);
                    WatchingEvent::Woke(Woke { parent, supervisor })
                }
                Watching::Look { at, woke, .. } => {
                    WatchingEvent::Looked(self.look(at, woke.of(at)))
                }
                Watching::LetGo { at, .. } => {
                    self.let_go(at);
                    WatchingEvent::HasLetGo
                }
                Watching::Die { of, seen } => self.death.now(&self.cause(of, Tier::by(seen))),
            });
        }
    }

    fn handle(&self, whose: Whose) -> Option<&Handle> {
        match whose {
            Whose::Parent => self.parent.handle.as_ref(),
            Whose::Supervisor => self.supervisor.as_ref()?.handle.as_ref(),
        }
    }

    fn look(&self, at: Whose, woke: Wake) -> Answer {
        let handle = self.handle(at);
        let is_gone = match (at, &self.supervisor) {
            (Whose::Supervisor, Some(supervisor)) => {
                handle.is_none() && sys::looks_gone(supervisor.pid, self.supervisor_start)
            }
            _ => {
                let fired = handle.is_some() && woke == Wake::Readable;
                sys::parent_is_gone(self.parent.pid, fired)
            }
        };
        let handle_is_ours = !is_gone && handle.is_some_and(Handle::is_ours);
        let is_still_readable = handle_is_ours && handle.is_some_and(Handle::is_readable);
        Answer { is_gone, handle_is_ours, is_still_readable }
    }

    fn let_go(&mut self, whose: Whose) {
        let target = match whose {
            Whose::Parent => Some(&mut self.parent),
            Whose::Supervisor => self.supervisor.as_mut(),
        };
        if let Some(handle) = target.and_then(|target| target.handle.take()) {
            // What the program put in its place is not ours to close.
            match handle.is_ours() {
                true => drop(handle),
                false => handle.forget(),
            }
        }
    }

    pub(crate) fn cause(&self, of: Whose, tier: Tier) -> Cause {
        let of_supervisor = self.supervisor.as_ref().filter(|_| of == Whose::Supervisor);
        Cause { pid: of_supervisor.unwrap_or(&self.parent).pid, whose: of, tier }
    }
}

impl Target {
    fn is_watched_by(&self) -> By {
        match self.handle {
            Some(_) => By::Handle,
            None => By::Looks,
        }
    }
}

//! Watching: sleep until a watched process may have ended, and ask the kernel. A wake is a hint; the kernel's answer
//! decides.
//!
//! The functions are generic over the [`Kernel`], so that the tests in `watch/explored.rs` go every way through them.

use std::time::{Duration, Instant};

use crate::config::MIN_INTERVAL;
use crate::state::Tier;
use crate::sys::{self, Handle, OwnTable};

#[cfg(test)]
mod explored;

/// What the watch asks of the operating system.
pub(crate) trait Kernel {
    /// What wakes a wait when a process has ended.
    type Handle: Copy;
    fn open(&mut self, pid: i32) -> Option<Self::Handle>;
    /// The authority on the direct parent. `fired`: its handle says that it has ended.
    fn parent_is_gone(&mut self, pid: i32, fired: bool) -> bool;
    /// The authority on a supervisor further up.
    fn has_ended(&mut self, handle: Self::Handle) -> bool;
    /// The same where there is no handle. A look that fails says nothing.
    fn looks_gone(&mut self, pid: i32, start: Option<u64>) -> bool;
    /// Which of the handles are ready; `None` when the wait failed.
    fn wait(
        &mut self,
        handles: [Option<Self::Handle>; 2],
        timeout: Option<Duration>,
    ) -> Option<[bool; 2]>;
    fn now(&mut self) -> Instant;
}

/// The kernel that this thread runs on.
pub(crate) struct ThisKernel<'a>(pub Option<&'a OwnTable>);

impl Kernel for ThisKernel<'_> {
    type Handle = Handle;

    fn open(&mut self, pid: i32) -> Option<Handle> {
        Handle::open_in(self.0, pid).ok()
    }

    fn parent_is_gone(&mut self, pid: i32, fired: bool) -> bool {
        sys::parent_is_gone(pid, fired)
    }

    fn has_ended(&mut self, handle: Handle) -> bool {
        handle.has_ended()
    }

    fn looks_gone(&mut self, pid: i32, start: Option<u64>) -> bool {
        sys::looks_gone(pid, start)
    }

    fn wait(
        &mut self,
        handles: [Option<Handle>; 2],
        timeout: Option<Duration>,
    ) -> Option<[bool; 2]> {
        sys::wait(handles, timeout)
    }

    fn now(&mut self) -> Instant {
        Instant::now()
    }
}

/// One watched process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<H> {
    pub pid: i32,
    /// By which a polled look tells it from another process with its number.
    pub start: Option<u64>,
    /// `None`: it is polled.
    pub handle: Option<H>,
}

impl<H> Target<H> {
    fn tier(&self) -> Tier {
        if self.handle.is_some() { Tier::Event } else { Tier::Poll }
    }
}

/// One of the two processes that can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Parent,
    /// A supervisor that is not the parent.
    Supervisor,
}

/// A death, and how it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    pub whose: Whose,
    pub pid: i32,
    /// `None`: while arming.
    pub tier: Tier,
}

/// Whom to watch. Nobody: there is nothing to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched<H> {
    pub parent: Option<Target<H>>,
    pub supervisor: Option<Target<H>>,
}

impl<H: Copy> Watched<H> {
    /// Opens the parent's handle, then asks for the parent once more: it may have died before its handle was
    /// open, and have left its number to another process.
    pub(crate) fn begin(&mut self, kernel: &mut impl Kernel<Handle = H>) -> Result<(), Gone> {
        let Some(parent) = &mut self.parent else { return Ok(()) };
        parent.handle = kernel.open(parent.pid);
        match kernel.parent_is_gone(parent.pid, false) {
            true => Err(Gone { whose: Whose::Parent, pid: parent.pid, tier: Tier::None }),
            false => Ok(()),
        }
    }

    pub(crate) fn tier(&self) -> Tier {
        match self.targets().any(|target| target.handle.is_none()) {
            true => Tier::Poll,
            false => Tier::Event,
        }
    }

    fn targets(&self) -> impl Iterator<Item = &Target<H>> {
        self.parent.iter().chain(&self.supervisor)
    }

    /// Returns when the worker is to die. When the parent dies while the supervisor lives, the wrapper between them
    /// has ended, perhaps because the whole group is being stopped: the worker has `grace` to end by itself.
    pub(crate) fn until_death(
        &mut self,
        kernel: &mut impl Kernel<Handle = H>,
        interval: Duration,
        grace: Duration,
        tell: impl Fn(Tier),
    ) -> Gone {
        let mut pause = interval;
        let mut wrapper: Option<(Gone, Instant)> = None;
        loop {
            let tier = self.tier();
            tell(tier);
            let poll = (tier == Tier::Poll).then_some(pause);
            let until = wrapper.map(|(_, until)| until.saturating_duration_since(kernel.now()));
            let timeout = poll.into_iter().chain(until).min();
            let handle = |target: &Option<Target<H>>| target.as_ref().and_then(|it| it.handle);
            let handles = [handle(&self.parent), handle(&self.supervisor)];
            // After a wait that failed every handle is in doubt.
            let fired = kernel.wait(handles, timeout).unwrap_or([true; 2]);
            pause = pause.saturating_mul(2).min(interval);

            let is_wrapped = self.supervisor.is_some();
            // The supervisor first: when it and the wrapper are gone at once, it is the reason.
            for (whose, fired) in [(Whose::Supervisor, fired[1]), (Whose::Parent, fired[0])] {
                let slot = match whose {
                    Whose::Parent => &mut self.parent,
                    Whose::Supervisor => &mut self.supervisor,
                };
                let Some(target) = slot else { continue };
                let fired = fired && target.handle.is_some();
                let is_gone = match (whose, target.handle) {
                    (Whose::Parent, _) => kernel.parent_is_gone(target.pid, fired),
                    (Whose::Supervisor, Some(handle)) => fired && kernel.has_ended(handle),
                    (Whose::Supervisor, None) => kernel.looks_gone(target.pid, target.start),
                };
                let gone = Gone { whose, pid: target.pid, tier: target.tier() };
                if is_gone && whose == Whose::Parent && is_wrapped {
                    wrapper = Some((gone, kernel.now() + grace));
                    *slot = None;
                } else if is_gone {
                    return gone;
                } else if fired {
                    // Nothing confirms it: that target is polled from now on, soon at first. Waiting for its
                    // handle again could return at once.
                    target.handle = None;
                    pause = MIN_INTERVAL;
                }
            }
            if let Some((gone, until)) = wrapper
                && kernel.now() >= until
            {
                return gone;
            }
        }
    }
}

//! Watching: sleep until a watched process may have ended, then ask the kernel. A wake-up is only a hint; the kernel's
//! answer decides.
//!
//! The functions are generic over [`Kernel`], so that the tests in `watch/explored.rs` can explore every path.

use std::time::{Duration, Instant};

use crate::config::MIN_INTERVAL;
use crate::state::Tier;
use crate::sys::{self, Handle, OwnTable};

#[cfg(test)]
mod explored;

/// What the watch needs from the operating system.
pub(crate) trait Kernel {
    /// Wakes a wait when its process has ended.
    type Handle: Copy;
    fn open(&mut self, pid: i32) -> Option<Self::Handle>;
    /// Decides whether the parent is gone. `fired`: its handle says so.
    fn parent_is_gone(&mut self, pid: i32, fired: bool) -> bool;
    /// Decides whether a supervisor that is not the parent has ended.
    fn has_ended(&mut self, handle: Self::Handle) -> bool;
    /// The same without a handle. False if the process cannot be examined.
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
    /// The start time, which tells a polled process from a later one with the same process id.
    pub start: Option<u64>,
    /// `None`: the process is polled.
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

/// A death, and how it was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    pub whose: Whose,
    pub pid: i32,
    /// [`Tier::None`] while arming.
    pub tier: Tier,
}

/// The watched processes. Without any, there is nothing to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched<H> {
    pub parent: Option<Target<H>>,
    pub supervisor: Option<Target<H>>,
}

impl<H: Copy> Watched<H> {
    /// Opens the parent's handle, then checks the parent again: it may have died before the handle was opened, and its
    /// process id may have been reused.
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

    /// Returns when the worker must die.
    ///
    /// If the parent dies and the supervisor lives, the parent was a wrapper between the two. Perhaps the whole group
    /// is being stopped, so the worker first has `grace` to exit by itself.
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
            // If the wait failed, check every handle.
            let fired = kernel.wait(handles, timeout).unwrap_or([true; 2]);
            pause = pause.saturating_mul(2).min(interval);

            let is_wrapped = self.supervisor.is_some();
            // The supervisor first: if it and the wrapper die together, the supervisor is the reason.
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
                    // The death is not confirmed. Waiting for this handle again could return at once, so poll this
                    // process from now on, with a short interval at first.
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

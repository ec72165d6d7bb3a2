//! Empty stand-ins for POSIX, on systems without signals and fork.

pub(crate) struct SignalsBlocked;

impl SignalsBlocked {
    pub(crate) fn all() -> SignalsBlocked {
        SignalsBlocked
    }
}

pub(crate) struct CancellationDisabled;

impl CancellationDisabled {
    pub(crate) fn here() -> CancellationDisabled {
        CancellationDisabled
    }
}

pub(crate) fn begin_graceful_stop() {}

/// Always true: no signal can begin a graceful stop here, so the worker gets no time for one.
pub(crate) fn sigterm_ends_this_process() -> bool {
    true
}

/// Always 0: there are no process groups.
pub(crate) fn process_group() -> i32 {
    0
}

/// Always `None`: without fork a static does the same.
pub(crate) fn page_wiped_on_fork(_size: usize) -> Option<*mut u8> {
    None
}

pub(crate) fn release_page(_page: *mut u8, _size: usize) {}

/// There are no PID namespaces. All processes count as being in this one.
pub(crate) const INITIAL_PID_NAMESPACE: u64 = 0;

/// A type without a value: there is no reaper here.
pub(crate) struct NoReaper(std::convert::Infallible);

impl NoReaper {
    pub(crate) fn kill(self) {
        match self.0 {}
    }
}

//! What there is of POSIX on systems that have neither signals nor fork: nothing.

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

/// Nothing begins a graceful stop: the worker has no time for one.
pub(crate) fn sigterm_ends_this_process() -> bool {
    true
}

/// Nobody is in a group.
pub(crate) fn process_group() -> i32 {
    0
}

/// Nobody forks: a static will do.
pub(crate) fn page_wiped_on_fork(_size: usize) -> Option<*mut u8> {
    None
}

pub(crate) fn release_page(_page: *mut u8, _size: usize) {}

/// There are no PID namespaces, and every process is in the same one.
pub(crate) const INITIAL_PID_NAMESPACE: u64 = 0;

/// There is none.
pub(crate) struct NoReaper(std::convert::Infallible);

impl NoReaper {
    pub(crate) fn kill(self) {
        match self.0 {}
    }
}

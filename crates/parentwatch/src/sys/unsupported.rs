//! Systems that this library compiles for and does nothing on: starting answers `unsupported`.

use std::convert::Infallible;
use std::time::Duration;

use super::{OpenError, Stat, Wake};

pub(crate) const SUPPORTED: bool = false;

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

/// There is none.
pub(crate) struct Handle(Infallible);

impl Handle {
    pub(crate) fn open(_pid: i32) -> Result<Handle, OpenError> {
        Err(OpenError::Unavailable)
    }

    pub(crate) fn raw(&self) -> i32 {
        match self.0 {}
    }

    pub(crate) fn is_readable(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn is_ours(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn forget(self) {
        match self.0 {}
    }
}

pub(crate) fn wait(_handles: [Option<i32>; 2], timeout: Option<Duration>) -> [Wake; 2] {
    std::thread::sleep(timeout.unwrap_or(Duration::MAX));
    [Wake::Quiet; 2]
}

pub(crate) fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(i32::MAX)
}

pub(crate) fn parent_pid() -> i32 {
    0
}

pub(crate) fn process_group() -> i32 {
    0
}

pub(crate) fn parent_is_gone(_pid: i32, _fired: bool) -> bool {
    false
}

pub(crate) fn looks_gone(_pid: i32, _start: Option<u64>) -> bool {
    false
}

pub(crate) fn is_absent(_pid: i32) -> bool {
    false
}

pub(crate) fn stat(_pid: i32) -> Option<Stat> {
    None
}

pub(crate) fn own_start_time() -> Option<u64> {
    None
}

pub(crate) fn pid_namespace() -> Option<u64> {
    None
}

pub(crate) fn clock_is_initial() -> bool {
    false
}

pub(crate) fn procfs_is_ours() -> bool {
    false
}

pub(crate) fn page_wiped_on_fork(_size: usize) -> Option<*mut u8> {
    None
}

pub(crate) fn release_page(_page: *mut u8, _size: usize) {}

pub(crate) fn write_to_stderr(_line: &[u8]) {}

pub(crate) fn end_group(_leader: Option<i32>) {}

pub(crate) fn end_group_once_gone(_leader: Option<i32>, _patience: Duration) -> bool {
    false
}

pub(crate) fn exit_now() -> ! {
    std::process::exit(1)
}

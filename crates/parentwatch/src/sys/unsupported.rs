//! Unsupported systems. The library compiles here, but starting only returns `unsupported`.

use std::convert::Infallible;
use std::ffi::CStr;
use std::time::Duration;

pub(crate) use super::not_posix::*;
use super::{OpenError, OwnTable, Stat};

pub(crate) const SUPPORTED: bool = false;

/// A type without a value: no handle can be opened here.
#[derive(Clone, Copy)]
pub(crate) struct Handle(Infallible);

impl Handle {
    pub(crate) fn open_in(_: Option<&OwnTable>, _pid: i32) -> Result<Handle, OpenError> {
        Err(OpenError::Unavailable)
    }

    pub(crate) fn has_ended(self) -> bool {
        match self.0 {}
    }
}

pub(crate) fn wait(_handles: [Option<Handle>; 2], timeout: Option<Duration>) -> Option<[bool; 2]> {
    std::thread::sleep(timeout.unwrap_or(Duration::MAX));
    Some([false; 2])
}

pub(crate) fn spawn_thread(
    _name: &'static CStr,
    _stack: usize,
    _blocked: &SignalsBlocked,
    _body: impl FnOnce() + Send + 'static,
) -> Result<(), i32> {
    Err(0)
}

pub(crate) fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(i32::MAX)
}

pub(crate) fn parent_pid() -> i32 {
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

pub(crate) fn write_to_stderr(_line: &[u8], _table: Option<&OwnTable>) {}

pub(crate) fn exec(_: &[&CStr], _: Option<&[&CStr]>) -> std::io::Error {
    std::io::ErrorKind::Unsupported.into()
}

pub(crate) fn exit_now() -> ! {
    std::process::exit(1)
}

/// Descendants cannot be found here.
pub(crate) const HAS_TREE: bool = false;

/// There are no helpers to end: no worker is ever armed here.
pub(crate) struct Helpers;

impl Helpers {
    pub(crate) fn of(
        _group: Option<i32>,
        _has_tree: bool,
        _grace: Option<Duration>,
        _has_own_table: bool,
    ) -> Helpers {
        Helpers
    }

    pub(crate) fn reap_once_gone(&mut self, _patience: Duration) -> Option<NoReaper> {
        None
    }

    pub(crate) fn end(&mut self) {}
}

//! The calls to the operating system. Each system has one module, and all modules have the same functions.
//!
//! All `unsafe` code of this crate is below this module, except for C callbacks.

use std::ffi::CStr;
use std::time::Duration;

#[cfg(any(target_os = "linux", target_os = "macos"))]
mod posix;

// With `--cfg parentwatch_macos_shim`, for tests only, the macOS module runs on Linux. See macos/shim.rs.
#[cfg(target_os = "linux")]
#[cfg_attr(parentwatch_macos_shim, allow(dead_code, unused_imports))]
mod linux;
#[cfg(all(target_os = "linux", not(parentwatch_macos_shim)))]
pub(crate) use linux::*;

#[cfg(any(target_os = "macos", parentwatch_macos_shim))]
mod macos;
#[cfg(any(target_os = "macos", parentwatch_macos_shim))]
pub(crate) use macos::*;

#[cfg(windows)]
mod windows;
#[cfg(windows)]
pub(crate) use windows::*;

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
mod unsupported;
#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
pub(crate) use unsupported::*;

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
mod not_posix;

#[cfg(any(not(target_os = "linux"), parentwatch_macos_shim))]
mod other;
#[cfg(any(not(target_os = "linux"), parentwatch_macos_shim))]
pub(crate) use other::*;

/// Whether an orphaned process gets a new parent, one of its ancestors. On Windows it keeps the process id of its dead
/// parent.
pub(crate) const HAS_ADOPTERS: bool = cfg!(not(windows));

/// The name of the watcher's thread. The reaper inherits it. By this name a walk over the helpers recognises a reaper,
/// even that of another copy of this library.
pub(crate) const WATCHER_NAME: &CStr = c"parent-watch";
/// The name of the hook's thread.
pub(crate) const HOOK_NAME: &CStr = c"parent-hook";

/// Why no handle on a process could be opened.
#[cfg_attr(not(any(target_os = "linux", target_os = "macos", windows)), allow(dead_code))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// No process has that id.
    Gone,
    /// The system refused: an old kernel, a seccomp filter, or no descriptor left.
    Unavailable,
}

/// What the system reports about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub parent: i32,
    /// When it started. The unit differs by system; within one boot the values of all processes can be compared.
    pub start: u64,
    /// One letter, as ps(1) prints it.
    pub state: u8,
    pub threads: u64,
    /// Its main thread is exiting (`PF_EXITING`) or has exited.
    pub is_exiting: bool,
    pub group: i32,
    /// It is a reaper: it has the name of the watcher's thread.
    pub is_reaper: bool,
}

impl Stat {
    /// Whether the process is dead and no thread of it runs. A live process whose main thread has exited is in state Z
    /// too, but it has other threads.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads == 1
    }
}

/// Sleeps once, for about that long. A signal may end the sleep early.
pub(crate) fn nap(time: Duration) {
    wait([None, None], Some(time));
}

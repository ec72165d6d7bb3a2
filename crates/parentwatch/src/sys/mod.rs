//! The edge to the operating system: one module per system, the same few functions.
//!
//! Everything `unsafe` of this crate that is not a C callback is below this module.

use std::ffi::CStr;
use std::time::Duration;

#[cfg(any(target_os = "linux", target_os = "macos"))]
mod posix;

// With `--cfg parentwatch_macos_shim`, for tests alone, macOS's module runs on Linux: see macos/shim.rs.
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

/// A process whose parent has ended gets another one, an ancestor of that. On Windows it keeps the number of the one that
/// has ended.
pub(crate) const HAS_ADOPTERS: bool = cfg!(not(windows));

/// The name of the watcher's thread. The reaper inherits it, so that a walk over the helpers knows a reaper,
/// also one of another copy of this library.
pub(crate) const WATCHER_NAME: &CStr = c"parent-watch";
/// The name of the hook's thread, by which another copy of this library sees that there is a hook.
pub(crate) const HOOK_NAME: &CStr = c"parent-hook";

/// Why there is no handle on a process.
#[cfg_attr(not(any(target_os = "linux", target_os = "macos", windows)), allow(dead_code))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// No process has the number.
    Gone,
    /// It cannot be had here or now: an old kernel, a seccomp filter, no descriptor left.
    Unavailable,
}

/// What the system tells of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub parent: i32,
    /// In units that mean the same for every process of a boot.
    pub start: u64,
    /// One letter, as ps(1) prints it.
    pub state: u8,
    pub threads: u64,
    /// Its main thread has begun to end (`PF_EXITING`), or has ended.
    pub is_exiting: bool,
    pub group: i32,
    /// It has the name of the watcher's thread: it is a reaper.
    pub is_reaper: bool,
}

impl Stat {
    /// Dead, with nothing of it running. A live process whose main thread has exited shows the state Z as
    /// well, but has other threads.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads == 1
    }
}

/// Sleeps once, for about that long; a signal may end it early.
pub(crate) fn nap(time: Duration) {
    wait([None, None], Some(time));
}

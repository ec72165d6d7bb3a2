//! The edge to the operating system: one module per system, the same few functions.
//!
//! Everything `unsafe` of this crate that is not a C callback is below this module.

use std::time::Duration;

#[cfg(any(target_os = "linux", target_os = "macos"))]
mod posix;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
pub(crate) use macos::*;

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
mod unsupported;
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(crate) use unsupported::*;

/// The inode of the PID namespace that the system booted with: `PROC_PID_INIT_INO` of the kernel's
/// `include/linux/proc_ns.h` (part of its interface since 3.8: CRIU and systemd rest on it).
pub(crate) const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Why there is no handle on a process.
#[cfg_attr(not(any(target_os = "linux", target_os = "macos")), allow(dead_code))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// No process has the number.
    Gone,
    /// It cannot be had here or now: an old kernel, a seccomp filter, no descriptor left.
    Unavailable,
}

/// What a wait tells of one handle. It is a hint.
#[cfg_attr(not(any(target_os = "linux", target_os = "macos")), allow(dead_code))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wake {
    /// Nothing, or no handle was given.
    Quiet,
    /// The handle says that its process has ended.
    Readable,
    /// The descriptor is not open, or cannot be waited for.
    Invalid,
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

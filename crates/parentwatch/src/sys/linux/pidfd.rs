//! A process by its identity: a pidfd (pidfd_open(2), Linux 5.3). It becomes readable when its process, with
//! all of its threads, has ended.

use std::ptr;
use std::time::Duration;

use super::super::OpenError;
use super::{OwnTable, errno, wait};

/// A pidfd: a number, which its holder closes, or leaves to the end of the process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pidfd(i32);

/// The event handle.
pub(crate) type Handle = Pidfd;

/// Linux 6.9: the signal goes to the process group that the pidfd's process leads, or led.
const PIDFD_SIGNAL_PROCESS_GROUP: u32 = 1 << 2;

impl Pidfd {
    /// A handle to wait for, in the watcher's own table: nobody else can close it or put something over it.
    pub(crate) fn open_in(table: Option<&OwnTable>, pid: i32) -> Result<Pidfd, OpenError> {
        match table {
            Some(_) if !cfg!(parentwatch_force_poll) => Pidfd::open(pid),
            _ => Err(OpenError::Unavailable),
        }
    }

    pub(crate) fn open(pid: i32) -> Result<Pidfd, OpenError> {
        // SAFETY: a system call of two integers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        match i32::try_from(fd) {
            Ok(fd) if fd >= 0 => Ok(Pidfd(fd)),
            _ if errno() == libc::ESRCH => Err(OpenError::Gone),
            _ => Err(OpenError::Unavailable),
        }
    }

    pub(crate) fn raw(self) -> i32 {
        self.0
    }

    pub(crate) fn close(self) {
        // SAFETY: the holder uses it no more.
        unsafe { libc::syscall(libc::SYS_close, self.0) };
    }

    /// Returns when it is readable, or the time is over.
    pub(crate) fn wait(self, patience: Duration) {
        wait([Some(self), None], Some(patience));
    }

    /// Whether it is readable now.
    pub(crate) fn is_readable(self) -> bool {
        wait([Some(self), None], Some(Duration::ZERO)) == Some([true, false])
    }

    /// Whether its process has ended. Asked twice: while a process execs from another thread than the main one,
    /// its pidfd may be readable for an instant (Linux 6.15).
    pub(crate) fn has_ended(self) -> bool {
        self.is_readable() && self.is_readable()
    }

    /// Signals the process; the error number, or 0.
    pub(crate) fn signal(self, signal: i32) -> i32 {
        self.send(signal, 0)
    }

    /// Signals the process group that the process leads, or led; the error number, or 0. Linux 6.9, before: EINVAL.
    pub(crate) fn signal_group(self, signal: i32) -> i32 {
        self.send(signal, PIDFD_SIGNAL_PROCESS_GROUP)
    }

    fn send(self, signal: i32, flags: u32) -> i32 {
        let no_information = ptr::null::<libc::siginfo_t>();
        // SAFETY: a system call of integers; no signal information is given.
        let sent = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.0, signal, no_information, flags)
        };
        if sent == 0 { 0 } else { errno() }
    }
}

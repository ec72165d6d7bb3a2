//! Pidfds (pidfd_open(2), Linux 5.3). A pidfd identifies a process even when its process id is reused. It becomes
//! readable when all threads of the process have ended.

use std::ptr;
use std::time::Duration;

use super::super::OpenError;
use super::{OwnTable, errno, wait};

/// A pidfd. It is not closed when dropped: its holder closes it, or leaves it open until the process ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pidfd(i32);

/// What the watcher waits for.
pub(crate) type Handle = Pidfd;

/// Send the signal to the process group that the pidfd's process leads, or led (Linux 6.9).
const PIDFD_SIGNAL_PROCESS_GROUP: u32 = 1 << 2;

impl Pidfd {
    /// Opens a pidfd in the watcher's own descriptor table, where the program can neither close nor replace it.
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
        // SAFETY: the holder no longer uses it.
        unsafe { libc::syscall(libc::SYS_close, self.0) };
    }

    /// Waits until it is readable or the time is over.
    pub(crate) fn wait(self, patience: Duration) {
        wait([Some(self), None], Some(patience));
    }

    /// Whether it is readable now.
    pub(crate) fn is_readable(self) -> bool {
        wait([Some(self), None], Some(Duration::ZERO)) == Some([true, false])
    }

    /// Whether its process has ended. Checks twice: while a process execs from a thread that is not the main thread,
    /// its pidfd may be readable for an instant (Linux 6.15).
    pub(crate) fn has_ended(self) -> bool {
        self.is_readable() && self.is_readable()
    }

    /// Signals the process. Returns the error number, or 0.
    pub(crate) fn signal(self, signal: i32) -> i32 {
        self.send(signal, 0)
    }

    /// Signals the process group that the process leads, or led. Returns the error number, or 0. Returns EINVAL before
    /// Linux 6.9.
    pub(crate) fn signal_group(self, signal: i32) -> i32 {
        self.send(signal, PIDFD_SIGNAL_PROCESS_GROUP)
    }

    fn send(self, signal: i32, flags: u32) -> i32 {
        let no_information = ptr::null::<libc::siginfo_t>();
        // SAFETY: a system call of integers and a null pointer.
        let sent = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.0, signal, no_information, flags)
        };
        if sent == 0 { 0 } else { errno() }
    }
}

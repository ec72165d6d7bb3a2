//! The event handle: a pidfd (pidfd_open(2), Linux 5.3). It becomes readable when its process, with
//! all of its threads, has ended.

use std::mem::MaybeUninit;

use super::super::{OpenError, Wake};
use super::{errno, wait};
use std::time::Duration;

/// A pidfd that we opened. Close-on-exec, never 0, 1 or 2.
pub(crate) struct Handle {
    fd: i32,
    file: Option<File>,
}

/// What the descriptor is open on. Since Linux 6.9 every process has an inode of its own in pidfs, so
/// that this tells one pidfd from another; before, all anonymous inodes are one.
type File = (libc::dev_t, libc::ino_t);

impl Handle {
    pub(crate) fn open(pid: i32) -> Result<Handle, OpenError> {
        if cfg!(parentwatch_force_poll) {
            return Err(OpenError::Unavailable);
        }
        // SAFETY: a system call of two integers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let Some(fd) = i32::try_from(fd).ok().filter(|fd| *fd >= 0) else {
            return Err(match errno() {
                libc::ESRCH => OpenError::Gone,
                _ => OpenError::Unavailable,
            });
        };
        let fd = if fd > 2 { fd } else { Handle::above_stderr(fd)? };
        Ok(Handle { fd, file: file_of(fd) })
    }

    /// A program that was started with a closed 0, 1 or 2 (LocalAI closes 0) must not find our handle
    /// there: it would take it for its stdin.
    fn above_stderr(low: i32) -> Result<i32, OpenError> {
        // SAFETY: `low` is the descriptor just opened; nobody else knows of it.
        let high = unsafe {
            let high = libc::fcntl(low, libc::F_DUPFD_CLOEXEC, 3);
            libc::close(low);
            high
        };
        if high > 2 { Ok(high) } else { Err(OpenError::Unavailable) }
    }

    pub(crate) fn raw(&self) -> i32 {
        self.fd
    }

    /// Whether its process has ended, without waiting.
    pub(crate) fn is_readable(&self) -> bool {
        wait([Some(self.fd), None], Some(Duration::ZERO)) == [Wake::Readable, Wake::Quiet]
    }

    /// Whether the descriptor still is what was opened. The program may have closed it, or have put
    /// something else in its place.
    pub(crate) fn is_ours(&self) -> bool {
        // Signal 0 to a pidfd only asks; to anything else it is EBADF (pidfd_send_signal(2)). Other
        // errors (EPERM: another user's process; EACCES: SELinux; EINVAL: of another PID namespace) come
        // from a pidfd.
        // SAFETY: sends nothing.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd,
                0,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        let is_pidfd =
            sent == 0 || matches!(errno(), libc::ESRCH | libc::EPERM | libc::EACCES | libc::EINVAL);
        is_pidfd && file_of(self.fd) == self.file
    }

    /// Leaves the descriptor to whoever has it now.
    pub(crate) fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours; whoever took it from us calls `forget`.
        unsafe { libc::close(self.fd) };
    }
}

fn file_of(fd: i32) -> Option<File> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat initialises it when it succeeds.
    unsafe {
        (libc::fstat(fd, stat.as_mut_ptr()) == 0).then(|| {
            let stat = stat.assume_init();
            (stat.st_dev, stat.st_ino)
        })
    }
}

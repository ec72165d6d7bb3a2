//! macOS. It compiles and is type-checked; it has never run.

use std::mem::MaybeUninit;
use std::time::Duration;

pub(crate) use super::posix::*;
use super::{OpenError, Stat, Wake};

/// Whether `pid`, once our direct parent, no longer is. `getppid()` alone does not tell: a debugger that
/// attaches becomes the parent. So it has to be launchd, or the event has to have fired, or the number
/// has to be free.
pub(crate) fn parent_is_gone(pid: i32, fired: bool) -> bool {
    let parent = parent_pid();
    parent != pid && (parent == 1 || fired || is_absent(pid))
}

/// A kqueue with one filter: the exit of one process (kqueue(2), `EVFILT_PROC`, `NOTE_EXIT`). A kqueue
/// is not inherited by a fork, and can itself be polled.
pub(crate) struct Handle {
    fd: i32,
    pid: i32,
}

impl Handle {
    pub(crate) fn open(pid: i32) -> Result<Handle, OpenError> {
        if cfg!(parentwatch_force_poll) {
            return Err(OpenError::Unavailable);
        }
        // SAFETY: no arguments; the descriptor is owned by the handle, which closes it.
        let handle = Handle { fd: unsafe { libc::kqueue() }, pid };
        if handle.fd < 0 {
            handle.forget();
            return Err(OpenError::Unavailable);
        }
        // SAFETY: our own descriptors; a kqueue may be duplicated within its process.
        let handle = unsafe {
            if handle.fd <= 2 {
                let high = libc::fcntl(handle.fd, libc::F_DUPFD_CLOEXEC, 3);
                drop(handle);
                Handle { fd: high, pid }
            } else {
                libc::fcntl(handle.fd, libc::F_SETFD, libc::FD_CLOEXEC);
                handle
            }
        };
        if handle.fd < 0 {
            handle.forget();
            return Err(OpenError::Unavailable);
        }
        let mut change = handle.filter();
        change.flags = libc::EV_ADD | libc::EV_ONESHOT;
        // SAFETY: one valid change, no room for events.
        let added = unsafe {
            libc::kevent(handle.fd, &raw const change, 1, std::ptr::null_mut(), 0, std::ptr::null())
        };
        match added {
            -1 if errno() == libc::ESRCH => Err(OpenError::Gone),
            -1 => Err(OpenError::Unavailable),
            _ => Ok(handle),
        }
    }

    fn filter(&self) -> libc::kevent {
        libc::kevent {
            // a pid_t is positive
            ident: self.pid.unsigned_abs() as usize,
            filter: libc::EVFILT_PROC,
            flags: 0,
            fflags: libc::NOTE_EXIT,
            data: 0,
            udata: std::ptr::null_mut(),
        }
    }

    pub(crate) fn raw(&self) -> i32 {
        self.fd
    }

    pub(crate) fn is_readable(&self) -> bool {
        wait([Some(self.fd), None], Some(Duration::ZERO)) == [Wake::Readable, Wake::Quiet]
    }

    /// Whether it still is a kqueue, without another process's event in it. It takes the event.
    pub(crate) fn is_ours(&self) -> bool {
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let mut event = self.filter();
        // SAFETY: room for one event.
        let count = unsafe {
            libc::kevent(self.fd, std::ptr::null(), 0, &raw mut event, 1, &raw const at_once)
        };
        count == 0 || (count == 1 && event.ident == self.filter().ident)
    }

    pub(crate) fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours.
        unsafe { libc::close(self.fd) };
    }
}

/// No identity but the direct parent's is proven here: a named supervisor further up is unproven, and
/// only the parent is watched.
pub(crate) fn stat(_pid: i32) -> Option<Stat> {
    None
}

pub(crate) fn looks_gone(pid: i32, _start: Option<u64>) -> bool {
    is_absent(pid)
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

/// minherit(2), `VM_INHERIT_ZERO`: a child finds zeros.
pub(crate) fn page_wiped_on_fork(size: usize) -> Option<*mut u8> {
    /// `<mach/vm_inherit.h>`
    const VM_INHERIT_ZERO: i32 = 3;
    let page = map_page(size)?;
    // SAFETY: the mapping just made. Its failure is provided for by the process id in it.
    unsafe { libc::minherit(page.cast(), size, VM_INHERIT_ZERO) };
    Some(page)
}

/// A regular file, or a socket; there is no write to a pipe or a terminal that is sure not to block.
pub(crate) fn write_to_stderr(line: &[u8]) {
    let _blocked = SignalsBlocked::all();
    match stderr_type() {
        Some(libc::S_IFREG) => write_once(2, line),
        Some(libc::S_IFSOCK) => send_once(2, line, libc::MSG_DONTWAIT),
        _ => {}
    }
}

/// There is no fork without locks here, so no reaper: the group ends at once, this process with it.
pub(crate) fn end_group(_proven_leader: Option<i32>) {
    let group = process_group();
    if group == own_pid() {
        // SAFETY: our own group.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
}

/// There is no reaper here.
pub(crate) fn end_group_once_gone(_proven_leader: Option<i32>, _patience: Duration) -> bool {
    false
}

/// Takes a pending, blocked signal away.
///
/// # Safety
/// The signal is blocked in this thread and pending: there is no wait with a timeout here.
pub(crate) unsafe fn take_pending(signal: i32) {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    let mut taken = 0;
    // SAFETY: a valid set, and room for the number.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::sigwait(set.as_ptr(), &raw mut taken);
    }
}

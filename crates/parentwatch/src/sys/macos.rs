//! macOS. It compiles and is type-checked; it has never run.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

pub(crate) use super::posix::*;
use super::{OpenError, OwnTable, Stat};

/// Whether `pid`, once our direct parent, no longer is. `getppid()` alone does not tell: a debugger that
/// attaches becomes the parent. So it has to be launchd, or the event has to have fired, or the number
/// has to be free.
pub(crate) fn parent_is_gone(pid: i32, fired: bool) -> bool {
    let parent = parent_pid();
    parent != pid && (parent == 1 || fired || is_absent(pid))
}

/// A kqueue with one filter: the exit of one process (kqueue(2), `EVFILT_PROC`, `NOTE_EXIT`). A kqueue is not inherited
/// by a fork, and can itself be polled. It lies in the program's descriptor table, and is never closed: what has its
/// number by then may be the program's.
#[derive(Clone, Copy)]
pub(crate) struct Handle(i32);

impl Handle {
    pub(crate) fn open_in(_: Option<&OwnTable>, pid: i32) -> Result<Handle, OpenError> {
        if cfg!(parentwatch_force_poll) {
            return Err(OpenError::Unavailable);
        }
        // SAFETY: no arguments. The descriptor is ours; a kqueue may be duplicated within its process.
        let fd = unsafe {
            let mut fd = libc::kqueue();
            if (0..=2).contains(&fd) {
                // A program that was started with a closed 0, 1 or 2 must not find it there.
                let high = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3);
                libc::close(fd);
                fd = high;
            }
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            fd
        };
        if fd < 0 {
            return Err(OpenError::Unavailable);
        }
        let change = libc::kevent {
            // a pid_t is positive
            ident: pid.unsigned_abs() as usize,
            filter: libc::EVFILT_PROC,
            flags: libc::EV_ADD | libc::EV_ONESHOT,
            fflags: libc::NOTE_EXIT,
            data: 0,
            udata: ptr::null_mut(),
        };
        // SAFETY: one valid change, no room for events.
        let added =
            unsafe { libc::kevent(fd, &raw const change, 1, ptr::null_mut(), 0, ptr::null()) };
        if added == 0 {
            return Ok(Handle(fd));
        }
        let is_gone = errno() == libc::ESRCH;
        // SAFETY: opened above.
        unsafe { libc::close(fd) };
        Err(if is_gone { OpenError::Gone } else { OpenError::Unavailable })
    }

    pub(crate) fn has_ended(self) -> bool {
        wait([Some(self), None], Some(Duration::ZERO)) == Some([true, false])
    }
}

/// Sleeps until one of the handles is ready, or the timeout is over, or a signal came; which of them were. `None`: the
/// wait failed, after a sleep of that time.
pub(crate) fn wait(handles: [Option<Handle>; 2], timeout: Option<Duration>) -> Option<[bool; 2]> {
    // A negative descriptor is passed over (poll(2)).
    let mut entries = handles.map(|handle| libc::pollfd {
        fd: handle.map_or(-1, |handle| handle.0),
        events: libc::POLLIN,
        revents: 0,
    });
    // Milliseconds, rounded up, so that a short time is never a wait that returns at once.
    let millis = match timeout {
        None => -1,
        Some(time) => i32::try_from(time.as_micros().div_ceil(1_000)).unwrap_or(i32::MAX),
    };
    // SAFETY: valid entries.
    let ready = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, millis) };
    if ready == -1 && errno() != libc::EINTR {
        // Waiting again would return at once.
        sleep(timeout.unwrap_or(Duration::ZERO));
        return None;
    }
    Some(entries.map(|entry| ready > 0 && entry.revents != 0))
}

/// One sleep; a signal may end it early.
fn sleep(time: Duration) {
    let time = libc::timespec {
        tv_sec: time.as_secs() as _,
        // below 10⁹
        tv_nsec: time.subsec_nanos() as _,
    };
    // SAFETY: a valid time, and nothing to be written back.
    unsafe { libc::nanosleep(&raw const time, ptr::null_mut()) };
}

pub(crate) fn name_this_thread(name: &CStr) {
    // SAFETY: a C string.
    unsafe { libc::pthread_setname_np(name.as_ptr()) };
}

/// Whether a SIGTERM to this process would end it at once.
pub(crate) fn sigterm_ends_this_process() -> bool {
    disposition(libc::SIGTERM) == libc::SIG_DFL
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
pub(crate) fn write_to_stderr(line: &[u8], _table: Option<&OwnTable>) {
    let _blocked = SignalsBlocked::all();
    match type_of(2) {
        Some(libc::S_IFREG) => write_once(2, line),
        Some(libc::S_IFSOCK) => send_once(2, line, libc::MSG_DONTWAIT),
        _ => {}
    }
}

/// The group ends at once, this process with it. One that another process leads is left alone.
pub(crate) fn end_group(group: i32) {
    if group == own_pid() {
        // SAFETY: our own group.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
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

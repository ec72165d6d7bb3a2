//! Linux.

mod cgroup;
mod guarded;
mod memory;
mod numbers;
mod pidfd;
mod pieces;
mod processes;
mod procfs;
mod stderr;
mod table;
mod word;

pub(crate) use cgroup::Cgroup;
pub(crate) use guarded::*;
pub(crate) use memory::{release_code, release_memory};
#[cfg(parentwatch_macos_shim)]
pub(super) use numbers::Numbers;
pub(crate) use pidfd::{Handle, Pidfd};
pub(crate) use processes::*;
pub(crate) use procfs::*;
pub(crate) use stderr::{write_to_stderr, write_to_stderr_of};
pub(crate) use table::{OwnTable, close_all_but};
pub(crate) use word::Word;

pub(crate) use super::posix::*;

use std::ffi::CStr;
use std::ptr;
use std::time::Duration;

/// Whether `pid` is no longer our direct parent. The kernel re-parents the children before it reports the death
/// (`exit_notify` calls `forget_original_parent` first). So getppid(2) has changed by the time the pidfd is readable.
/// ptrace(2) does not change it.
pub(crate) fn parent_is_gone(pid: i32, _fired: bool) -> bool {
    parent_pid() != pid
}

/// Sleeps until a descriptor is readable, the timeout is over, or a signal arrives. Returns which descriptors are
/// readable. If the wait fails (ENOMEM, EINVAL, a seccomp filter), it sleeps for the timeout and returns `None`.
///
/// Uses the raw system call. A libc wrapper may touch memory that the reaper has unmapped, and poll(3) is a
/// cancellation point.
pub(crate) fn wait<const N: usize>(
    handles: [Option<Pidfd>; N],
    timeout: Option<Duration>,
) -> Option<[bool; N]> {
    // The kernel ignores a negative descriptor (poll(2)).
    let mut entries = handles.map(|handle| libc::pollfd {
        fd: handle.map_or(-1, |handle| handle.raw()),
        events: libc::POLLIN,
        revents: 0,
    });
    // Without a descriptor the count must be 0: more entries than RLIMIT_NOFILE are an error.
    let count = if handles.iter().any(Option::is_some) { entries.len() } else { 0 };
    let time = timeout.map(|time| libc::timespec {
        tv_sec: time.as_secs() as _,
        // below 10⁹
        tv_nsec: time.subsec_nanos() as _,
    });
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    let no_mask = ptr::null::<libc::sigset_t>();
    // SAFETY: `count` valid entries, a valid time or null, no signal mask.
    let ready =
        unsafe { libc::syscall(libc::SYS_ppoll, entries.as_mut_ptr(), count, time, no_mask, 0) };
    if ready == -1 && errno() != libc::EINTR {
        // Waiting again would return at once.
        sleep(timeout.unwrap_or(Duration::ZERO));
        return None;
    }
    Some(entries.map(|entry| ready > 0 && entry.revents != 0))
}

/// Sleeps once. A signal may end the sleep early.
fn sleep(time: Duration) {
    let time = libc::timespec {
        tv_sec: time.as_secs() as _,
        // below 10⁹
        tv_nsec: time.subsec_nanos() as _,
    };
    // SAFETY: a valid time, and a null pointer for the remaining time.
    unsafe {
        libc::syscall(libc::SYS_nanosleep, &raw const time, ptr::null_mut::<libc::timespec>())
    };
}

pub(crate) fn name_this_thread(name: &CStr) {
    // SAFETY: a C string. The kernel copies at most 16 bytes of it.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// The kernel's release (uname(2)).
#[cfg(feature = "doctor")]
pub(crate) fn kernel_release() -> String {
    let mut names = std::mem::MaybeUninit::<libc::utsname>::uninit();
    // SAFETY: room for the answer, whose fields are C strings.
    unsafe {
        if libc::uname(names.as_mut_ptr()) != 0 {
            return String::new();
        }
        CStr::from_ptr((&raw const (*names.as_ptr()).release).cast()).to_string_lossy().into_owned()
    }
}

/// A page that a forked child finds zeroed (madvise(2), `MADV_WIPEONFORK`, Linux 4.14). On an older kernel it is an
/// ordinary page. The process id that it holds then shows the child that it is a copy.
pub(crate) fn page_wiped_on_fork(size: usize) -> Option<*mut u8> {
    let page = map_page(size)?;
    // SAFETY: the mapping was just made. A failure is harmless: the caller also compares the process id.
    unsafe { libc::madvise(page.cast(), size, libc::MADV_WIPEONFORK) };
    Some(page)
}

/// Removes a pending, blocked signal.
///
/// # Safety
/// The signal must be blocked in this thread.
pub(crate) unsafe fn take_pending(signal: i32) {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid set and a valid time.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::sigtimedwait(set.as_ptr(), ptr::null_mut(), &raw const at_once);
    }
}

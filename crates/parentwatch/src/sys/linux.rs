//! Linux.

mod group;
mod lines;
mod memory;
mod pidfd;
mod processes;
mod procfs;
mod stderr;

pub(crate) use group::{end_group, end_group_once_gone};
pub(crate) use pidfd::Handle;
pub(crate) use procfs::{
    clock_is_initial, looks_gone, own_start_time, pid_namespace, procfs_is_ours, stat,
};
pub(crate) use stderr::write_to_stderr;

pub(crate) use super::posix::*;

/// Whether `pid`, once our direct parent, no longer is. The kernel gives a child its new parent before
/// it tells anybody of the death (`exit_notify` calls `forget_original_parent` first), so that by the
/// time a pidfd is readable this has changed; ptrace(2) does not touch it.
pub(crate) fn parent_is_gone(pid: i32, _fired: bool) -> bool {
    parent_pid() != pid
}

/// A page that is all zeros again in a child (madvise(2), `MADV_WIPEONFORK`, Linux 4.14). On an older
/// kernel it is an ordinary page, and the process id in it tells a child.
pub(crate) fn page_wiped_on_fork(size: usize) -> Option<*mut u8> {
    let page = map_page(size)?;
    // SAFETY: the mapping just made. Its failure is provided for.
    unsafe { libc::madvise(page.cast(), size, libc::MADV_WIPEONFORK) };
    Some(page)
}

/// Takes a pending, blocked signal away.
///
/// # Safety
/// The signal is blocked in this thread.
pub(crate) unsafe fn take_pending(signal: i32) {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid set and a valid time.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::sigtimedwait(set.as_ptr(), std::ptr::null_mut(), &raw const at_once);
    }
}

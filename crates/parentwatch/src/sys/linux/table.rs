//! The watcher's own descriptor table.

use std::marker::PhantomData;

use super::numbers::Numbers;
use super::procfs::{exists, is_unfiltered};
use super::{Pidfd, own_pid};

/// Proof that this thread has its own descriptor table, without any descriptor of the program.
///
/// The program cannot see, close or replace a descriptor in it, and it does not count against the program's limit. A
/// process that this thread forks inherits no descriptor of the program.
pub(crate) struct OwnTable {
    /// This process, to copy its stderr at the end. `None` where that must not be tried.
    pub(super) program: Option<Pidfd>,
    _of_this_thread: PhantomData<*const ()>,
}

impl OwnTable {
    /// Gives this thread its own, empty table. `None` if that fails, for example because of a seccomp filter. The
    /// thread then still shares the program's table and must keep nothing in it.
    ///
    /// Closing the copies calls `flush` in their file systems, which may be slow.
    pub(crate) fn take() -> Option<OwnTable> {
        // SAFETY: a system call of integers. It changes only the table of this thread, which has nothing open.
        let taken = unsafe {
            libc::syscall(libc::SYS_close_range, 0, u32::MAX, libc::CLOSE_RANGE_UNSHARE) == 0
        };
        // Before Linux 5.9: two steps. Without the list the copies could not be closed.
        let taken = taken || (exists(DESCRIPTORS) && unshare() && close_all_but(&[]));
        // Some seccomp filters kill a process that calls pidfd_getfd(2) (Linux 5.6). A filter that the program installs
        // later does not apply to this thread.
        taken.then(|| OwnTable {
            program: Pidfd::open(own_pid()).ok().filter(|_| is_unfiltered()),
            _of_this_thread: PhantomData,
        })
    }
}

impl OwnTable {
    /// A forked process has a table of its own.
    pub(crate) fn of_forked_process() -> OwnTable {
        OwnTable { program: None, _of_this_thread: PhantomData }
    }
}

/// The descriptors of this thread. `/proc/self/fd` lists those of the main thread.
const DESCRIPTORS: &std::ffi::CStr = c"/proc/thread-self/fd";

fn unshare() -> bool {
    // SAFETY: a system call of an integer. It gives this thread a copy of the table.
    unsafe { libc::syscall(libc::SYS_unshare, libc::CLONE_FILES) == 0 }
}

/// Closes this thread's descriptors. Returns whether that worked. No other thread may share the table.
pub(crate) fn close_all_but(kept: &[i32]) -> bool {
    close_between(kept) || close_listed(kept)
}

/// Makes one call for each gap between the kept descriptors (close_range(2), Linux 5.9).
fn close_between(kept: &[i32]) -> bool {
    let mut from = 0;
    loop {
        let next =
            kept.iter().filter_map(|fd| u32::try_from(*fd).ok()).filter(|fd| *fd >= from).min();
        let to = next.map_or(u32::MAX, |next| next.saturating_sub(1));
        // SAFETY: a system call of integers. The caller promises that these descriptors are no longer used.
        let closed =
            next == Some(from) || unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) == 0 };
        match next {
            _ if !closed => return false,
            Some(next) => from = next + 1,
            None => return true,
        }
    }
}

fn close_listed(kept: &[i32]) -> bool {
    // Closing descriptors during the listing may hide some, so repeat until none is left.
    for _ in 0..1_000 {
        let Some(listed) = Numbers::of(DESCRIPTORS) else { return false };
        let own = listed.descriptor();
        let mut closed = 0;
        for fd in listed.filter(|fd| *fd != own && !kept.contains(fd)) {
            // SAFETY: the caller promises that these descriptors are no longer used.
            closed += usize::from(unsafe { libc::syscall(libc::SYS_close, fd) } == 0);
        }
        if closed == 0 {
            return true;
        }
    }
    false
}

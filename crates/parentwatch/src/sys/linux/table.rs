//! The watcher's own descriptor table.

use std::marker::PhantomData;

use super::numbers::Numbers;
use super::procfs::{exists, is_unfiltered};
use super::{Pidfd, own_pid};

/// Proof that the thread which has it has a descriptor table of its own, without any descriptor of the program.
///
/// What is opened in it the program cannot see, close, replace, or run out of, and what is forked on this thread
/// inherits nothing of the program's.
pub(crate) struct OwnTable {
    /// This process, to take its stderr from at the end; `None` where that is not to be tried.
    pub(super) program: Option<Pidfd>,
    _of_this_thread: PhantomData<*const ()>,
}

impl OwnTable {
    /// Leaves the program's table to the program. `None` where no table of its own is to be had, by a seccomp
    /// filter, say: the thread then still shares the program's, and must keep nothing in it.
    ///
    /// Closing our copies runs the `flush` of their file systems, which may take its time.
    pub(crate) fn take() -> Option<OwnTable> {
        // SAFETY: a system call of integers. It changes the table of this thread alone, which has nothing open.
        let taken = unsafe {
            libc::syscall(libc::SYS_close_range, 0, u32::MAX, libc::CLOSE_RANGE_UNSHARE) == 0
        };
        // Before Linux 5.9, in two steps. What cannot be listed could not be closed.
        let taken = taken || (exists(DESCRIPTORS) && unshare() && close_all_but(&[]));
        // Some seccomp filters kill whoever calls pidfd_getfd(2) (Linux 5.6). One that the program installs later does
        // not hold for this thread.
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

/// Of this thread: `/proc/self/fd` has those of the main thread.
const DESCRIPTORS: &std::ffi::CStr = c"/proc/thread-self/fd";

fn unshare() -> bool {
    // SAFETY: a system call of an integer. It gives this thread a copy of the table.
    unsafe { libc::syscall(libc::SYS_unshare, libc::CLONE_FILES) == 0 }
}

/// Closes this thread's descriptors; whether that could be done. The table must be this thread's alone.
pub(crate) fn close_all_but(kept: &[i32]) -> bool {
    close_between(kept) || close_listed(kept)
}

/// In one call for each gap between those that are kept (close_range(2), Linux 5.9).
fn close_between(kept: &[i32]) -> bool {
    let mut from = 0;
    loop {
        let next =
            kept.iter().filter_map(|fd| u32::try_from(*fd).ok()).filter(|fd| *fd >= from).min();
        let to = next.map_or(u32::MAX, |next| next.saturating_sub(1));
        // SAFETY: a system call of integers; the caller says that nobody uses these any more.
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
    // To close them while they are listed may hide some: until there are no more.
    for _ in 0..1_000 {
        let Some(listed) = Numbers::of(DESCRIPTORS) else { return false };
        let own = listed.descriptor();
        let mut closed = 0;
        for fd in listed.filter(|fd| *fd != own && !kept.contains(fd)) {
            // SAFETY: the caller says that nobody uses these any more.
            closed += usize::from(unsafe { libc::syscall(libc::SYS_close, fd) } == 0);
        }
        if closed == 0 {
            return true;
        }
    }
    false
}

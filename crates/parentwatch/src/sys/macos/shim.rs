//! The macOS-only calls, implemented on Linux. With them sys/macos.rs runs on Linux in place of sys/linux.rs
//! (`make test-macos-shim`). For tests only: it tests the logic of that module, not the behaviour of a Mac.

#![allow(non_camel_case_types)]

use std::ffi::{c_char, c_void};

use super::super::OpenError;
use super::super::linux::{self, Pidfd};

pub(crate) use super::super::linux::{INITIAL_PID_NAMESPACE, pid_namespace};

#[cfg(not(all(target_os = "linux", debug_assertions)))]
compile_error!("parentwatch_macos_shim is for tests on Linux, and for no release");

pub(super) const EVFILT_PROC: i16 = -5;
pub(super) const EV_ADD: u16 = 0x1;
pub(super) const EV_ONESHOT: u16 = 0x10;
pub(super) const NOTE_EXIT: u32 = 0x8000_0000;
pub(super) const PROC_PIDLISTFDS: i32 = 1;
pub(super) const PROC_PIDTBSDINFO: i32 = 3;
pub(super) const CTL_KERN: i32 = 1;
pub(super) const KERN_PROCARGS2: i32 = 49;
pub(super) const SZOMB: u32 = 5;
const SSLEEP: u32 = 3;
pub(super) const SSTOP: u32 = 4;
const PROC_ALL_PIDS: u32 = 1;
const PROC_PGRP_ONLY: u32 = 2;
const PROC_PPID_ONLY: u32 = 6;
const PROC_FLAG_INEXIT: u32 = 4;

#[repr(C)]
pub(super) struct kevent {
    pub ident: usize,
    pub filter: i16,
    pub flags: u16,
    pub fflags: u32,
    pub data: isize,
    pub udata: *mut c_void,
}

#[repr(C)]
pub(super) struct proc_bsdinfo {
    pub pbi_flags: u32,
    pub pbi_status: u32,
    pub pbi_ppid: u32,
    pub pbi_pgid: u32,
    pub pbi_start_tvsec: u64,
    pub pbi_start_tvusec: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct proc_fdinfo {
    pub proc_fd: i32,
    pub proc_fdtype: u32,
}

fn fail(code: i32) -> i32 {
    // SAFETY: the address of this thread's errno.
    unsafe { *libc::__errno_location() = code };
    -1
}

/// An epoll descriptor. It can be polled, like a kqueue. Unlike a kqueue, a forked child inherits it.
pub(super) unsafe fn kqueue() -> i32 {
    // SAFETY: a system call of an integer.
    unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }
}

/// Registers for the exit of one process. Never closes its pidfd.
pub(super) unsafe fn kevent(
    kqueue: i32,
    change: *const kevent,
    _: i32,
    _: *mut kevent,
    _: i32,
    _: *const libc::timespec,
) -> i32 {
    // SAFETY: the caller gives one change.
    let change = unsafe { &*change };
    let is_exit = (change.filter, change.fflags) == (EVFILT_PROC, NOTE_EXIT);
    let Some(pid) = i32::try_from(change.ident).ok().filter(|_| is_exit) else {
        return fail(libc::EINVAL);
    };
    // macOS does not find a zombie here.
    if linux::stat(pid).is_some_and(|stat| stat.has_ended()) {
        return fail(libc::ESRCH);
    }
    let pidfd = match Pidfd::open(pid) {
        Ok(pidfd) => pidfd,
        Err(OpenError::Gone) => return fail(libc::ESRCH),
        Err(OpenError::Unavailable) => return fail(libc::ENOMEM),
    };
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
    // SAFETY: our own descriptors. A pidfd below 3 is moved up, like the kqueue.
    unsafe {
        let high = libc::fcntl(pidfd.raw(), libc::F_DUPFD_CLOEXEC, 3);
        pidfd.close();
        libc::epoll_ctl(kqueue, libc::EPOLL_CTL_ADD, high, &raw mut event)
    }
}

pub(super) unsafe fn proc_pidinfo(
    pid: i32,
    flavor: i32,
    and_zombies: u64,
    room: *mut c_void,
    size: i32,
) -> i32 {
    let size = usize::try_from(size).unwrap_or(0);
    if !linux::procfs_is_ours() {
        fail(libc::EPERM);
        return 0;
    }
    let filled = match flavor {
        PROC_PIDTBSDINFO => bsd_info(pid, and_zombies != 0).map(|info| {
            // SAFETY: the caller provides room for it.
            unsafe { room.cast::<proc_bsdinfo>().write(info) };
            size
        }),
        PROC_PIDLISTFDS => {
            let descriptors = linux::Numbers::of(c"/proc/thread-self/fd").into_iter().flatten();
            let as_info = |proc_fd| proc_fdinfo { proc_fd, proc_fdtype: 0 };
            // SAFETY: the caller provides room of that size.
            Some(unsafe { fill(room.cast(), size, descriptors.map(as_info)) })
        }
        _ => None,
    };
    if filled.is_none() {
        fail(libc::ESRCH);
    }
    filled.and_then(|filled| i32::try_from(filled).ok()).unwrap_or(0)
}

fn bsd_info(pid: i32, and_zombies: bool) -> Option<proc_bsdinfo> {
    let stat = linux::stat(pid).filter(|stat| and_zombies || !stat.has_ended())?;
    Some(proc_bsdinfo {
        pbi_flags: if stat.is_exiting && stat.threads == 1 { PROC_FLAG_INEXIT } else { 0 },
        pbi_status: match stat.state {
            _ if stat.has_ended() => SZOMB,
            b'T' => SSTOP,
            _ => SSLEEP,
        },
        pbi_ppid: stat.parent.unsigned_abs(),
        pbi_pgid: stat.group.unsigned_abs(),
        // Clock ticks, not microseconds: the token must equal the one that other programs make from /proc.
        pbi_start_tvsec: stat.start / 1_000_000,
        pbi_start_tvusec: stat.start % 1_000_000,
    })
}

pub(super) unsafe fn proc_listpids(kind: u32, of: u32, room: *mut c_void, size: i32) -> i32 {
    let (of, size) = (of.cast_signed(), usize::try_from(size).unwrap_or(0));
    if !linux::procfs_is_ours() {
        return 0;
    }
    // SAFETY: the caller provides room of that size.
    let filled = unsafe {
        match kind {
            PROC_ALL_PIDS => fill(room.cast(), size, linux::processes()),
            PROC_PGRP_ONLY => fill(room.cast(), size, linux::members(of)),
            PROC_PPID_ONLY => {
                let mut filled = 0;
                linux::children(of, |child| {
                    let left = room.byte_add(filled).cast();
                    filled += fill(left, size - filled, std::iter::once(child));
                });
                filled
            }
            _ => 0,
        }
    };
    i32::try_from(filled).unwrap_or(0)
}

/// Writes the items into the room. Returns how many bytes it has filled.
///
/// # Safety
/// The room must have `size` bytes.
unsafe fn fill<T>(room: *mut T, size: usize, found: impl Iterator<Item = T>) -> usize {
    let mut count = 0;
    for item in found.take(size / size_of::<T>()) {
        // SAFETY: the item is within the room.
        unsafe { room.add(count).write(item) };
        count += 1;
    }
    count * size_of::<T>()
}

/// Reads the arguments of a process.
pub(super) unsafe fn sysctl(
    name: *mut i32,
    _: u32,
    room: *mut c_void,
    length: *mut usize,
    _: *mut c_void,
    _: usize,
) -> i32 {
    // SAFETY: the caller provides a name of three numbers, the last of which is the process id, and room of that
    // length.
    unsafe {
        let pid = name.add(2).read();
        let found = linux::command_line(pid, std::slice::from_raw_parts_mut(room.cast(), *length));
        *length = found.unwrap_or(0);
    }
    0
}

pub(super) unsafe fn pthread_setname_np(name: *const c_char) -> i32 {
    // SAFETY: the caller gives a C string.
    unsafe { libc::prctl(libc::PR_SET_NAME, name) }
}

pub(super) unsafe fn minherit(page: *mut c_void, size: usize, _zero: i32) -> i32 {
    // SAFETY: the caller gives a mapping of its own.
    unsafe { libc::madvise(page, size, libc::MADV_WIPEONFORK) }
}

//! One line on stderr that never blocks on a pipe, a socket or a terminal: whoever reads it may have died with the
//! supervisor, or may not read at all. A regular file on a hung file system blocks whoever writes to it.

use std::ffi::CStr;

use super::procfs::{Path, is_unfiltered, threads};
use super::{Pidfd, SignalsBlocked, errno, own_pid, send_once, type_of, write_once};

/// Best effort: what cannot be written at once is dropped. No signal comes of it. `has_own_table`: this thread has
/// a descriptor table of its own, and the program's stderr is that of another thread.
pub(crate) fn write_to_stderr(line: &[u8], has_own_table: bool) {
    // SIGPIPE and SIGXFSZ; SIGTTOU too, which would stop a background process.
    let _blocked = SignalsBlocked::all();
    if !has_own_table {
        if !write_without_waiting(2, line)
            && let Some(fd) = open_once_more(c"/proc/thread-self/fd/2")
        {
            write_and_close(fd, line);
        }
        return;
    }
    // The main thread's. Once that has ended it has none: then that of the first thread that has one.
    let opened = open_once_more(c"/proc/self/fd/2").or_else(|| {
        threads().find_map(|thread| {
            open_once_more(Path::new(format_args!("/proc/self/task/{thread}/fd/2")).as_c_str()?)
        })
    });
    if let Some(fd) = opened {
        write_and_close(fd, line);
    } else if let Some(fd) = copy_of_stderr() {
        write_without_waiting(fd, line);
    }
}

/// Whether that is the end of it: written, or not to be written at all.
fn write_without_waiting(fd: i32, line: &[u8]) -> bool {
    match type_of(fd) {
        Some(libc::S_IFREG) => write_once(fd, line),
        Some(libc::S_IFSOCK) => send_once(fd, line, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL),
        // To ask with poll(2) and then write is a race with everybody else who writes.
        Some(libc::S_IFIFO) => return write_to_pipe(fd, line),
        Some(libc::S_IFCHR) => return false,
        _ => {}
    }
    true
}

/// `RWF_NOWAIT` (pwritev2(2)), which a pipe takes since Linux 6.4 and a FIFO or a terminal does not.
/// Whether it was understood.
fn write_to_pipe(fd: i32, line: &[u8]) -> bool {
    let part = libc::iovec { iov_base: line.as_ptr().cast_mut().cast(), iov_len: line.len() };
    const AT_ITS_OFFSET: libc::c_long = -1;
    // SAFETY: one part that is valid for its length, and that is only read. The system call, since musl has no
    // wrapper before 1.2.5; the offset comes in two halves.
    let written = unsafe {
        libc::syscall(
            libc::SYS_pwritev2,
            fd,
            &raw const part,
            1,
            AT_ITS_OFFSET,
            AT_ITS_OFFSET,
            libc::RWF_NOWAIT,
        )
    };
    written >= 0 || !matches!(errno(), libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL)
}

/// O_NONBLOCK belongs to the open file description, which others share with us: setting it on theirs would change
/// their writes. Opening the file once more gives a description of our own, which appends. Where that cannot be
/// had (no permission, no reader, a socket), there is none.
fn open_once_more(path: &CStr) -> Option<i32> {
    let flags =
        libc::O_WRONLY | libc::O_APPEND | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: a C string; the caller closes the descriptor.
    let fd = unsafe { libc::open(path.as_ptr(), flags) };
    (fd >= 0).then_some(fd)
}

fn write_and_close(fd: i32, line: &[u8]) {
    write_once(fd, line);
    // SAFETY: opened by `open_once_more`, and used no more.
    unsafe { libc::close(fd) };
}

/// The main thread's, by pidfd_getfd(2) (Linux 5.6). Some seccomp filters kill whoever calls that.
fn copy_of_stderr() -> Option<i32> {
    if !is_unfiltered() {
        return None;
    }
    let this_process = Pidfd::open(own_pid()).ok()?;
    // SAFETY: a system call of integers. The copy is in the watcher's own table, until the process ends.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, this_process.raw(), 2, 0) };
    i32::try_from(fd).ok().filter(|fd| *fd >= 0)
}

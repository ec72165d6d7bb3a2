//! One line on stderr that never blocks on a pipe, a socket or a terminal: whoever reads it may have died with the
//! supervisor, or may not read at all. A regular file on a hung file system blocks whoever writes to it.

use std::ffi::CStr;

use super::procfs::{Path, mode_of, status_line, threads};
use super::{OwnTable, SignalsBlocked, errno, send_once, type_of, write_once};

/// Best effort: what cannot be written at once is dropped. No signal comes of it. On a thread with a table of its own
/// the program's stderr is that of another thread.
pub(crate) fn write_to_stderr(line: &[u8], table: Option<&OwnTable>) {
    // SIGPIPE and SIGXFSZ; SIGTTOU too, which would stop a background process. On our own threads they are blocked.
    let _blocked = table.is_none().then(SignalsBlocked::all);
    let stderr = table.map_or(Some(2), copy_of_stderr);
    if stderr.is_some_and(|stderr| write_without_waiting(stderr, line)) {
        return;
    }
    let opened = match table {
        None => open_once_more(c"/proc/thread-self/fd/2"),
        // Of the first thread that has one: once the main thread has ended, it has none.
        Some(_) => threads().find_map(|thread| {
            open_once_more(Path::new(format_args!("/proc/self/task/{thread}/fd/2")).as_c_str()?)
        }),
    };
    if let Some(fd) = opened {
        write_once(fd, line);
        // SAFETY: opened above, and used no more.
        unsafe { libc::close(fd) };
    }
}

/// The same on the stderr of another process, where that is a file opened for appending, a pipe or a terminal.
pub(crate) fn write_to_stderr_of(pid: i32, line: &[u8]) {
    let path = Path::new(format_args!("/proc/{pid}/fd/2"));
    let Some(path) = path.as_c_str() else { return };
    let is_for_us = match mode_of(path).map(|mode| mode & libc::S_IFMT) {
        // Else the others who write to it would overwrite the line, or it would overwrite theirs.
        Some(libc::S_IFREG) => open_flags(pid).is_some_and(|flags| flags & libc::O_APPEND != 0),
        Some(libc::S_IFIFO | libc::S_IFCHR) => true,
        _ => false,
    };
    if let Some(fd) = Some(path).filter(|_| is_for_us).and_then(open_once_more) {
        write_once(fd, line);
        // SAFETY: opened above, and used no more.
        unsafe { libc::close(fd) };
    }
}

/// With what flags its stderr was opened (proc(5): octal).
fn open_flags(pid: i32) -> Option<i32> {
    let path = Path::new(format_args!("/proc/{pid}/fdinfo/2"));
    status_line(path.as_c_str()?, b"flags:", |flags| {
        i32::from_str_radix(std::str::from_utf8(flags.trim_ascii()).ok()?, 8).ok()
    })
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

/// The main thread's, by pidfd_getfd(2). It is in the watcher's own table, until the process ends.
fn copy_of_stderr(table: &OwnTable) -> Option<i32> {
    let program = table.program?;
    // SAFETY: a system call of integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, program.raw(), 2, 0) };
    i32::try_from(fd).ok().filter(|fd| *fd >= 0)
}

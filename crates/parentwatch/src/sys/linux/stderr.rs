//! Writes one line to stderr without ever blocking on a pipe, a socket or a terminal. The reader may have died with the
//! supervisor, or may have stopped reading. Only a regular file on a hung file system can block.

use std::ffi::CStr;

use super::procfs::{Path, find_thread, mode_of, status_line};
use super::{OwnTable, SignalsBlocked, errno, send_once, type_of, write_once};

/// Writes the line if that is possible at once, and drops it otherwise. Raises no signal. With its own descriptor
/// table, this thread has no stderr: it writes to that of the program's threads.
pub(crate) fn write_to_stderr(line: &[u8], table: Option<&OwnTable>) {
    // Blocks SIGPIPE, SIGXFSZ, and SIGTTOU, which would stop a background process. Our own threads block them always.
    let _blocked = table.is_none().then(SignalsBlocked::all);
    let stderr = table.map_or(Some(2), copy_of_stderr);
    if stderr.is_some_and(|stderr| write_without_waiting(stderr, line)) {
        return;
    }
    let opened = match table {
        None => open_once_more(c"/proc/thread-self/fd/2"),
        // The first thread that has a stderr: a main thread that has ended has none.
        Some(_) => find_thread(|thread| {
            open_once_more(Path::new(format_args!("/proc/self/task/{thread}/fd/2")).as_c_str()?)
        }),
    };
    if let Some(fd) = opened {
        write_once(fd, line);
        // SAFETY: opened above and no longer used.
        unsafe { libc::close(fd) };
    }
}

/// Writes the line to the stderr of another process, if that is a file opened for appending, a pipe or a terminal.
pub(crate) fn write_to_stderr_of(pid: i32, line: &[u8]) {
    let path = Path::new(format_args!("/proc/{pid}/fd/2"));
    let Some(path) = path.as_c_str() else { return };
    let is_for_us = match mode_of(path).map(|mode| mode & libc::S_IFMT) {
        // Without O_APPEND, this line and those of other writers would overwrite each other.
        Some(libc::S_IFREG) => open_flags(pid).is_some_and(|flags| flags & libc::O_APPEND != 0),
        Some(libc::S_IFIFO | libc::S_IFCHR) => true,
        _ => false,
    };
    if let Some(fd) = Some(path).filter(|_| is_for_us).and_then(open_once_more) {
        write_once(fd, line);
        // SAFETY: opened above and no longer used.
        unsafe { libc::close(fd) };
    }
}

/// The flags with which its stderr was opened (proc(5): octal).
fn open_flags(pid: i32) -> Option<i32> {
    let path = Path::new(format_args!("/proc/{pid}/fdinfo/2"));
    status_line(path.as_c_str()?, b"flags:", |flags| {
        i32::from_str_radix(std::str::from_utf8(flags.trim_ascii()).ok()?, 8).ok()
    })
}

/// Returns false if the caller should open the file once more and try that. Otherwise the line was written or dropped.
fn write_without_waiting(fd: i32, line: &[u8]) -> bool {
    match type_of(fd) {
        Some(libc::S_IFREG) => write_once(fd, line),
        Some(libc::S_IFSOCK) => send_once(fd, line, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL),
        // poll(2) and then write(2) would race with other writers.
        Some(libc::S_IFIFO) => return write_to_pipe(fd, line),
        Some(libc::S_IFCHR) => return false,
        _ => {}
    }
    true
}

/// Writes with `RWF_NOWAIT` (pwritev2(2)). A pipe supports it since Linux 6.4; a FIFO and a terminal do not. Returns
/// whether it is supported.
fn write_to_pipe(fd: i32, line: &[u8]) -> bool {
    let part = libc::iovec { iov_base: line.as_ptr().cast_mut().cast(), iov_len: line.len() };
    const AT_ITS_OFFSET: libc::c_long = -1;
    // The raw system call: musl has no wrapper before 1.2.5. It takes the offset in two halves.
    // SAFETY: one part that is valid for its length and only read.
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

/// Opens the file once more, with O_NONBLOCK and O_APPEND. O_NONBLOCK belongs to the open file description: set on the
/// existing one, it would change the writes of all processes that share it. Returns `None` if the file cannot be opened
/// (no permission, no reader, a socket).
fn open_once_more(path: &CStr) -> Option<i32> {
    let flags =
        libc::O_WRONLY | libc::O_APPEND | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: a C string. The caller closes the descriptor.
    let fd = unsafe { libc::open(path.as_ptr(), flags) };
    (fd >= 0).then_some(fd)
}

/// A copy of the main thread's stderr, by pidfd_getfd(2). It stays in the watcher's own table until the process ends.
fn copy_of_stderr(table: &OwnTable) -> Option<i32> {
    let program = table.program?;
    // SAFETY: a system call of integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, program.raw(), 2, 0) };
    i32::try_from(fd).ok().filter(|fd| *fd >= 0)
}

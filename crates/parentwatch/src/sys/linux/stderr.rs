//! One line on stderr that never blocks: whoever reads stderr may have died with the supervisor, or
//! may not read at all.

use super::{SignalsBlocked, errno, send_once, stderr_type, write_once};

/// Best effort: what cannot be written at once is dropped. No signal comes of it.
pub(crate) fn write_to_stderr(line: &[u8]) {
    // SIGPIPE and SIGXFSZ; SIGTTOU too, which would stop a background process.
    let _blocked = SignalsBlocked::all();
    match stderr_type() {
        Some(libc::S_IFREG) => write_once(2, line),
        Some(libc::S_IFSOCK) => send_once(2, line, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL),
        // Asking with poll(2) and then writing is a race with everybody else who writes.
        Some(libc::S_IFIFO) if write_without_waiting(line) => {}
        Some(libc::S_IFIFO | libc::S_IFCHR) => write_through_a_new_description(line),
        _ => {}
    }
}

/// `RWF_NOWAIT` (pwritev2(2)), which a pipe takes since Linux 6.4 and a FIFO or a terminal does not.
/// Whether it was understood.
fn write_without_waiting(line: &[u8]) -> bool {
    let part = libc::iovec { iov_base: line.as_ptr().cast_mut().cast(), iov_len: line.len() };
    // SAFETY: one part that is valid for its length, and that is only read.
    let written = unsafe { libc::pwritev2(2, &raw const part, 1, -1, libc::RWF_NOWAIT) };
    written >= 0 || !matches!(errno(), libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL)
}

/// O_NONBLOCK belongs to the open file description, which others share with us: setting it on theirs
/// would change their writes. A description of our own comes from opening the file once more. Where
/// that cannot be had (no descriptor left, no permission, no reader), the line is dropped. It is `thread-self`
/// (Linux 3.17), since `/proc/self` shows no descriptors once a program's main thread has exited.
fn write_through_a_new_description(line: &[u8]) {
    let flags = libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: a C string; the descriptor is ours from here to the close.
    unsafe {
        let fd = libc::open(c"/proc/thread-self/fd/2".as_ptr(), flags);
        if fd >= 0 {
            write_once(fd, line);
            libc::close(fd);
        }
    }
}

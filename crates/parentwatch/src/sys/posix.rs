//! What Linux and macOS have in common.

use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

use super::Wake;

pub(crate) const SUPPORTED: bool = true;

pub(crate) fn own_pid() -> i32 {
    // SAFETY: no arguments, no failure.
    unsafe { libc::getpid() }
}

pub(crate) fn parent_pid() -> i32 {
    // SAFETY: no arguments, no failure.
    unsafe { libc::getppid() }
}

pub(crate) fn process_group() -> i32 {
    // SAFETY: no arguments, no failure.
    unsafe { libc::getpgrp() }
}

/// Leaves at once: no exit handler, no destructor. The status is 1 in every case.
pub(crate) fn exit_now() -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(1) }
}

pub(crate) fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Whether no process has the number. Signal 0 only asks (kill(2)).
pub(crate) fn is_absent(pid: i32) -> bool {
    // SAFETY: sends nothing.
    unsafe { libc::kill(pid, 0) == -1 && errno() == libc::ESRCH }
}

/// While it lives, signals are blocked in this thread, and in what it creates: all but those that a fault or
/// a system call of this very thread raises. These come whether blocked or not, but blocked they end the
/// process, also where the program handles them (a seccomp filter's `SECCOMP_RET_TRAP` and SIGSYS, seccomp(2)).
///
/// It goes through libc's `pthread_sigmask`, which leaves the signals that libc itself needs alone (with
/// a raw `rt_sigprocmask` glibc's `setuid` would wait for us for ever). A SIGPIPE or SIGXFSZ that a write
/// of ours raised meanwhile is taken away before the mask is restored: it is no business of the program.
pub(crate) struct SignalsBlocked {
    before: libc::sigset_t,
    pending: libc::sigset_t,
}

const SYNCHRONOUS: [i32; 6] =
    [libc::SIGSYS, libc::SIGTRAP, libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE];

impl SignalsBlocked {
    pub(crate) fn all() -> SignalsBlocked {
        let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
        let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
        let mut pending = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: each call gets valid pointers; the sets are initialised by sigemptyset before anything
        // could fail.
        unsafe {
            libc::sigemptyset(before.as_mut_ptr());
            libc::sigemptyset(pending.as_mut_ptr());
            libc::sigfillset(all.as_mut_ptr());
            // What the program itself has blocked stays so: it may be pending, or waited for.
            libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), before.as_mut_ptr());
            for raised_here in SYNCHRONOUS {
                if libc::sigismember(before.as_ptr(), raised_here) == 0 {
                    libc::sigdelset(all.as_mut_ptr(), raised_here);
                }
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut());
            libc::sigpending(pending.as_mut_ptr());
            SignalsBlocked { before: before.assume_init(), pending: pending.assume_init() }
        }
    }

    /// Takes away what our own writes may have raised and what was not pending before.
    fn take_ours(&self) {
        let mut now = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: the sets are initialised; a signal that is taken is blocked and pending, so that the
        // wait for it returns at once.
        unsafe {
            libc::sigemptyset(now.as_mut_ptr());
            libc::sigpending(now.as_mut_ptr());
            for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
                if libc::sigismember(&raw const self.pending, signal) == 0
                    && libc::sigismember(now.as_ptr(), signal) == 1
                {
                    super::take_pending(signal);
                }
            }
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        self.take_ours();
        // SAFETY: `before` is the mask that this thread had.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut());
        }
    }
}

/// While it lives, this thread cannot be cancelled (pthread_cancel(3)): poll(2), open(2) and others are
/// cancellation points, and an unwinding of that kind through Rust ends the process.
pub(crate) struct CancellationDisabled {
    before: i32,
}

unsafe extern "C" {
    /// POSIX; the crate libc does not declare it everywhere.
    fn pthread_setcancelstate(state: i32, before: *mut i32) -> i32;
}

#[cfg(target_os = "linux")]
const PTHREAD_CANCEL_DISABLE: i32 = 1;
#[cfg(target_os = "macos")]
const PTHREAD_CANCEL_DISABLE: i32 = 0;

impl CancellationDisabled {
    pub(crate) fn here() -> CancellationDisabled {
        let mut before = PTHREAD_CANCEL_DISABLE;
        // SAFETY: a valid state, and room for the old one.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut before) };
        CancellationDisabled { before }
    }
}

impl Drop for CancellationDisabled {
    fn drop(&mut self) {
        let mut ours = PTHREAD_CANCEL_DISABLE;
        // SAFETY: the state that this thread had, and room for ours.
        unsafe { pthread_setcancelstate(self.before, &raw mut ours) };
    }
}

/// Sleeps until one of the descriptors is ready, or the timeout is over, or a signal came. Without a
/// timeout and without a descriptor it would sleep for ever; no caller asks for that.
pub(crate) fn wait(handles: [Option<i32>; 2], timeout: Option<Duration>) -> [Wake; 2] {
    // A negative descriptor is passed over (poll(2)).
    let mut entries = handles.map(|handle| libc::pollfd {
        fd: handle.unwrap_or(-1),
        events: libc::POLLIN,
        revents: 0,
    });
    // With nothing to wait for it must be none: more entries than RLIMIT_NOFILE are an error.
    let count = if handles.iter().any(Option::is_some) { entries.len() } else { 0 };
    let ready = poll(entries.as_mut_ptr(), count, timeout);
    if ready == -1 && errno() != libc::EINTR {
        // Whatever it is (ENOMEM, EINVAL, a seccomp filter), waiting again would return at once.
        sleep(timeout.unwrap_or(Duration::ZERO));
        return handles.map(|handle| if handle.is_some() { Wake::Invalid } else { Wake::Quiet });
    }
    entries.map(|entry| match entry.revents {
        _ if ready <= 0 || entry.revents == 0 => Wake::Quiet,
        revents if revents & libc::POLLNVAL != 0 => Wake::Invalid,
        _ => Wake::Readable,
    })
}

fn poll(entries: *mut libc::pollfd, count: usize, timeout: Option<Duration>) -> i32 {
    // Milliseconds, rounded up, so that a short time is never a wait that returns at once.
    let millis = match timeout {
        None => -1,
        Some(time) => i32::try_from(time.as_micros().div_ceil(1_000)).unwrap_or(i32::MAX),
    };
    // SAFETY: `entries` points to at least `count` entries.
    unsafe { libc::poll(entries, count as libc::nfds_t, millis) }
}

/// One sleep; a signal may end it early.
pub(crate) fn sleep(time: Duration) {
    let time = libc::timespec {
        tv_sec: time.as_secs() as _,
        // below 10⁹
        tv_nsec: time.subsec_nanos() as _,
    };
    // SAFETY: a valid time, and nothing to be written back.
    unsafe { libc::nanosleep(&raw const time, ptr::null_mut()) };
}

/// A zeroed mapping of at least `size` bytes.
pub(crate) fn map_page(size: usize) -> Option<*mut u8> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice.
    let page = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANON,
            -1,
            0,
        )
    };
    (page != libc::MAP_FAILED).then_some(page.cast())
}

pub(crate) fn release_page(page: *mut u8, size: usize) {
    // SAFETY: the caller gives back a mapping of `map_page` that nobody else knows.
    unsafe { libc::munmap(page.cast(), size) };
}

/// The type of what is behind stderr; `None` when it is closed.
pub(crate) fn stderr_type() -> Option<libc::mode_t> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat initialises it when it succeeds.
    unsafe {
        (libc::fstat(2, stat.as_mut_ptr()) == 0).then(|| stat.assume_init().st_mode & libc::S_IFMT)
    }
}

/// One attempt. Whether it succeeds is nobody's business.
pub(crate) fn write_once(fd: i32, line: &[u8]) {
    // SAFETY: the buffer is valid for its length.
    unsafe { libc::write(fd, line.as_ptr().cast(), line.len()) };
}

/// One attempt on a socket, without waiting and without SIGPIPE.
pub(crate) fn send_once(fd: i32, line: &[u8], flags: i32) {
    // SAFETY: the buffer is valid for its length.
    unsafe { libc::send(fd, line.as_ptr().cast(), line.len(), flags) };
}

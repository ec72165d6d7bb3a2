//! The system calls of the dying path and its reaper.

use std::convert::Infallible;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use super::processes::Pidfd;
use super::{
    SharedNumber, darwin, errno, exit_now, is_absent, map_page, own_pid, process_group,
    release_page, signal_group, signal_process, sleep,
};

/// How long fork(2) may take. It runs the program's pthread_atfork(3) handlers, which may wait for the program's locks.
const FORK_PATIENCE: Duration = Duration::from_secs(2);

/// The reaper. It is not a child of this process, so neither the program's waits nor a walk over the descendants find
/// it.
#[derive(Clone, Copy)]
pub(crate) struct QuietChild {
    pid: i32,
    /// `None` if it had already ended.
    process: Option<Pidfd>,
}

impl QuietChild {
    /// Forks twice. The grandchild runs `body` and exits with status 0. Returns `None` if a process could not be made.
    ///
    /// The child in between ends at once. A program that waits for any child may see it. If the forks take longer than
    /// `FORK_PATIENCE`, this process exits.
    ///
    /// # Safety
    /// The grandchild has a copy of our memory, but only this thread. `body` must only make system calls and must take
    /// no lock.
    pub(crate) unsafe fn fork(body: impl FnOnce()) -> Option<QuietChild> {
        let number = SharedNumber::new()?;
        let _deadline = Deadline::begin();
        // SAFETY: the caller's promise. The process in between only calls fork(2) and makes system calls.
        let between = unsafe { libc::fork() };
        if between == 0 {
            // SAFETY: as above.
            match unsafe { libc::fork() } {
                0 => body(),
                child => number.set(child),
            }
            exit_child();
        }
        if between < 0 {
            return None;
        }
        BETWEEN.store(between, Ordering::Release);
        // It fails with ECHILD if another thread of the program has already reaped the child.
        // SAFETY: our own child, and a null pointer for the status.
        while unsafe { libc::waitpid(between, ptr::null_mut(), 0) } == -1 && errno() == libc::EINTR
        {
        }
        let pid = Some(number.get()).filter(|child| *child > 0)?;
        Some(QuietChild { pid, process: Pidfd::open(pid).ok() })
    }

    /// Always `None`: this process need not leave its group. See `LISTS_MEMBERS`.
    pub(crate) fn leader_of_a_new_group() -> Option<QuietChild> {
        None
    }

    pub(crate) fn pid(self) -> i32 {
        self.pid
    }

    pub(crate) fn kill(self) {
        if let Some(process) = self.process {
            process.signal(libc::SIGKILL);
        }
    }

    /// Does nothing: launchd reaps it.
    pub(crate) fn reap(self) {}
}

/// A deadline for forking: unless this is dropped within `FORK_PATIENCE`, the process exits.
struct Deadline;

static IS_FORKING: AtomicBool = AtomicBool::new(false);
/// The child that makes the second fork.
static BETWEEN: AtomicI32 = AtomicI32::new(0);

impl Deadline {
    /// Starts the deadline, on a thread. If no thread can be made, there is no deadline. Allocates nothing.
    fn begin() -> Deadline {
        extern "C" fn exit_unless_forked(_: *mut c_void) -> *mut c_void {
            sleep(FORK_PATIENCE);
            if IS_FORKING.load(Ordering::Acquire) {
                let between = BETWEEN.load(Ordering::Acquire);
                if between > 0 {
                    signal_process(between, libc::SIGKILL);
                }
                // The same as where no reaper can be forked.
                if process_group() == own_pid() {
                    signal_group(own_pid(), libc::SIGKILL);
                }
                exit_now();
            }
            ptr::null_mut()
        }
        BETWEEN.store(0, Ordering::Release);
        IS_FORKING.store(true, Ordering::Release);
        let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
        // SAFETY: room for the thread's handle. The thread gets no argument and is detached.
        unsafe {
            let failed = libc::pthread_create(
                thread.as_mut_ptr(),
                ptr::null(),
                exit_unless_forked,
                ptr::null_mut(),
            );
            if failed == 0 {
                libc::pthread_detach(thread.assume_init());
            }
        }
        Deadline
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        IS_FORKING.store(false, Ordering::Release);
    }
}

/// Ends a forked child with status 0.
pub(crate) fn exit_child() -> ! {
    // SAFETY: ends this process without running exit handlers.
    unsafe { libc::_exit(0) }
}

/// Moves this process into a group of its session. 0 makes a new group. Returns whether it worked.
pub(crate) fn join_group(group: i32) -> bool {
    // SAFETY: a system call of integers about ourselves.
    unsafe { libc::setpgid(0, group) == 0 }
}

/// The session of this process.
pub(crate) fn session() -> i32 {
    // SAFETY: only reads an attribute of this process.
    unsafe { libc::getsid(0) }
}

/// launchd adopts all orphans.
pub(crate) const HAS_SUBREAPERS: bool = false;

pub(crate) fn become_subreaper() {}

/// Whether the process that has forked this reaper still exists.
pub(crate) fn is_parent(pid: i32) -> bool {
    !is_absent(pid)
}

/// The time on `CLOCK_MONOTONIC`.
pub(crate) fn uptime() -> Duration {
    time_on(libc::CLOCK_MONOTONIC)
}

/// The processor time that this thread has used.
pub(crate) fn cpu_time() -> Duration {
    time_on(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn time_on(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for the answer.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Changes to the root directory, so that the file system of the working directory can be unmounted.
pub(crate) fn change_to_root() {
    // SAFETY: a C string.
    unsafe { libc::chdir(c"/".as_ptr()) };
}

/// Does nothing: the reaper keeps its copy-on-write copy of the worker's memory.
///
/// # Safety
/// Has no requirement. It is unsafe only because the Linux version is.
pub(crate) unsafe fn release_memory() {}

/// Closes the descriptors of this process. Returns whether that worked.
pub(crate) fn close_all_but(kept: &[i32]) -> bool {
    const NONE: darwin::proc_fdinfo = darwin::proc_fdinfo { proc_fd: -1, proc_fdtype: 0 };
    // One list holds 256 descriptors. Repeats until none is left to close.
    for _ in 0..1_000 {
        let mut found = [NONE; 256];
        let size = i32::try_from(size_of_val(&found)).unwrap_or(0);
        let room = found.as_mut_ptr().cast::<c_void>();
        // SAFETY: room of that size.
        let filled =
            unsafe { darwin::proc_pidinfo(own_pid(), darwin::PROC_PIDLISTFDS, 0, room, size) };
        if filled <= 0 {
            return false;
        }
        let mut closed = 0;
        for fd in found.iter().map(|it| it.proc_fd).filter(|fd| *fd >= 0 && !kept.contains(fd)) {
            // SAFETY: the caller promises that these descriptors are no longer used.
            closed += usize::from(unsafe { libc::close(fd) } == 0);
        }
        if closed == 0 {
            return true;
        }
    }
    false
}

/// Whether the process is Python's or joblib's resource tracker, judged by its arguments. The tracker ignores SIGTERM
/// and cleans up shared memory once its last user is gone.
pub(crate) fn is_resource_tracker(pid: i32) -> bool {
    const COMMAND: &[u8] = b"resource_tracker import main";
    /// Room for all arguments and the environment: `ARG_MAX` is 1 MiB. With less room the kernel returns only their end
    /// (`sysctl_procargsx` of xnu's bsd/kern/kern_sysctl.c).
    const ROOM: usize = (1 << 20) + (64 << 10);
    let Some(page) = map_page(ROOM) else { return false };
    let mut name = [darwin::CTL_KERN, darwin::KERN_PROCARGS2, pid];
    let mut length = ROOM;
    // SAFETY: room of that length. Only the filled part is read.
    let begins = unsafe {
        let asked =
            darwin::sysctl(name.as_mut_ptr(), 3, page.cast(), &raw mut length, ptr::null_mut(), 0);
        let filled = if asked == 0 { length.min(4096) } else { 0 };
        std::slice::from_raw_parts(page, filled)
    };
    let is_tracker = begins.windows(COMMAND.len()).any(|part| part == COMMAND);
    release_page(page, ROOM);
    is_tracker
}

/// A type without a value: macOS has neither marks nor guardians.
#[derive(Clone, Copy)]
pub(crate) struct Mark(Infallible);

impl Mark {
    pub(crate) fn is_carried_by(self, _pid: i32) -> bool {
        match self.0 {}
    }
}

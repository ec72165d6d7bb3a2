//! What the dying path and its reaper do.

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

/// How long fork(2) may take. It runs what the program has given to pthread_atfork(3), which may take its locks.
const FORK_PATIENCE: Duration = Duration::from_secs(2);

/// The reaper: no child of this process, so that the program does not find it in its waits, and a walk over the
/// descendants does not find it either.
#[derive(Clone, Copy)]
pub(crate) struct QuietChild {
    pid: i32,
    /// `None`: it has ended already.
    process: Option<Pidfd>,
}

impl QuietChild {
    /// Forks twice. `None` when there is no process to be had. `body` runs in the grandchild, which then exits with
    /// status 0. A program that waits for any child may find the one in between, which ends at once.
    ///
    /// Should it take longer than its patience, this process exits.
    ///
    /// # Safety
    /// The grandchild has a copy of our memory and of this thread alone: `body` must make system calls only, and must
    /// take no lock.
    pub(crate) unsafe fn fork(body: impl FnOnce()) -> Option<QuietChild> {
        let number = SharedNumber::new()?;
        let _in_time = InTime::begin();
        // SAFETY: the caller's promise. The process in between makes system calls alone, but for fork(2).
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
        // ECHILD when another thread of the program has waited for it.
        // SAFETY: our own child; no status is wanted.
        while unsafe { libc::waitpid(between, ptr::null_mut(), 0) } == -1 && errno() == libc::EINTR
        {
        }
        let pid = Some(number.get()).filter(|child| *child > 0)?;
        Some(QuietChild { pid, process: Pidfd::open(pid).ok() })
    }

    /// Nobody needs to leave a group here: see `LISTS_MEMBERS`.
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

    /// launchd does that.
    pub(crate) fn reap(self) {}
}

/// While it lives, this process has a deadline.
struct InTime;

static IS_FORKING: AtomicBool = AtomicBool::new(false);
/// The process that forks for the second time.
static BETWEEN: AtomicI32 = AtomicI32::new(0);

impl InTime {
    /// Without a thread there is no deadline. Nothing is allocated.
    fn begin() -> InTime {
        extern "C" fn exit_unless_forked(_: *mut c_void) -> *mut c_void {
            sleep(FORK_PATIENCE);
            if IS_FORKING.load(Ordering::Acquire) {
                let between = BETWEEN.load(Ordering::Acquire);
                if between > 0 {
                    signal_process(between, libc::SIGKILL);
                }
                // As when there is no process for the reaper.
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
        // SAFETY: room for the thread, which takes nothing with it and is not asked for again.
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
        InTime
    }
}

impl Drop for InTime {
    fn drop(&mut self) {
        IS_FORKING.store(false, Ordering::Release);
    }
}

/// The end of a forked child, with status 0.
pub(crate) fn exit_child() -> ! {
    // SAFETY: ends this process, without exit handlers.
    unsafe { libc::_exit(0) }
}

/// Moves this process into a group of its session: 0 makes one of its own. Whether it worked.
pub(crate) fn join_group(group: i32) -> bool {
    // SAFETY: a system call of integers about ourselves.
    unsafe { libc::setpgid(0, group) == 0 }
}

/// The session that this process is in.
pub(crate) fn session() -> i32 {
    // SAFETY: asks about ourselves.
    unsafe { libc::getsid(0) }
}

/// Whoever loses its parent becomes launchd's child.
pub(crate) const HAS_SUBREAPERS: bool = false;

pub(crate) fn become_subreaper() {}

/// Whether the process that this reaper is for is still there.
pub(crate) fn is_parent(pid: i32) -> bool {
    !is_absent(pid)
}

/// Time that has passed.
pub(crate) fn uptime() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Leaves the working directory, which may be on a file system that is to be unmounted.
pub(crate) fn change_to_root() {
    // SAFETY: a C string.
    unsafe { libc::chdir(c"/".as_ptr()) };
}

/// A copy of the worker's memory stays, shared with it until one of them writes.
///
/// # Safety
/// None is needed.
pub(crate) unsafe fn release_memory() {}

/// Closes the descriptors of this process; whether that could be done.
pub(crate) fn close_all_but(kept: &[i32]) -> bool {
    const NONE: darwin::proc_fdinfo = darwin::proc_fdinfo { proc_fd: -1, proc_fdtype: 0 };
    // As long as others are closed, there may be more.
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
            // SAFETY: the caller says that nobody uses these any more.
            closed += usize::from(unsafe { libc::close(fd) } == 0);
        }
        if closed == 0 {
            return true;
        }
    }
    false
}

/// Whether it is Python's resource tracker, or joblib's, by its arguments. It cleans up shared memory when the last of
/// its users is gone, and ignores SIGTERM.
pub(crate) fn is_resource_tracker(pid: i32) -> bool {
    const COMMAND: &[u8] = b"resource_tracker import main";
    /// With less room than there are arguments and environment, the kernel gives their end (`sysctl_procargsx` of
    /// xnu's bsd/kern/kern_sysctl.c). They are at most `ARG_MAX`, 1 MiB.
    const ROOM: usize = (1 << 20) + (64 << 10);
    let Some(page) = map_page(ROOM) else { return false };
    let mut name = [darwin::CTL_KERN, darwin::KERN_PROCARGS2, pid];
    let mut length = ROOM;
    // SAFETY: room of that length, of which as much is read as was filled.
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

/// What the descendants of a guarded program are known by. There is none, and no guardian.
#[derive(Clone, Copy)]
pub(crate) struct Mark(Infallible);

impl Mark {
    pub(crate) fn is_carried_by(self, _pid: i32) -> bool {
        match self.0 {}
    }
}

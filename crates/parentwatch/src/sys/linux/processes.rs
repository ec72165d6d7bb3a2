//! The system calls of the dying path and its reaper, one function for each. Where the reaper makes them, they are raw
//! system calls: a libc wrapper may touch memory that the reaper has unmapped.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::time::Duration;

use super::super::HOOK_NAME;
use super::{Pidfd, errno, has_thread, wait};

/// Descendants can be found in every process group.
pub(crate) const HAS_TREE: bool = true;

/// This process can adopt its orphaned descendants.
pub(crate) const HAS_SUBREAPERS: bool = true;

/// No call lists the members of a process group: finding them takes a look at all processes.
pub(crate) const LISTS_MEMBERS: bool = false;

/// Signal 0: only checks for the process (kill(2)).
pub(crate) const NO_SIGNAL: i32 = 0;

/// Signals a process by its id. Returns the error number, or 0.
pub(crate) fn signal_process(pid: i32, signal: i32) -> i32 {
    kill(pid.max(1), signal)
}

/// Signals the members of a process group. Returns the error number, or 0.
pub(crate) fn signal_group(group: i32, signal: i32) -> i32 {
    // kill(2) with −1 would signal every process.
    if group > 1 { kill(-group, signal) } else { libc::ESRCH }
}

fn kill(pid: i32, signal: i32) -> i32 {
    // SAFETY: a system call of two integers.
    if unsafe { libc::syscall(libc::SYS_kill, pid, signal) } == 0 { 0 } else { errno() }
}

/// Moves this process into a group of its session. 0 makes a new group. Returns whether it worked.
pub(crate) fn join_group(group: i32) -> bool {
    // SAFETY: a system call of integers about ourselves.
    unsafe { libc::syscall(libc::SYS_setpgid, 0, group) == 0 }
}

/// The session of this process. 0 if its leader is outside of our PID namespace.
pub(crate) fn session() -> i32 {
    // SAFETY: only reads an attribute of this process.
    unsafe { libc::getsid(0) }
}

/// From now on this process adopts its orphaned descendants (prctl(2), Linux 3.4).
pub(crate) fn become_subreaper() {
    // SAFETY: sets an attribute of this process.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// Whether this process has a child. A zombie counts.
pub(crate) fn has_child() -> bool {
    let mut found = MaybeUninit::<libc::siginfo_t>::uninit();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: room for the answer. The call neither blocks nor reaps.
    let asked = unsafe { libc::waitid(libc::P_ALL, 0, found.as_mut_ptr(), options) };
    asked == 0 || errno() != libc::ECHILD
}

/// The calling thread's id.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: no arguments, no failure.
    i32::try_from(unsafe { libc::syscall(libc::SYS_gettid) }).unwrap_or(0)
}

/// A child that sends no SIGCHLD. Only a wait with `__WALL` or `__WCLONE` sees it (wait(2)), so the program's waits do
/// not.
#[derive(Clone, Copy)]
pub(crate) struct QuietChild(i32);

impl QuietChild {
    /// Forks without the handlers of pthread_atfork(3), which take locks. The child runs `body` and exits with status
    /// 0. Returns `None` if no process could be made.
    ///
    /// # Safety
    /// The child has a copy of our memory, but only this thread. `body` must only make system calls and must take no
    /// lock.
    pub(crate) unsafe fn fork(body: impl FnOnce()) -> Option<QuietChild> {
        const NONE: libc::c_ulong = 0;
        // The order of the arguments differs by processor (clone(2)). All are 0: no flags, the same stack, no pointers.
        // SAFETY: the caller's promise.
        match unsafe { libc::syscall(libc::SYS_clone, NONE, NONE, NONE, NONE, NONE) } {
            0 => {
                body();
                exit_child()
            }
            child => i32::try_from(child).ok().filter(|child| *child > 0).map(QuietChild),
        }
    }

    /// Starts a child that makes a process group and ends. As a zombie it keeps the group alive. This thread is
    /// suspended until then (clone(2), `CLONE_VFORK`). The child shares our memory, so that none of it is copied.
    pub(crate) fn leader_of_a_new_group() -> Option<QuietChild> {
        extern "C" fn lead(_: *mut c_void) -> i32 {
            i32::from(!join_group(0))
        }
        // Not this thread's stack: thread-local storage of the program may leave little of it.
        #[repr(align(16))]
        struct Stack(UnsafeCell<[u8; 16 << 10]>);
        // SAFETY: a process dies once, so at most one child runs on it.
        unsafe impl Sync for Stack {}
        static STACK: Stack = Stack(UnsafeCell::new([0; 16 << 10]));
        // The stack grows downwards on every processor for which Rust supports Linux.
        let top = STACK.0.get().wrapping_add(1);
        let flags = libc::CLONE_VM | libc::CLONE_VFORK;
        // SAFETY: the stack is large enough for one system call, aligned, and not used elsewhere. All signals that can
        // have a handler are blocked, so no handler runs in the child.
        let child = unsafe { libc::clone(lead, top.cast(), flags, std::ptr::null_mut()) };
        (child > 0).then_some(QuietChild(child))
    }

    pub(crate) fn pid(self) -> i32 {
        self.0
    }

    /// Kills and reaps it. Its process id cannot be reused before it is reaped.
    pub(crate) fn kill(self) {
        kill(self.0, libc::SIGKILL);
        self.reap();
    }

    /// Reaps a child that ends by itself. Waits without a bound.
    pub(crate) fn reap_for_sure(self) {
        // SAFETY: our own child, and a null pointer for the status.
        while unsafe { libc::waitpid(self.0, std::ptr::null_mut(), libc::__WALL) } == -1
            && errno() == libc::EINTR
        {}
    }

    /// Reaps a child that is about to end, so that our adopter does not inherit it. Waits for 5 ms at most.
    pub(crate) fn reap(self) {
        self.reap_within(Duration::from_millis(5));
    }

    /// Reaps a child if it ends within that time.
    pub(crate) fn reap_within(self, patience: Duration) {
        const MOMENT: Duration = Duration::from_millis(1);
        // SAFETY: our own child, and a null pointer for the status.
        let is_reaped = || unsafe {
            libc::waitpid(self.0, std::ptr::null_mut(), libc::__WALL | libc::WNOHANG) != 0
        };
        if is_reaped() {
            return;
        }
        // A pidfd wakes us as soon as the child has ended. Even the shortest sleep takes 70 µs or more.
        let pidfd = Pidfd::open(self.0).ok();
        let until = uptime().saturating_add(patience);
        while uptime() < until {
            wait([pidfd], Some(MOMENT));
            if is_reaped() {
                break;
            }
        }
        if let Some(pidfd) = pidfd {
            pidfd.close();
        }
    }
}

/// Marks this process: a copy of this library in it has a hook. The mark is a page at an address that every copy can
/// compute and that hardly anything else uses. A forked child does not have it.
pub(crate) fn mark_hook() {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: the call replaces no mapping. Linux before 4.17 ignores the flag and takes the address as a hint
    // (mmap(2)).
    unsafe {
        let page = libc::mmap(mark(), 1, libc::PROT_NONE, flags, -1, 0);
        if page != libc::MAP_FAILED {
            libc::madvise(page, 1, libc::MADV_DONTFORK);
        }
    }
}

/// Whether another copy of this library in this process has a hook that is not done. Checks the mark first, since a
/// look at all threads is slow.
pub(crate) fn has_other_hook(own_hook: i32) -> bool {
    let mut residency = 0;
    // SAFETY: only queries one page, which need not be mapped. There is room for the answer.
    let is_marked = unsafe { libc::mincore(mark(), 1, &raw mut residency) == 0 };
    is_marked && has_thread(HOOK_NAME, own_hook)
}

/// The address of the mark, in the lower part of every address space. It is derived from the random bytes that the
/// kernel gives each program (getauxval(3), `AT_RANDOM`).
fn mark() -> *mut c_void {
    // SAFETY: the entry of the auxiliary vector is the address of 16 bytes, or 0.
    let random = unsafe {
        let bytes = libc::getauxval(libc::AT_RANDOM) as *const usize;
        if bytes.is_null() { 0 } else { bytes.read_unaligned() }
    };
    const PAGE: usize = 64 << 10;
    let (from, span) = (usize::MAX >> 30, usize::MAX >> 28);
    ((from + random % span) / PAGE * PAGE) as *mut c_void
}

/// Ends a forked child with status 0.
pub(crate) fn exit_child() -> ! {
    loop {
        // SAFETY: ends this process.
        unsafe { libc::syscall(libc::SYS_exit_group, 0) };
    }
}

/// Whether the process is still our parent. Uses the raw system call.
pub(crate) fn is_parent(pid: i32) -> bool {
    // SAFETY: no arguments, no failure.
    unsafe { libc::syscall(libc::SYS_getppid) == libc::c_long::from(pid) }
}

/// The time on `CLOCK_MONOTONIC`.
pub(crate) fn uptime() -> Duration {
    time_on(libc::CLOCK_MONOTONIC)
}

/// The processor time that this thread has used.
pub(crate) fn cpu_time() -> Duration {
    time_on(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Uses the raw system call.
fn time_on(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for the answer.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Changes to the root directory, so that the file system of the working directory can be unmounted.
pub(crate) fn change_to_root() {
    // SAFETY: a C string.
    unsafe { libc::syscall(libc::SYS_chdir, c"/".as_ptr()) };
}

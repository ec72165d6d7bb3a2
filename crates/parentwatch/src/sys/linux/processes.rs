//! What the dying path and its reaper do to processes: one function for each system call. All of them are raw
//! system calls where the reaper makes them: a libc wrapper may touch memory that the reaper has unmapped.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::time::Duration;

use super::super::HOOK_NAME;
use super::{Pidfd, errno, has_thread, wait};

/// Descendants can be found, whatever their group.
pub(crate) const HAS_TREE: bool = true;

/// Whoever loses its parent can become this process's child.
pub(crate) const HAS_SUBREAPERS: bool = true;

/// The members of a process group are found by a look at all processes.
pub(crate) const LISTS_MEMBERS: bool = false;

/// Nothing: only asks (kill(2)).
pub(crate) const NO_SIGNAL: i32 = 0;

/// Signals a process by its number; the error number, or 0.
pub(crate) fn signal_process(pid: i32, signal: i32) -> i32 {
    kill(pid.max(1), signal)
}

/// Signals the members of a process group; the error number, or 0.
pub(crate) fn signal_group(group: i32, signal: i32) -> i32 {
    // Never everybody: −1 has another meaning.
    if group > 1 { kill(-group, signal) } else { libc::ESRCH }
}

fn kill(pid: i32, signal: i32) -> i32 {
    // SAFETY: a system call of two integers.
    if unsafe { libc::syscall(libc::SYS_kill, pid, signal) } == 0 { 0 } else { errno() }
}

/// Moves this process into a group of its session: 0 makes one of its own. Whether it worked.
pub(crate) fn join_group(group: i32) -> bool {
    // SAFETY: a system call of integers about ourselves.
    unsafe { libc::syscall(libc::SYS_setpgid, 0, group) == 0 }
}

/// The session that this process is in; 0 when its leader is outside of our PID namespace.
pub(crate) fn session() -> i32 {
    // SAFETY: asks about ourselves.
    unsafe { libc::getsid(0) }
}

/// From now on whoever loses its parent below this process becomes its child (prctl(2), Linux 3.4).
pub(crate) fn become_subreaper() {
    // SAFETY: sets an attribute of this process.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// Whether the process has a child now, also one that nobody has waited for yet.
pub(crate) fn has_child() -> bool {
    let mut found = MaybeUninit::<libc::siginfo_t>::uninit();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: room for the answer; nobody is waited for, and nobody reaped.
    let asked = unsafe { libc::waitid(libc::P_ALL, 0, found.as_mut_ptr(), options) };
    asked == 0 || errno() != libc::ECHILD
}

/// The calling thread's id.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: no arguments, no failure.
    i32::try_from(unsafe { libc::syscall(libc::SYS_gettid) }).unwrap_or(0)
}

/// A child that nobody's wait sees but one for it (`__WCLONE`, wait(2)): it sends no SIGCHLD.
#[derive(Clone, Copy)]
pub(crate) struct QuietChild(i32);

impl QuietChild {
    /// fork(2) without the handlers of pthread_atfork(3), which take locks. `None` when there is no process to be
    /// had. `body` runs in the child,
    /// which then exits with status 0.
    ///
    /// # Safety
    /// The child has a copy of our memory and of this thread alone: `body` must make system calls only, and must
    /// take no lock.
    pub(crate) unsafe fn fork(body: impl FnOnce()) -> Option<QuietChild> {
        const NONE: libc::c_ulong = 0;
        // No flags, no stack of its own, nowhere to write a number to: in whatever order they come (clone(2)).
        // SAFETY: the caller's promise.
        match unsafe { libc::syscall(libc::SYS_clone, NONE, NONE, NONE, NONE, NONE) } {
            0 => {
                body();
                exit_child()
            }
            child => i32::try_from(child).ok().filter(|child| *child > 0).map(QuietChild),
        }
    }

    /// A child that shares our memory (so that nothing of it is copied, however large it is), makes a process
    /// group and ends; we are held until then (clone(2), `CLONE_VFORK`). As a zombie it still holds the group.
    pub(crate) fn leader_of_a_new_group() -> Option<QuietChild> {
        extern "C" fn lead(_: *mut c_void) -> i32 {
            i32::from(!join_group(0))
        }
        // Not on this thread's stack, of which a program with much thread-local storage leaves little.
        #[repr(align(16))]
        struct Stack(UnsafeCell<[u8; 16 << 10]>);
        // SAFETY: a process dies once, so that one child at most runs on it.
        unsafe impl Sync for Stack {}
        static STACK: Stack = Stack(UnsafeCell::new([0; 16 << 10]));
        // The stack grows downwards on every processor that Rust has Linux for.
        let top = STACK.0.get().wrapping_add(1);
        let flags = libc::CLONE_VM | libc::CLONE_VFORK;
        // SAFETY: the stack is large enough for one system call, aligned, and used by nobody else. All signals
        // that a handler could be called for are blocked, so that none runs in the child.
        let child = unsafe { libc::clone(lead, top.cast(), flags, std::ptr::null_mut()) };
        (child > 0).then_some(QuietChild(child))
    }

    pub(crate) fn pid(self) -> i32 {
        self.0
    }

    /// Kills it, and takes it away. Until it is taken away its number is its own.
    pub(crate) fn kill(self) {
        kill(self.0, libc::SIGKILL);
        self.reap();
    }

    /// Takes away a child that ends by itself, however long that takes.
    pub(crate) fn reap_for_sure(self) {
        // SAFETY: our own child; no status is wanted.
        while unsafe { libc::waitpid(self.0, std::ptr::null_mut(), libc::__WALL) } == -1
            && errno() == libc::EINTR
        {}
    }

    /// Takes away a child that is about to end, so that our adopter does not find it. The wait is bounded.
    pub(crate) fn reap(self) {
        self.reap_within(Duration::from_millis(5));
    }

    /// Takes away a child if it ends within that time.
    pub(crate) fn reap_within(self, patience: Duration) {
        const MOMENT: Duration = Duration::from_millis(1);
        // SAFETY: our own child; no status is wanted.
        let is_reaped = || unsafe {
            libc::waitpid(self.0, std::ptr::null_mut(), libc::__WALL | libc::WNOHANG) != 0
        };
        if is_reaped() {
            return;
        }
        // A pidfd wakes us the moment that it has ended; a sleep, however short, takes 70 µs and more.
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

/// A page that marks this process: one of the copies of this library in it has a hook. It lies at an address that every
/// copy can compute, and that nothing else is likely to have. A forked child does not have it.
pub(crate) fn mark_hook() {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: it replaces nothing (mmap(2); before Linux 4.17 the flag is ignored and the address a hint).
    unsafe {
        let page = libc::mmap(mark(), 1, libc::PROT_NONE, flags, -1, 0);
        if page != libc::MAP_FAILED {
            libc::madvise(page, 1, libc::MADV_DONTFORK);
        }
    }
}

/// Whether another copy of this library in this process has a hook that is not done. The mark is asked first, since a
/// look at all threads takes its time.
pub(crate) fn has_other_hook(own_hook: i32) -> bool {
    let mut residency = 0;
    // SAFETY: asks about one page, which need not be mapped; room for the answer.
    let is_marked = unsafe { libc::mincore(mark(), 1, &raw mut residency) == 0 };
    is_marked && has_thread(HOOK_NAME, own_hook)
}

/// In the lower part of every address space, by the random bytes that the kernel gives each program (getauxval(3),
/// `AT_RANDOM`).
fn mark() -> *mut c_void {
    // SAFETY: asks for the auxiliary vector, which has the address of 16 bytes.
    let random = unsafe {
        let bytes = libc::getauxval(libc::AT_RANDOM) as *const usize;
        if bytes.is_null() { 0 } else { bytes.read_unaligned() }
    };
    const PAGE: usize = 64 << 10;
    let (from, span) = (usize::MAX >> 30, usize::MAX >> 28);
    ((from + random % span) / PAGE * PAGE) as *mut c_void
}

/// The end of a forked child, with status 0.
pub(crate) fn exit_child() -> ! {
    loop {
        // SAFETY: ends this process.
        unsafe { libc::syscall(libc::SYS_exit_group, 0) };
    }
}

/// Whether the process is still our parent, by the raw system call.
pub(crate) fn is_parent(pid: i32) -> bool {
    // SAFETY: no arguments, no failure.
    unsafe { libc::syscall(libc::SYS_getppid) == libc::c_long::from(pid) }
}

/// Time that has passed (`CLOCK_MONOTONIC`), by the raw system call.
pub(crate) fn uptime() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for the answer.
    unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Leaves the working directory, which may be on a file system that is to be unmounted.
pub(crate) fn change_to_root() {
    // SAFETY: a C string.
    unsafe { libc::syscall(libc::SYS_chdir, c"/".as_ptr()) };
}

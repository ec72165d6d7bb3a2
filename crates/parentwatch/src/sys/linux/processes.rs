//! The system calls of the dying path and its reaper, one function for each. Where the reaper makes them, they are raw
//! system calls: a libc wrapper may touch memory that the reaper has unmapped.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::time::Duration;

use super::{Pidfd, errno, own_pid, wait};

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

/// While it exists, other copies of this library in this process see that this one has a hook that is not done. It is a
/// page at an address that every copy can compute and that hardly anything else uses. It holds a number. A forked child
/// does not have it.
pub(crate) struct HookMark(*mut u32);

// SAFETY: the page belongs to the process, not to a thread.
unsafe impl Send for HookMark {}

impl HookMark {
    /// `None`: there is no page at any place, and other copies do not see the hook.
    pub(crate) fn new() -> Option<HookMark> {
        HookMark::places().find_map(HookMark::at)
    }

    /// Uses raw system calls: ThreadSanitizer ends a program in which libc's mmap returns such an address.
    fn at(place: *mut u32) -> Option<HookMark> {
        const SIZE: usize = size_of::<u32>();
        // Never called with addresses of 32 bits, where the call differs.
        #[cfg(not(target_arch = "arm"))]
        use libc::SYS_mmap;
        #[cfg(target_arch = "arm")]
        use libc::SYS_mmap2 as SYS_mmap;
        let access = libc::c_long::from(libc::PROT_READ | libc::PROT_WRITE);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let (flags, no_file, offset) = (libc::c_long::from(flags), -1_isize, 0_isize);
        // SAFETY: the call replaces no mapping. Linux before 4.17 takes the address as a hint (mmap(2)): the page may
        // then be elsewhere, and is ours all the same.
        unsafe {
            let page = libc::syscall(SYS_mmap, place, SIZE, access, flags, no_file, offset);
            if page == -1 {
                return None;
            }
            let mark = HookMark(page as *mut u32);
            libc::madvise(mark.0.cast(), SIZE, libc::MADV_DONTFORK);
            mark.0.write(HookMark::number());
            (mark.0 == place).then_some(mark)
        }
    }

    /// In two parts of the address space, since a program may have reserved one: AddressSanitizer has, on x86-64 the
    /// lower one. An address space of 39 bits has only that. The address of `AT_RANDOM` (getauxval(3)) on the main stack
    /// is random and stays the same. Its bytes do not: Go's runtime overwrites them.
    fn places() -> impl Iterator<Item = *mut u32> {
        const COPIES: usize = 4;
        /// The largest page of any processor.
        const PAGE: usize = 64 << 10;
        // SAFETY: only reads an entry of the auxiliary vector.
        let random = unsafe { libc::getauxval(libc::AT_RANDOM) } as usize;
        let parts = [45, 36].into_iter().filter_map(|bits| 1usize.checked_shl(bits));
        parts.flat_map(move |part| {
            let first = (part + random % part) / PAGE * PAGE;
            (0..COPIES).map(move |number| (first + number * PAGE) as *mut u32)
        })
    }

    /// A child that has inherited the page all the same has another process id.
    fn number() -> u32 {
        0x4057_9ac3 ^ own_pid().cast_unsigned()
    }

    /// Whether a copy of this library in this process has a hook that is not done.
    pub(crate) fn exists() -> bool {
        let (wait, number) = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, HookMark::number());
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        HookMark::places().any(|place| {
            // The kernel compares, and fails at once if another number is there (EAGAIN) or none that can be read
            // (EFAULT, futex(2)). mincore(2) would say more of the place, but systemd's `@system-service` filter, which
            // kills, does not allow it.
            // SAFETY: the call does not change the page. The time is valid.
            let waited =
                unsafe { libc::syscall(libc::SYS_futex, place, wait, number, &raw const at_once) };
            waited == 0 || matches!(errno(), libc::ETIMEDOUT | libc::EINTR)
        })
    }
}

impl Drop for HookMark {
    fn drop(&mut self) {
        // SAFETY: the page is ours and used nowhere else.
        unsafe { libc::syscall(libc::SYS_munmap, self.0, size_of::<u32>()) };
    }
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

#[cfg(all(test, not(parentwatch_macos_shim)))]
mod tests {
    use std::time::Instant;

    use super::super::{SharedNumber, SignalsBlocked};
    use super::*;
    use crate::die::hook::{Hook, HookThread};
    use crate::sys::nap;

    // One test: the marks are those of the whole process.
    #[test]
    fn other_copies_see_a_hook_from_arming_until_it_is_done() {
        let spawn = || HookThread::spawn(Hook::closure(|| {}), &SignalsBlocked::all()).unwrap();
        for _ in 0..200 {
            let hook = spawn();
            assert!(HookMark::exists(), "armed");
            hook.run(Duration::from_secs(60));
            assert!(!HookMark::exists(), "done");
        }

        let (cancelled, other) = (spawn(), spawn());
        cancelled.cancel();
        assert!(HookMark::exists(), "the other is not done");
        let is_seen_in_child = SharedNumber::new().unwrap();
        is_seen_in_child.set(-1);
        // SAFETY: the child only makes system calls.
        let child =
            unsafe { QuietChild::fork(|| is_seen_in_child.set(i32::from(HookMark::exists()))) };
        child.unwrap().reap_for_sure();
        assert_eq!(is_seen_in_child.get(), 0);

        other.cancel();
        let deadline = Instant::now() + Duration::from_secs(60);
        while HookMark::exists() {
            assert!(Instant::now() < deadline, "cancelled");
            nap(Duration::from_millis(1));
        }

        // Pages of somebody else, which cannot be read, are in all places.
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: new mappings, which nothing uses.
        let map = |place| unsafe { libc::mmap(place, 1, libc::PROT_NONE, flags, -1, 0) };
        let taken: Vec<_> = HookMark::places().map(|place| map(place.cast())).collect();
        assert!(!HookMark::exists());
        assert!(HookMark::new().is_none());
        for page in taken.into_iter().filter(|page| *page != libc::MAP_FAILED) {
            // SAFETY: mapped above.
            unsafe { libc::munmap(page, 1) };
        }
    }
}

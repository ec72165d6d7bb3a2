//! The end of the helpers in the worker's process group: SIGTERM now, SIGKILL 1 s after the worker is
//! gone. Not SIGKILL at once: Python's multiprocessing resource tracker ignores SIGTERM, and cleans
//! `/dev/shm` when the last of its users is gone. So it is also the last to be killed.
//!
//! Everything here runs in the dying path or in a forked child of it: system calls alone, no locks, no
//! allocation.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::time::Duration;

use super::memory::let_go_of_memory;
use super::processes::ProcessIds;
use super::procfs::{is_in_group, is_resource_tracker, procfs_is_ours};
use super::{errno, own_pid, process_group, wait};

/// What the helpers have, once the worker is gone, to end by themselves.
const HELPER_GRACE: Duration = Duration::from_secs(1);
/// How long the reaper waits for the worker to be gone: the kernel may be busy for long with what the
/// worker held.
const WORKER_PATIENCE: Duration = Duration::from_secs(10);
/// What a resource tracker, which holds nothing of weight itself, has to clean up in, once every other helper
/// has been killed.
const TRACKER_GRACE: Duration = Duration::from_secs(5);
/// How often the reaper looks whether helpers are left.
const LOOK: Duration = Duration::from_millis(10);

/// Ends the other members of our process group, when we lead it, or when its leader is `proven_leader`.
/// Otherwise nothing proves whose group it is, and its members live.
pub(crate) fn end_group(proven_leader: Option<i32>) {
    let Some(id) = group_to_end(proven_leader) else { return };
    let ours = id == own_pid();
    // SAFETY: asks about ourselves.
    let leads_session = ours && unsafe { libc::getsid(0) } == id;
    if leads_session {
        // A session leader cannot leave its group (setpgid(2): EPERM), so it can neither tell whether
        // there are others nor signal them without itself: its reaper does both.
        let group = Group::open(id);
        if !fork_reaper(&group, libc::SIGTERM, WORKER_PATIENCE) {
            group.signal(libc::SIGKILL);
        }
        return;
    }
    // The number of a group that we lead is our own: nobody else can have it while we live, and the pidfd,
    // which costs more than the question, is needed only for the reaper, which outlives us.
    let mut group = match ours {
        true => Group { id, leader: -1 },
        false => Group::open(id),
    };
    let Some(step) = StepOut::take(ours) else {
        // The last resort, for the helpers as well as for us: nor would there be a process for the reaper.
        group.signal(libc::SIGKILL);
        return;
    };
    if group.has_members() {
        group.signal(libc::SIGTERM);
        if ours {
            group = Group::open(id);
        }
        if !fork_reaper(&group, NO_SIGNAL, WORKER_PATIENCE) {
            group.signal(libc::SIGKILL);
        }
    }
    step.collect();
}

/// Makes a reaper that ends the same members once we are gone, in whatever way that comes about within `patience`
/// and what the kernel takes. Whether there is one; else they are still to be ended.
pub(crate) fn end_group_once_gone(proven_leader: Option<i32>, patience: Duration) -> bool {
    group_to_end(proven_leader).is_some_and(|id| {
        fork_reaper(&Group::open(id), libc::SIGTERM, patience.saturating_add(WORKER_PATIENCE))
    })
}

fn group_to_end(proven_leader: Option<i32>) -> Option<i32> {
    let id = process_group();
    (id > 1 && (id == own_pid() || proven_leader == Some(id))).then_some(id)
}

/// A process group, by its number and, where the kernel can, by the identity of its leader, so that a
/// number that has been reused is never signalled.
struct Group {
    id: i32,
    /// A pidfd on the leader, or −1.
    leader: i32,
}

/// Linux 6.9: the signal goes to the process group that the pidfd's process leads, or led.
const PIDFD_SIGNAL_PROCESS_GROUP: u32 = 1 << 2;

impl Group {
    fn open(id: i32) -> Group {
        // SAFETY: system calls of integers; the descriptor is closed at once if it is of no use.
        unsafe {
            let fd = libc::syscall(libc::SYS_pidfd_open, id, 0);
            let mut leader = i32::try_from(fd).unwrap_or(-1);
            // A group that is empty by now, or one that we may not signal, is an answer; EINVAL is an older
            // kernel, and a filter of system calls may say EPERM too.
            if leader >= 0 {
                let is_understood = match Group::signal_by(leader, 0) {
                    0 | libc::ESRCH => true,
                    denied @ (libc::EPERM | libc::EACCES) => {
                        Group { id, leader: -1 }.signal(0) == denied
                    }
                    _ => false,
                };
                if !is_understood {
                    libc::close(leader);
                    leader = -1;
                }
            }
            Group { id, leader }
        }
    }

    fn signal_by(leader: i32, signal: i32) -> i32 {
        // SAFETY: a system call of integers; no signal information is given.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                leader,
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                PIDFD_SIGNAL_PROCESS_GROUP,
            )
        };
        if sent == 0 { 0 } else { errno() }
    }

    /// The error number, or 0.
    fn signal(&self, signal: i32) -> i32 {
        if self.leader >= 0 {
            return Group::signal_by(self.leader, signal);
        }
        // SAFETY: `id` is above 1, so that this is one group and never everybody.
        let sent = unsafe { libc::syscall(libc::SYS_kill, -self.id, signal) };
        if sent == 0 { 0 } else { errno() }
    }

    /// Zombies count too: the kernel does not tell them apart here.
    fn has_members(&self) -> bool {
        self.signal(0) != libc::ESRCH
    }

    /// For the reaper, which ends when nobody is left.
    fn wait_until_empty(&self, patience: Duration) {
        for _ in 0..looks_in(patience) {
            if !self.has_members() {
                exit();
            }
            pause(-1, LOOK);
        }
    }

    /// Its members, as `/proc` has them, if that has the numbers of our own PID namespace.
    fn members(&self) -> impl Iterator<Item = i32> {
        let processes = procfs_is_ours().then(ProcessIds::all).flatten();
        processes.into_iter().flatten().filter(|pid| is_in_group(*pid, self.id))
    }

    /// A look at all processes takes its time with thousands of them: it is for helpers that are left when
    /// their grace is over.
    fn has_tracker(&self) -> bool {
        self.members().any(is_resource_tracker)
    }

    /// A tracker cleans up when the others, who hold its pipe, are gone.
    fn kill_all_but_trackers(&self) {
        for pid in self.members() {
            // SAFETY: a system call of two integers.
            let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
            let Some(pidfd) = i32::try_from(opened).ok().filter(|pidfd| *pidfd >= 0) else {
                continue;
            };
            // Asked once more, now that the number cannot be given to another process; and as long as the group
            // has members, its own number cannot either.
            if is_in_group(pid, self.id) && !is_resource_tracker(pid) && self.has_members() {
                // SAFETY: a system call of integers; no signal information is given.
                unsafe {
                    libc::syscall(
                        libc::SYS_pidfd_send_signal,
                        pidfd,
                        libc::SIGKILL,
                        std::ptr::null::<libc::siginfo_t>(),
                        0,
                    );
                }
            }
            // SAFETY: opened above.
            unsafe { libc::syscall(libc::SYS_close, pidfd) };
        }
    }
}

/// This process, out of its group. A leader cannot make a new group for itself, but it can join one of
/// the same session: a child makes it and ends at once; as an unreaped zombie it still holds it.
struct StepOut {
    child: Option<i32>,
}

impl StepOut {
    fn take(leads: bool) -> Option<StepOut> {
        if !leads {
            // SAFETY: our own id.
            let alone = unsafe { libc::setpgid(0, 0) } == 0;
            return alone.then_some(StepOut { child: None });
        }
        let child = clone_group_leader();
        if child <= 0 {
            // No process to be had: the group of the session's leader will do for the moment that is left,
            // if there still is one. A leader outside our PID namespace is 0 here, which setpgid(2)
            // takes for ourselves, and so for a success.
            // SAFETY: asks about ourselves.
            let session = unsafe { libc::getsid(0) };
            // SAFETY: our own id.
            let joined = session > 0 && unsafe { libc::setpgid(0, session) } == 0;
            return joined.then_some(StepOut { child: None });
        }
        let step = StepOut { child: Some(child) };
        // SAFETY: our own id, and that of our own child.
        let joined = unsafe { libc::setpgid(0, child) } == 0;
        if !joined {
            step.collect();
            return None;
        }
        Some(step)
    }

    /// Reaps the child, so that our adopter does not find it. It is about to end, but do not wait for it
    /// without a bound. The program's own waits do not see it (`__WCLONE`, wait(2)): it sends no SIGCHLD.
    fn collect(&self) {
        const MOMENT: Duration = Duration::from_millis(1);
        let Some(child) = self.child else { return };
        // SAFETY: our own child; no status is wanted.
        let reap = || unsafe {
            libc::waitpid(child, std::ptr::null_mut(), libc::__WALL | libc::WNOHANG) != 0
        };
        if reap() {
            return;
        }
        // A pidfd wakes us the moment that it has ended; a sleep, however short, is 70 µs and more.
        // SAFETY: a system call of two integers.
        let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, child, 0) };
        let pidfd = i32::try_from(pidfd).ok().filter(|fd| *fd >= 0);
        for _ in 0..5 {
            wait([pidfd, None], Some(MOMENT));
            if reap() {
                return;
            }
        }
    }
}

/// A child that shares our memory (so that nothing of it is copied, however large it is), makes a process
/// group and ends; we are held until then (clone(2), `CLONE_VFORK`).
fn clone_group_leader() -> i32 {
    extern "C" fn lead(_: *mut c_void) -> i32 {
        // SAFETY: the child's own id.
        unsafe { libc::setpgid(0, 0) }
    }
    // Not on this thread's stack, of which a program with much thread-local storage leaves little.
    #[repr(align(16))]
    struct Stack(UnsafeCell<[u8; 16 << 10]>);
    // SAFETY: a process dies once, so that one child at most runs on it.
    unsafe impl Sync for Stack {}
    static STACK: Stack = Stack(UnsafeCell::new([0; 16 << 10]));
    // The stack grows downwards on every processor that Rust has Linux for.
    let top = STACK.0.get().wrapping_add(1);
    // SAFETY: the stack is large enough for one system call, aligned, and used by nobody else. All signals
    // that a handler could be called for are blocked, so that none runs in the child.
    unsafe {
        libc::clone(lead, top.cast(), libc::CLONE_VM | libc::CLONE_VFORK, std::ptr::null_mut())
    }
}

/// Nothing is sent.
const NO_SIGNAL: i32 = 0;

/// Makes the reaper. `first` is what it sends once the worker is gone. It is fork(2) without the handlers of
/// pthread_atfork(3), which take locks: the bare system call. As long as the worker lives its own waits do not see
/// the reaper (`__WCLONE`, wait(2)), which sends no SIGCHLD.
fn fork_reaper(group: &Group, first: i32, patience: Duration) -> bool {
    const NONE: libc::c_ulong = 0;
    let worker = own_pid();
    // Opened while the worker lives, it is surely on it.
    // SAFETY: a system call of two integers.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, worker, 0) };
    let pidfd = i32::try_from(pidfd).unwrap_or(-1);
    // No flags, no stack of its own, nowhere to write a number to: in whatever order they come (clone(2)).
    // SAFETY: the child gets a copy of our memory and of this thread alone, makes system calls alone,
    // and does not return from `reap`.
    match unsafe { libc::syscall(libc::SYS_clone, NONE, NONE, NONE, NONE, NONE) } {
        0 => reap(group, worker, pidfd, first, patience),
        reaper => reaper > 0,
    }
}

/// The reaper: outlives the worker by a moment, in a group of its own, with every descriptor closed and
/// without the worker's memory (a port, a pipe or a GPU must not stay open for its sake). It leaves the worker's
/// group before anything is sent to it.
fn reap(group: &Group, worker: i32, pidfd: i32, first: i32, patience: Duration) -> ! {
    // SAFETY: our own id; a C string. What follows are system calls, on this stack.
    unsafe {
        libc::setpgid(0, 0);
        close_all_but([group.leader, pidfd]);
        libc::chdir(c"/".as_ptr());
        let_go_of_memory();
    }
    wait_until_gone(worker, pidfd, patience);
    group.signal(first);
    group.wait_until_empty(HELPER_GRACE);
    if group.has_tracker() {
        // Again and again: who forks or execs in the moment of the look is found by the next one.
        for _ in 0..TRACKER_GRACE.as_secs() {
            group.kill_all_but_trackers();
            group.wait_until_empty(Duration::from_secs(1));
        }
    }
    group.signal(libc::SIGKILL);
    exit()
}

/// Readable is gone, with all of its threads. `getppid()`, which changes when they have all begun to end, is asked
/// where there is no pidfd.
fn wait_until_gone(worker: i32, pidfd: i32, patience: Duration) {
    if pidfd >= 0 {
        pause(pidfd, patience);
    }
    for _ in 0..looks_in(patience) {
        // SAFETY: no arguments, no failure.
        if unsafe { libc::syscall(libc::SYS_getppid) } != libc::c_long::from(worker) {
            break;
        }
        pause(-1, LOOK);
    }
}

fn looks_in(time: Duration) -> u128 {
    time.as_millis() / LOOK.as_millis()
}

/// Sleeps until the descriptor is readable or the time is over. Like all that the reaper does, it is the bare
/// system call: who wraps libc's may rest on memory that the reaper has let go of.
fn pause(fd: i32, time: Duration) {
    let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let time = libc::timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos() as _ };
    let no_mask = std::ptr::null::<libc::sigset_t>();
    // SAFETY: one valid entry, a valid time, no signal mask.
    unsafe { libc::syscall(libc::SYS_ppoll, &raw mut entry, 1, &raw const time, no_mask, 0) };
}

fn exit() -> ! {
    loop {
        // SAFETY: ends this process.
        unsafe { libc::syscall(libc::SYS_exit_group, 0) };
    }
}

/// # Safety
/// Nothing of this process may use a descriptor afterwards but those of `kept`, of which a negative one is none.
unsafe fn close_all_but(mut kept: [i32; 2]) {
    kept.sort_unstable();
    let mut first = 0;
    let mut done = true;
    for fd in kept.iter().filter_map(|fd| u32::try_from(*fd).ok()) {
        // SAFETY: the caller's promise.
        done &= fd <= first || unsafe { close_range(first, fd - 1) };
        first = fd + 1;
    }
    // SAFETY: the caller's promise.
    done &= unsafe { close_range(first, u32::MAX) };
    if done {
        return;
    }
    // Before Linux 5.9 there is no close_range(2): one by one, up to the limit.
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid buffer, and the caller's promise.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        let end = i32::try_from(limit.rlim_cur.min(1 << 20)).unwrap_or(0);
        for fd in (0..end).filter(|fd| !kept.contains(fd)) {
            libc::close(fd);
        }
    }
}

/// # Safety
/// Nothing may use these descriptors afterwards.
unsafe fn close_range(first: u32, last: u32) -> bool {
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) == 0 }
}

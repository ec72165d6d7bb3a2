//! Information about processes, from libproc (`<libproc.h>`, `<sys/proc_info.h>`). Nothing here allocates.
//!
//! The source of claims about the kernel is xnu's bsd/kern/proc_info.c and kern_sig.c.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::time::Duration;

use super::super::{OpenError, Stat};
use super::{Handle, darwin, errno, is_absent, own_pid, wait};

/// `<sys/proc_info.h>`
const PROC_ALL_PIDS: u32 = 1;
const PROC_PGRP_ONLY: u32 = 2;
const PROC_PPID_ONLY: u32 = 6;
const PROC_FLAG_TRACED: u32 = 2;
const PROC_FLAG_INEXIT: u32 = 4;
/// Report zombies too.
const AND_ZOMBIES: u64 = 1;

/// Descendants can be found in every process group.
pub(crate) const HAS_TREE: bool = true;

/// One call lists the members of a process group. So each can be signalled by its id, and this process need not leave
/// its group.
pub(crate) const LISTS_MEMBERS: bool = true;

/// Signal 0: only checks for the process (kill(2)).
pub(crate) const NO_SIGNAL: i32 = 0;

/// There are no PID namespaces. All processes count as being in the initial one.
#[cfg(target_os = "macos")]
pub(crate) const INITIAL_PID_NAMESPACE: u64 = 0;
#[cfg(parentwatch_macos_shim)]
pub(crate) use super::shim::{INITIAL_PID_NAMESPACE, pid_namespace};

#[cfg(target_os = "macos")]
pub(crate) fn pid_namespace() -> Option<u64> {
    Some(INITIAL_PID_NAMESPACE)
}

/// Information about a process. `None` for another user's process, unless we are root.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    let info = info(pid)?;
    Some(Stat {
        parent: i32::try_from(info.pbi_ppid).ok()?,
        start: info.pbi_start_tvsec.wrapping_mul(1_000_000).wrapping_add(info.pbi_start_tvusec),
        state: match info.pbi_status {
            darwin::SZOMB => b'Z',
            darwin::SSTOP => b'T',
            _ => b'S',
        },
        // Not reported. A process is a zombie once its last thread has ended.
        threads: 1,
        is_exiting: info.pbi_flags & PROC_FLAG_INEXIT != 0,
        group: i32::try_from(info.pbi_pgid).ok()?,
        // A reaper is never listed as a descendant: see `QuietChild::fork`.
        is_reaper: false,
    })
}

fn info(pid: i32) -> Option<darwin::proc_bsdinfo> {
    let mut info = MaybeUninit::<darwin::proc_bsdinfo>::uninit();
    let size = i32::try_from(size_of_val(&info)).ok()?;
    let room = info.as_mut_ptr().cast::<c_void>();
    // SAFETY: room of that size. All of it is filled if that size is returned.
    unsafe {
        (pid > 0
            && darwin::proc_pidinfo(pid, darwin::PROC_PIDTBSDINFO, AND_ZOMBIES, room, size) == size)
            .then(|| info.assume_init())
    }
}

/// Whether a polled process is dead: no process has its id, another process has it, or it is a zombie. If we may not
/// read it, it counts as alive.
pub(crate) fn looks_gone(pid: i32, start: Option<u64>) -> bool {
    looks_gone_or(pid, start, |_| false)
}

/// Whether a process is dead or `is_in_state`. One look answers both, since the process may end between two.
pub(super) fn looks_gone_or(
    pid: i32,
    start: Option<u64>,
    is_in_state: impl FnOnce(&Stat) -> bool,
) -> bool {
    match stat(pid) {
        Some(stat) => {
            stat.has_ended() || start.is_some_and(|it| stat.start != it) || is_in_state(&stat)
        }
        None => is_absent(pid),
    }
}

/// Whether the parent of this process is another one than `pid`, and this process is not being debugged. While a
/// debugger is attached, it is the parent (ptrace(2)).
pub(super) fn has_other_parent_than(pid: i32) -> bool {
    info(own_pid()).is_some_and(|own| {
        own.pbi_ppid != pid.unsigned_abs() && own.pbi_flags & PROC_FLAG_TRACED == 0
    })
}

/// When this process started, in microseconds since 1970 (Unix time).
pub(crate) fn own_start_time() -> Option<u64> {
    stat(own_pid()).map(|stat| stat.start)
}

/// Always true: there is only one clock. Setting it does not change the start times of running processes.
pub(crate) fn clock_is_initial() -> bool {
    true
}

/// Always true: there is only one set of process ids.
pub(crate) fn procfs_is_ours() -> bool {
    true
}

pub(crate) fn children_are_listed() -> bool {
    true
}

/// Calls `each` with every child of the process, including zombies. A process that a debugger has attached to still
/// counts as a child of its original parent.
pub(crate) fn children(pid: i32, each: impl FnMut(i32)) {
    listed(PROC_PPID_ONLY, pid).for_each(each);
}

/// The members of a process group, including zombies.
pub(crate) fn members(group: i32) -> impl Iterator<Item = i32> {
    listed(PROC_PGRP_ONLY, group)
}

/// All processes.
pub(crate) fn processes() -> impl Iterator<Item = i32> {
    listed(PROC_ALL_PIDS, 0)
}

/// Lists at most 4096 processes. A later look finds the others, once some of these have ended.
fn listed(kind: u32, of: i32) -> impl Iterator<Item = i32> {
    const MOST: usize = 4096;
    let mut pids = [0_i32; MOST];
    let size = i32::try_from(size_of_val(&pids)).unwrap_or(0);
    // SAFETY: room of that size. The call returns how many bytes it has filled, or 0.
    let filled = unsafe {
        darwin::proc_listpids(kind, of.unsigned_abs(), pids.as_mut_ptr().cast::<c_void>(), size)
    };
    let count = usize::try_from(filled).unwrap_or(0) / size_of::<i32>();
    pids.into_iter().take(count).filter(|pid| *pid > 0)
}

/// Whether this process has a child. A zombie counts.
pub(crate) fn has_child() -> bool {
    listed(PROC_PPID_ONLY, own_pid()).next().is_some()
}

/// Signals a process by its id. Returns the error number, or 0.
pub(crate) fn signal_process(pid: i32, signal: i32) -> i32 {
    kill(pid.max(1), signal)
}

/// Signals the members of a process group. Returns the error number, or 0.
///
/// The kernel returns EPERM both for a group that has only zombies and for one that we may not signal (`killpg1`). The
/// first is reported as ESRCH here.
pub(crate) fn signal_group(group: i32, signal: i32) -> i32 {
    // kill(2) with −1 would signal every process.
    if group <= 1 {
        return libc::ESRCH;
    }
    match kill(-group, signal) {
        libc::EPERM if members(group).all(|pid| looks_gone(pid, None)) => libc::ESRCH,
        sent => sent,
    }
}

fn kill(pid: i32, signal: i32) -> i32 {
    // SAFETY: a system call of two integers.
    if unsafe { libc::kill(pid, signal) } == 0 { 0 } else { errno() }
}

/// A process, identified by its id and its start time. It takes the place of a Linux pidfd. Its id may be reused
/// between the check of the start time and a signal. The kernel offers no way to prevent that.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pidfd {
    pid: i32,
    start: u64,
}

impl Pidfd {
    pub(crate) fn open(pid: i32) -> Result<Pidfd, OpenError> {
        match stat(pid) {
            Some(stat) => Ok(Pidfd { pid, start: stat.start }),
            None if is_absent(pid) => Err(OpenError::Gone),
            None => Err(OpenError::Unavailable),
        }
    }

    /// Always −1: there is no descriptor.
    pub(crate) fn raw(self) -> i32 {
        -1
    }

    pub(crate) fn close(self) {}

    pub(crate) fn has_ended(self) -> bool {
        looks_gone(self.pid, Some(self.start))
    }

    /// Waits until it has ended or the time is over.
    pub(crate) fn wait(self, patience: Duration) {
        const LOOK: Duration = Duration::from_millis(10);
        let mut handle = Handle::open_in(None, self.pid).ok();
        let until = super::uptime().saturating_add(patience);
        while !self.has_ended() {
            let left = until.saturating_sub(super::uptime());
            if left.is_zero() {
                break;
            }
            // The event comes shortly before the process has ended. From then on, poll.
            let time = if handle.is_some() { left } else { left.min(LOOK) };
            if wait([handle, None], Some(time)) != Some([false; 2]) {
                handle = None;
            }
        }
    }

    /// Signals the process. Returns the error number, or 0.
    pub(crate) fn signal(self, signal: i32) -> i32 {
        if self.has_ended() { libc::ESRCH } else { kill(self.pid, signal) }
    }

    /// Always EINVAL: a group cannot be signalled through its leader here.
    pub(crate) fn signal_group(self, _signal: i32) -> i32 {
        libc::EINVAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    fn child() -> (Child, i32) {
        let child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        (child, pid)
    }

    fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !holds() {
            assert!(std::time::Instant::now() < deadline, "not in time: {what}");
            super::super::super::nap(Duration::from_millis(1));
        }
    }

    #[test]
    fn libproc_and_the_system_calls_agree_about_this_process() {
        let stat = stat(own_pid()).unwrap();
        assert_eq!(stat.parent, super::super::parent_pid());
        assert_eq!(stat.group, super::super::process_group());
        assert_eq!(Some(stat.start), own_start_time());
        assert!(!stat.has_ended() && !stat.is_exiting);
        assert!(!looks_gone(own_pid(), Some(stat.start)));
        assert!(looks_gone(own_pid(), Some(stat.start + 1)), "another process with the same id");
        assert!(members(stat.group).any(|pid| pid == own_pid()));
        assert!(processes().any(|pid| pid == own_pid()));
    }

    #[test]
    fn a_child_is_listed_and_a_zombie_has_ended() {
        let (mut cat, pid) = child();
        let process = Pidfd::open(pid).unwrap();
        let handle = Handle::open_in(None, pid);
        assert_eq!(handle.is_err(), cfg!(parentwatch_force_poll));
        let mut listed = false;
        children(own_pid(), |child| listed |= child == pid);
        assert!(listed);
        assert!(!process.has_ended());
        assert_eq!(wait([handle.ok(), None], Some(Duration::ZERO)), Some([false; 2]));
        assert_eq!(process.signal(libc::SIGKILL), 0);
        process.wait(Duration::from_secs(10));
        assert!(process.has_ended());
        assert!(!is_absent(pid), "a zombie that is not reaped keeps its id");
        assert_eq!(process.signal(libc::SIGKILL), libc::ESRCH, "no other process is signalled");
        if let Ok(handle) = handle {
            assert_eq!(wait([None, Some(handle)], Some(Duration::ZERO)), Some([false, true]));
            assert!(handle.has_ended());
            // macOS does not let a zombie be watched.
            assert!(matches!(Handle::open_in(None, pid), Err(OpenError::Gone)));
        }
        cat.wait().unwrap();
        assert!(is_absent(pid));
        assert!(matches!(Pidfd::open(pid), Err(OpenError::Gone)));
    }

    #[test]
    fn a_group_of_zombies_has_no_members() {
        use std::os::unix::process::CommandExt;
        let mut cat =
            Command::new("/bin/cat").stdin(Stdio::piped()).process_group(0).spawn().unwrap();
        let group = i32::try_from(cat.id()).unwrap();
        assert_eq!(signal_group(group, NO_SIGNAL), 0);
        assert_eq!(signal_group(group, libc::SIGKILL), 0);
        wait_until("the zombie", || looks_gone(group, None));
        // Linux, below the shim, counts zombies as members.
        let expected = if cfg!(target_os = "macos") { libc::ESRCH } else { 0 };
        assert_eq!(signal_group(group, NO_SIGNAL), expected);
        cat.wait().unwrap();
        assert_eq!(signal_group(group, NO_SIGNAL), libc::ESRCH);
    }

    #[test]
    fn a_resource_tracker_is_recognised_by_its_arguments() {
        let command = "from multiprocessing.resource_tracker import main;main(5)";
        let mut child = Command::new("/bin/sh")
            .args(["-c", "read line", command])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // For an instant after an exec, a process may have no arguments.
        wait_until("it is recognised", || super::super::is_resource_tracker(pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!super::super::is_resource_tracker(own_pid()));
    }
}

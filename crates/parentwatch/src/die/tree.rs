//! Finds and holds the helpers: the descendants of the worker, and the processes that carry its mark.

use std::time::Duration;

use crate::sys::{self, Mark, OpenError, Pidfd, Stat};

/// A helper, identified by its pidfd or, without one, by its start time.
#[derive(Clone, Copy)]
pub(super) struct Helper {
    pub pid: i32,
    pidfd: Option<Pidfd>,
    start: u64,
    pub group: i32,
    /// It is a member of the group but no descendant of the worker. Its own descendants are not ours.
    pub is_member_alone: bool,
    pub has_had_sigterm: bool,
    pub is_stopped: bool,
    /// It was not stopped already when we stopped it.
    was_running: bool,
}

const NOBODY: Helper = Helper {
    pid: 0,
    pidfd: None,
    start: 0,
    group: 0,
    is_member_alone: false,
    has_had_sigterm: false,
    is_stopped: false,
    was_running: false,
};

impl Helper {
    pub fn has_ended(&self) -> bool {
        match self.pidfd {
            Some(pidfd) => pidfd.has_ended(),
            None => sys::looks_gone(self.pid, Some(self.start).filter(|start| *start > 0)),
        }
    }

    pub fn signal(&self, signal: i32) {
        let sent = self.pidfd.map(|pidfd| pidfd.signal(signal));
        // A seccomp filter may refuse pidfd_send_signal(2).
        if !matches!(sent, Some(0 | libc::ESRCH)) && !self.has_ended() {
            sys::signal_process(self.pid, signal);
        }
    }

    pub fn stop(&mut self) {
        self.was_running = sys::stat(self.pid).is_some_and(|stat| stat.state != b'T');
        self.is_stopped = true;
        self.signal(libc::SIGSTOP);
    }

    /// Undoes `stop`.
    pub fn resume(&mut self) {
        self.is_stopped = false;
        if self.was_running {
            self.signal(libc::SIGCONT);
        }
    }

    /// Sends SIGTERM, once.
    pub fn terminate(&mut self) {
        if !self.has_had_sigterm {
            self.has_had_sigterm = true;
            self.signal(libc::SIGTERM);
        }
    }
}

/// How many helpers can be held. More are killed at once.
const MOST: usize = 256;
/// How often a look is repeated at most. Each finds what was forked during the one before.
pub(super) const ROUNDS: usize = 50;

pub(super) struct Tree {
    /// The process whose descendants are looked for, while it lives.
    root: Option<i32>,
    held: [Helper; MOST],
    count: usize,
    /// How many were found so far.
    #[cfg(feature = "doctor")]
    found: usize,
    sight: Option<Sight>,
    mark: Option<Mark>,
    /// If set, the mark counts only in this process group.
    marked_in: Option<i32>,
}

/// How descendants can be seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// They cannot: `/proc` is not that of our PID namespace.
    Blind,
    /// By the kernel's lists of children.
    Lists,
    /// By a look at every process: the kernel has no lists of children (`CONFIG_PROC_CHILDREN`).
    EveryProcess,
}

impl Tree {
    pub fn below(root: i32) -> Tree {
        Tree {
            root: Some(root),
            held: [NOBODY; MOST],
            count: 0,
            #[cfg(feature = "doctor")]
            found: 0,
            sight: None,
            mark: None,
            marked_in: None,
        }
    }

    /// The processes that carry the mark, only those of the group `marked_in` if that is given.
    pub fn marked(mark: Option<Mark>, marked_in: Option<i32>) -> Tree {
        Tree { root: None, mark, marked_in, ..Tree::below(0) }
    }

    /// From now on only descendants of held helpers are looked for.
    pub fn forget_root(&mut self) {
        self.root = None;
    }

    pub fn helpers(&mut self) -> &mut [Helper] {
        self.held.get_mut(..self.count).unwrap_or_default()
    }

    pub fn descriptors(&self) -> impl Iterator<Item = i32> {
        let held = self.held.get(..self.count).unwrap_or_default();
        held.iter().filter_map(|helper| helper.pidfd.map(Pidfd::raw))
    }

    pub fn is_empty(&mut self) -> bool {
        self.helpers().iter().all(Helper::has_ended)
    }

    #[cfg(feature = "doctor")]
    pub fn found(&self) -> usize {
        self.found
    }

    /// Looks for helpers until a look finds no new one, or until that time on the clock [`sys::cpu_time`]. Calls
    /// `on_new` with each.
    pub fn collect(&mut self, until: Duration, mut on_new: impl FnMut(&mut Helper)) {
        for _ in 0..ROUNDS {
            let may_be_more =
                self.look(until, &mut on_new) | self.look_for_marks(until, &mut on_new);
            if !may_be_more || sys::cpu_time() >= until {
                break;
            }
        }
    }

    /// One look at the mark of every process. Otherwise like `look`.
    pub fn look_for_marks(&mut self, until: Duration, on_new: &mut dyn FnMut(&mut Helper)) -> bool {
        let Some(mark) = self.mark.filter(|_| self.sight() != Sight::Blind) else { return false };
        self.forget_ended();
        let group = self.marked_in;
        let mut may_be_more = false;
        for pid in sys::processes() {
            let belongs = |_: &Tree, stat: &Stat| {
                group.is_none_or(|group| stat.group == group) && mark.is_carried_by(pid)
            };
            may_be_more |= sys::cpu_time() >= until
                || (mark.is_carried_by(pid) && self.add(pid, belongs, on_new));
        }
        may_be_more
    }

    fn sight(&mut self) -> Sight {
        *self.sight.get_or_insert_with(|| match sys::procfs_is_ours() {
            false => Sight::Blind,
            true if sys::children_are_listed() => Sight::Lists,
            true => Sight::EveryProcess,
        })
    }

    /// One look for descendants. Returns whether another may find more: it found a new one, or stopped at that time on
    /// the clock [`sys::cpu_time`]. It must stop some time: a helper may fork faster than a look finds its children.
    pub fn look(&mut self, until: Duration, on_new: &mut dyn FnMut(&mut Helper)) -> bool {
        self.forget_ended();
        let mut may_be_more = false;
        let mut add = |tree: &mut Tree, child| {
            may_be_more |= sys::cpu_time() >= until || tree.add_child(child, on_new);
        };
        match self.sight() {
            Sight::Blind => {}
            Sight::Lists => self.walk(&mut add),
            Sight::EveryProcess => sys::processes().for_each(|pid| add(self, pid)),
        }
        may_be_more
    }

    /// Walks down the lists of children.
    fn walk(&mut self, add: &mut dyn FnMut(&mut Tree, i32)) {
        if let Some(root) = self.root {
            sys::children(root, |child| add(self, child));
        }
        let mut next = 0;
        while let Some(helper) = self.held.get(..self.count).and_then(|held| held.get(next)) {
            if !helper.is_member_alone && !helper.has_ended() {
                let pid = helper.pid;
                sys::children(pid, |child| add(self, child));
            }
            next += 1;
        }
    }

    fn add_child(&mut self, pid: i32, on_new: &mut dyn FnMut(&mut Helper)) -> bool {
        let group = self.marked_in;
        let is_child = |tree: &Tree, stat: &Stat| {
            group.is_none_or(|group| stat.group == group) && tree.is_root_or_lives(stat.parent)
        };
        if self.held(pid).is_some_and(|helper| helper.is_member_alone) {
            return self.is_descendant_after_all(pid);
        }
        self.add(pid, is_child, on_new)
    }

    fn is_descendant_after_all(&mut self, member: i32) -> bool {
        let is_one = sys::stat(member).is_some_and(|stat| self.is_root_or_lives(stat.parent));
        for helper in self.helpers().iter_mut().filter(|helper| helper.pid == member) {
            helper.is_member_alone = !is_one;
        }
        is_one
    }

    /// Whether the number is that of the root or of a helper that lives. While that helper lives, no other process can
    /// get its number.
    fn is_root_or_lives(&self, pid: i32) -> bool {
        self.root == Some(pid) || self.held(pid).is_some_and(|helper| !helper.is_member_alone)
    }

    fn held(&self, pid: i32) -> Option<&Helper> {
        let held = self.held.get(..self.count).unwrap_or_default();
        held.iter().find(|helper| helper.pid == pid && !helper.has_ended())
    }

    /// Holds a process if it `belongs`. That is asked after its pidfd was opened, so that its number cannot be reused
    /// meanwhile. Returns whether it is new.
    pub fn add(
        &mut self,
        pid: i32,
        belongs: impl FnOnce(&Tree, &Stat) -> bool,
        on_new: &mut dyn FnMut(&mut Helper),
    ) -> bool {
        if pid == sys::own_pid() || self.root == Some(pid) || self.held(pid).is_some() {
            return false;
        }
        let pidfd = match Pidfd::open(pid) {
            Ok(pidfd) => Some(pidfd),
            Err(OpenError::Gone) => return false,
            Err(OpenError::Unavailable) => None,
        };
        let is_living = |stat: &Stat| !stat.has_ended() && !stat.is_reaper;
        let stat = sys::stat(pid).filter(|stat| is_living(stat) && belongs(self, stat));
        let Some(stat) = stat else {
            pidfd.inspect(|pidfd| pidfd.close());
            return false;
        };
        let mut helper = Helper { pid, pidfd, start: stat.start, group: stat.group, ..NOBODY };
        #[cfg(feature = "doctor")]
        {
            self.found += 1;
        }
        match self.room() {
            Some(room) => {
                on_new(&mut helper);
                *room = helper;
            }
            None => {
                helper.signal(libc::SIGKILL);
                pidfd.inspect(|pidfd| pidfd.close());
            }
        }
        true
    }

    /// Holds a process that the caller knows to live, even where `/proc` cannot be used.
    pub fn hold(&mut self, pid: i32) {
        let stat = sys::stat(pid).filter(|_| self.sight() != Sight::Blind);
        if let Some(room) = self.room() {
            *room = Helper {
                pid,
                pidfd: Pidfd::open(pid).ok(),
                start: stat.map_or(0, |stat| stat.start),
                group: stat.map_or(0, |stat| stat.group),
                ..NOBODY
            };
        }
    }

    fn room(&mut self) -> Option<&mut Helper> {
        let room = self.held.get_mut(self.count)?;
        self.count += 1;
        Some(room)
    }

    /// Makes room for others.
    fn forget_ended(&mut self) {
        let count = std::mem::take(&mut self.count);
        for next in 0..count {
            let Some(helper) = self.held.get(next).copied() else { break };
            if helper.has_ended() {
                helper.pidfd.inspect(|pidfd| pidfd.close());
            } else if let Some(room) = self.room() {
                *room = helper;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    /// shell ─┬─ sleep
    ///        └─ shell in a session of its own ── sleep in another
    const SCRIPT: &str = "setsid sh -c 'setsid sleep 60 >/dev/null & echo; exec >/dev/null; wait' & \
                          sleep 60 >/dev/null & exec >/dev/null; wait";

    #[test]
    fn descendants_are_found_with_and_without_lists_of_children() {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut ready = [0];
        shell.stdout.take().unwrap().read_exact(&mut ready).unwrap();
        let root = i32::try_from(shell.id()).unwrap();
        let found = |sight| {
            let mut tree = Tree::below(root);
            tree.sight = Some(sight);
            // For a moment after it was forked a process may not be listed.
            let deadline = std::time::Instant::now() + Duration::from_secs(10);
            while tree.helpers().len() < 3 && std::time::Instant::now() < deadline {
                tree.collect(Duration::MAX, |_| {});
            }
            tree
        };
        let mut listed = found(Sight::Lists);
        let mut scanned = found(Sight::EveryProcess);
        let seen = [listed.helpers().len(), scanned.helpers().len()];
        for helper in listed.helpers() {
            helper.signal(libc::SIGKILL);
        }
        shell.kill().unwrap();
        shell.wait().unwrap();
        assert_eq!(seen, [3; 2]);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !listed.is_empty() || !scanned.is_empty() {
            assert!(std::time::Instant::now() < deadline, "they do not end");
            sys::nap(std::time::Duration::from_millis(1));
        }
    }

    #[test]
    fn a_look_stops_at_its_time() {
        let mut child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        for sight in [Sight::Lists, Sight::EveryProcess] {
            let below = || Tree { sight: Some(sight), ..Tree::below(sys::own_pid()) };
            // For a moment after it was forked a process may not be listed.
            let deadline = std::time::Instant::now() + Duration::from_secs(10);
            let mut is_found = false;
            while !is_found && std::time::Instant::now() < deadline {
                below().look(Duration::MAX, &mut |helper| is_found |= helper.pid == pid);
            }
            assert!(is_found);
            let late = Duration::ZERO;
            let mut tree = below();
            assert!(tree.look(late, &mut |_| unreachable!("it is late")), "there may be more");
            tree.collect(late, |_| unreachable!("it is late"));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[cfg(not(any(target_os = "macos", parentwatch_macos_shim)))]
    #[test]
    fn a_look_for_marks_stops_at_its_time() {
        let mut tree = Tree::marked(Some(Mark::new()), None);
        let nobody = &mut |_: &mut Helper| unreachable!("nobody carries it");
        assert!(!tree.look_for_marks(Duration::MAX, nobody));
        assert!(tree.look_for_marks(Duration::ZERO, nobody), "there may be more");
    }

    #[test]
    fn a_helper_that_has_ended_makes_room() {
        let mut child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap();
        let mut tree = Tree::below(sys::own_pid());
        for _ in 0..MOST {
            tree.hold(i32::try_from(child.id()).unwrap());
        }
        tree.forget_ended();
        assert!(tree.room().is_none());
        child.kill().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !tree.is_empty() && std::time::Instant::now() < deadline {
            sys::nap(Duration::from_millis(1));
        }
        tree.forget_ended();
        assert_eq!(tree.helpers().len(), 0);
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_does_not_belong_is_not_held() {
        let mut tree = Tree::below(sys::own_pid());
        let nobody = &mut |_: &mut Helper| unreachable!("it is not held");
        assert!(!tree.add(sys::own_pid(), |_, _| false, nobody));
        assert!(!tree.add(i32::MAX, |_, _| true, nobody), "there is none");
        assert_eq!(tree.helpers().len(), 0);
    }
}

//! Ends the helpers: SIGTERM first, SIGKILL after the grace. The reaper, a forked process that outlives the worker for
//! a moment, sends the SIGKILL.
//!
//! Python's resource tracker ignores SIGTERM. It cleans `/dev/shm` once its last user is gone, so it is killed last.
//!
//! All of this runs in the dying worker or in its forked reaper: only system calls, no locks, no allocation.

use std::time::Duration;

use super::group::{Group, Place};
use super::tree::{Helper, ROUNDS, Tree};
use crate::config::Scope;
use crate::sys::{self, Mark, Pidfd, QuietChild, SharedNumber};

/// The helpers' time between SIGTERM and SIGKILL, unless the grace is set.
pub(crate) const HELPER_GRACE: Duration = Duration::from_secs(1);
/// How long the reaper waits until the worker is gone. The kernel may need long to free what the worker held.
const WORKER_PATIENCE: Duration = Duration::from_secs(10);
/// How long the worker waits until its reaper has sent SIGTERM to all helpers.
const SIGTERM_PATIENCE: Duration = Duration::from_secs(2);
/// How many seconds a resource tracker gets to clean up, once every other helper has been killed. It holds no
/// memory or device worth hurrying for.
const TRACKER_SECONDS: u32 = 5;
/// How much processor time one search for helpers may take. It is too short only if they fork faster than they are
/// found. It is not time on the clock, which a busy machine gives to others.
const SEARCH: Duration = Duration::from_secs(1);
/// The same when the helpers are stopped, to be killed.
const LAST_SEARCH: Duration = Duration::from_secs(10);
/// How often the reaper checks whether helpers are left.
const LOOK: Duration = Duration::from_millis(10);

/// All processes that end with the worker.
pub(crate) struct Helpers {
    group: Option<Group>,
    tree: Tree,
    /// End the whole tree. Otherwise `tree` only holds members of the group.
    has_tree: bool,
    grace: Duration,
    has_own_table: bool,
}

/// What the reaper does first.
#[derive(Clone, Copy)]
enum First<'a> {
    /// Nothing: the worker has already sent SIGTERM.
    Nothing,
    /// Wait until the worker is gone, then send SIGTERM.
    AwaitWorker,
    /// Send SIGTERM now, then set the number to 1.
    Terminate(&'a SharedNumber),
}

impl Helpers {
    pub fn of(
        group: Option<i32>,
        has_tree: bool,
        grace: Option<Duration>,
        has_own_table: bool,
    ) -> Helpers {
        Helpers {
            group: group.map(Group::of),
            tree: Tree::below(sys::own_pid()),
            has_tree,
            grace: grace.unwrap_or(HELPER_GRACE),
            has_own_table,
        }
    }

    /// For a guardian: another process that lives, its group and its tree.
    pub fn of_living(
        worker: i32,
        group: Option<i32>,
        mark: Option<Mark>,
        scope: Scope,
        grace: Duration,
    ) -> Helpers {
        let mut group = group.map(Group::of);
        if let Some(group) = &mut group {
            group.identify();
        }
        let has_tree = scope == Scope::Tree;
        let mut tree = Tree::marked(mark.filter(|_| has_tree), None);
        tree.hold(worker);
        if has_tree {
            // Before SIGTERM: once a process has ended, its children have another parent. One look: later looks find
            // processes that a fork loop adds, and the worker must not wait for those.
            tree.look(cpu_time_after(SEARCH), &mut |_| {});
        }
        Helpers { group, tree, has_tree, grace, has_own_table: true }
    }

    /// For a guardian: what another process has left behind.
    pub fn of_dead(worker: i32, mark: Option<Mark>, scope: Scope, grace: Duration) -> Helpers {
        let tree = match scope {
            Scope::Process => Tree::marked(None, None),
            Scope::Group => Tree::marked(mark, Some(worker)),
            Scope::Tree => Tree::marked(mark, None),
        };
        Helpers { group: None, tree, has_tree: scope != Scope::Process, grace, has_own_table: true }
    }

    /// How many helpers were found in the tree so far.
    #[cfg(feature = "doctor")]
    pub fn found(&self) -> usize {
        self.tree.found()
    }

    /// Sends SIGTERM to all.
    pub fn terminate_all(&mut self) {
        self.terminate_group();
        self.terminate(cpu_time_after(SEARCH), |_| true);
    }

    /// A process that never had a child has no helpers. No process in a group that it leads is its own.
    fn may_exist(&self) -> bool {
        let is_anothers = self.group.as_ref().is_some_and(|group| group.id != sys::own_pid());
        is_anothers || ((self.has_tree || self.group.is_some()) && sys::has_had_child())
    }

    /// Forks a reaper that ends the helpers once the worker is gone, however the worker ends. Until then the reaper
    /// only waits, and may be killed.
    pub fn reap_once_gone(&mut self, patience: Duration) -> Option<QuietChild> {
        if !self.may_exist() {
            return None;
        }
        self.collect(cpu_time_after(SEARCH), |_| {});
        self.fork_reaper(First::AwaitWorker, patience.saturating_add(WORKER_PATIENCE))
    }

    /// Ends them.
    pub fn end(&mut self) {
        if !self.may_exist() {
            return;
        }
        // Without a child there are no descendants.
        self.has_tree = self.has_tree && sys::has_child();
        if self.has_tree {
            // From here on this process adopts descendants that lose their parent, so that a walk still finds them.
            // Never earlier: the program's own waits would return adopted children.
            sys::become_subreaper();
        }
        if sys::LISTS_MEMBERS {
            self.end_one_by_one();
            return;
        }
        let place = match &self.group {
            None => Place::Outside(None),
            Some(group) => Place::leave(group.id),
        };
        // The group gets SIGTERM in one call, below.
        let group = self.group.as_ref().map(|group| group.id);
        let until = cpu_time_after(SEARCH);
        self.terminate(until, |helper| Some(helper.group) != group);
        match place {
            Place::Outside(child) => {
                let has_members = self.group.as_ref().is_some_and(Group::has_members);
                if has_members {
                    self.terminate_group();
                    self.terminate(until, |_| true);
                }
                if has_members || !self.tree.is_empty() {
                    let reaper = self.fork_reaper(First::Nothing, WORKER_PATIENCE);
                    if reaper.is_none() {
                        self.kill();
                    }
                }
                child.inspect(|child| child.reap());
            }
            Place::LeadsSession => {
                let reaper = self.fork_reaper(First::AwaitWorker, WORKER_PATIENCE);
                if reaper.is_none() {
                    self.kill();
                }
            }
            // The last resort: it kills this process too. No reaper could be forked either.
            Place::Stuck => self.kill(),
        }
    }

    /// Where a walk loses the children of a process that has ended: the reaper stops all helpers, then sends each its
    /// SIGTERM. It resumes them also when this process is killed meanwhile.
    fn end_one_by_one(&mut self) {
        let sent = SharedNumber::new();
        let reaper = sent.as_ref().and_then(|sent| {
            self.fork_reaper(First::Terminate(sent), WORKER_PATIENCE).map(|_| sent)
        });
        let Some(sent) = reaper else {
            self.terminate_all_found();
            self.kill_held();
            return;
        };
        // This process must not end before: its children would get another parent.
        let until = sys::uptime().saturating_add(SIGTERM_PATIENCE);
        while sent.get() == 0 && sys::uptime() < until {
            sys::nap(Duration::from_millis(1));
        }
    }

    fn terminate_all_found(&mut self) {
        self.hold_still();
        self.terminate_group();
        self.terminate_held();
        self.resume();
    }

    fn collect(&mut self, until: Duration, on_new: impl FnMut(&mut Helper)) {
        if self.has_tree {
            self.tree.collect(until, on_new);
        }
    }

    /// Sends SIGTERM to each helper that `whom` selects and that has not had it.
    fn terminate(&mut self, until: Duration, whom: impl Fn(&Helper) -> bool) {
        for helper in self.tree.helpers().iter_mut().filter(|helper| whom(helper)) {
            helper.terminate();
        }
        self.collect(until, |helper| {
            if whom(helper) {
                helper.terminate();
            }
        });
    }

    fn terminate_held(&mut self) {
        for helper in self.tree.helpers() {
            helper.terminate();
        }
    }

    /// Where the system lists a group's members, each is held and signalled by itself instead.
    fn terminate_group(&mut self) {
        let Some(group) = self.group.as_ref().filter(|_| !sys::LISTS_MEMBERS) else { return };
        group.signal(libc::SIGTERM);
        let id = group.id;
        for helper in self.tree.helpers().iter_mut().filter(|helper| helper.group == id) {
            helper.has_had_sigterm = true;
        }
    }

    /// Sends SIGKILL to all. This process is killed too if it is in the group.
    fn kill(&mut self) {
        self.kill_held();
        if let Some(group) = &self.group {
            group.signal(libc::SIGKILL);
        }
    }

    fn kill_held(&mut self) {
        for helper in self.tree.helpers() {
            helper.signal(libc::SIGKILL);
        }
    }

    fn fork_reaper(&mut self, first: First<'_>, patience: Duration) -> Option<QuietChild> {
        if let Some(group) = &mut self.group {
            group.identify();
        }
        let worker = sys::own_pid();
        // Opened while the worker lives, so it surely refers to the worker.
        let pidfd = Pidfd::open(worker).ok();
        // SAFETY: `reap` makes system calls alone.
        let reaper = unsafe { QuietChild::fork(|| self.reap(worker, pidfd, first, patience)) };
        pidfd.inspect(|pidfd| pidfd.close());
        reaper
    }

    /// The life of the reaper. It has a process group of its own and keeps none of the worker's descriptors or memory:
    /// it must not keep a port, a pipe or a GPU open.
    fn reap(&mut self, worker: i32, pidfd: Option<Pidfd>, first: First<'_>, patience: Duration) {
        sys::join_group(0);
        if let First::Terminate(sent) = first {
            self.terminate_all_found();
            sent.set(1);
        }
        if !self.has_own_table {
            self.close_all_but_ours(pidfd);
        }
        sys::change_to_root();
        // SAFETY: only system calls follow, on this stack.
        unsafe { sys::release_memory() };
        self.tree.forget_root();
        wait_until_gone(worker, pidfd, patience);
        if let First::AwaitWorker = first {
            self.terminate_all_found();
        }
        self.finish();
    }

    /// Without subreapers the children of a process that has ended cannot be found. So all helpers are stopped and held
    /// before the first SIGTERM.
    fn hold_still(&mut self) {
        if sys::HAS_SUBREAPERS {
            return;
        }
        let until = cpu_time_after(SEARCH);
        for _ in 0..ROUNDS {
            let has_more =
                self.has_tree && self.tree.look(until, &mut |_| {}) && sys::cpu_time() < until;
            self.hold_group();
            if self.stop(|_| true) == 0 && !has_more {
                break;
            }
        }
    }

    /// Resumes the stopped helpers, which have had SIGTERM. It comes before the worker ends: the kernel sends SIGHUP to
    /// stopped processes of a group that becomes orphaned (POSIX, `_exit`).
    fn resume(&mut self) {
        for helper in self.tree.helpers().iter_mut().filter(|helper| helper.is_stopped) {
            helper.resume();
        }
    }

    /// A stopped process starts no others while the walk goes on. Returns how many were running.
    fn stop(&mut self, whom: impl Fn(&Helper) -> bool) -> usize {
        let mut stopped = 0;
        for helper in self.tree.helpers() {
            if !helper.is_stopped && !helper.has_ended() && whom(helper) {
                helper.stop();
                stopped += 1;
            }
        }
        stopped
    }

    /// After SIGTERM: waits for the grace, then sends SIGKILL, to resource trackers last.
    pub fn finish(&mut self) {
        let mut time = self.grace;
        for _ in 0..TRACKER_SECONDS {
            if self.is_empty_within(time) {
                return;
            }
            self.kill_all_but_trackers();
            if !self.tree.helpers().iter().any(is_living_tracker) {
                break;
            }
            time = Duration::from_secs(1);
        }
        self.kill();
    }

    fn close_all_but_ours(&self, pidfd: Option<Pidfd>) {
        let mut kept = [-1; 300];
        let group = self.group.as_ref().and_then(Group::descriptor);
        let ours = group.into_iter().chain(pidfd.map(Pidfd::raw)).chain(self.tree.descriptors());
        for (to, from) in kept.iter_mut().zip(ours) {
            *to = from;
        }
        sys::close_all_but(&kept);
    }

    /// Waits until no helper is left, `patience` at most. Returns whether none is. Holds those forked meanwhile.
    fn is_empty_within(&mut self, patience: Duration) -> bool {
        let until = sys::uptime().saturating_add(patience);
        loop {
            let has_members = self.group.as_ref().is_some_and(Group::has_members);
            let search_until = cpu_time_after(SEARCH);
            if !has_members
                && self.tree.is_empty()
                && !self.tree.look_for_marks(search_until, &mut |_| {})
            {
                return true;
            }
            if sys::uptime() >= until {
                return false;
            }
            sys::nap(LOOK);
            if self.has_tree {
                self.tree.look(search_until, &mut |_| {});
            }
        }
    }

    /// A tracker cleans up when the other helpers, which hold its pipe, are gone. They are stopped first, so that they
    /// start no others during the walk.
    fn kill_all_but_trackers(&mut self) {
        let until = cpu_time_after(LAST_SEARCH);
        for _ in 0..ROUNDS {
            self.hold_group();
            if self.stop(|helper| !sys::is_resource_tracker(helper.pid)) == 0 {
                break;
            }
            self.collect(until, |_| {});
        }
        for helper in self.tree.helpers().iter().filter(|helper| helper.is_stopped) {
            helper.signal(libc::SIGKILL);
        }
    }

    /// Holds the members of the group. It reads all of `/proc`, which is slow: only for helpers that outlast the grace.
    fn hold_group(&mut self) {
        let Some(group) = self.group.as_ref().filter(|group| group.has_members()) else { return };
        if !sys::procfs_is_ours() {
            return;
        }
        for pid in sys::members(group.id) {
            let is_member = |stat: &sys::Stat| stat.group == group.id;
            // While the group has members, no other group can get its number.
            self.tree.add(pid, |_, stat| is_member(stat) && group.has_members(), &mut |helper| {
                helper.is_member_alone = true
            });
        }
    }
}

fn cpu_time_after(search: Duration) -> Duration {
    sys::cpu_time().saturating_add(search)
}

fn is_living_tracker(helper: &Helper) -> bool {
    !helper.has_ended() && sys::is_resource_tracker(helper.pid)
}

/// Waits until the worker has ended: its pidfd becomes readable when all of its threads have ended. Without a pidfd,
/// `getppid()` changes when all have begun to end. A worker that is still there afterwards is stuck, and is killed.
fn wait_until_gone(worker: i32, pidfd: Option<Pidfd>, patience: Duration) {
    if let Some(pidfd) = pidfd {
        pidfd.wait(patience);
        pidfd.signal(libc::SIGKILL);
        return;
    }
    let until = sys::uptime().saturating_add(patience);
    while sys::is_parent(worker) && sys::uptime() < until {
        sys::nap(LOOK);
    }
}

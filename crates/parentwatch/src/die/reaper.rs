//! The end of the helpers: SIGTERM now, SIGKILL when their time is over, by a process of its own that outlives the
//! worker by a moment. Not SIGKILL at once: Python's resource tracker ignores SIGTERM, and cleans `/dev/shm` when
//! the last of its users is gone. So it is the last to be killed.
//!
//! Everything here runs in the dying path or in a forked child of it: system calls alone, no locks, no allocation.

use std::time::Duration;

use super::group::{Group, Place};
use super::tree::{Helper, ROUNDS, Tree};
use crate::config::Scope;
use crate::sys::{self, Mark, Pidfd, QuietChild, SharedNumber};

/// What the helpers have between SIGTERM and SIGKILL unless the grace is set.
pub(crate) const HELPER_GRACE: Duration = Duration::from_secs(1);
/// How long the reaper waits for the worker to be gone: the kernel may be busy for long with what the
/// worker held.
const WORKER_PATIENCE: Duration = Duration::from_secs(10);
/// How long the worker waits until its reaper has sent SIGTERM to everybody.
const TELLING_PATIENCE: Duration = Duration::from_secs(2);
/// How often resource trackers, which hold nothing of weight themselves, are given a second to clean up in, once
/// every other helper has been killed.
const TRACKER_SECONDS: u32 = 5;
/// How often the reaper looks whether helpers are left.
const LOOK: Duration = Duration::from_millis(10);

/// Everybody who ends with the worker.
pub(crate) struct Helpers {
    group: Option<Group>,
    tree: Tree,
    /// The tree is to be ended. Else it only holds members of the group.
    has_tree: bool,
    grace: Duration,
    has_own_table: bool,
}

/// What the reaper does first.
#[derive(Clone, Copy)]
enum First<'a> {
    /// Nothing: the worker has sent SIGTERM.
    Nothing,
    /// SIGTERM, once the worker is gone.
    Sigterm,
    /// SIGTERM at once, for whom it finds; then it says so.
    Everything(&'a SharedNumber),
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

    /// Those of another process, for its guardian: that process, its group, and the tree.
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
            // Before anybody is told: the children of one that has ended are another's. Once: who forks in a loop is found
            // by the looks that follow, and the worker is not to wait for that.
            tree.look(&mut |_| {});
        }
        Helpers { group, tree, has_tree, grace, has_own_table: true }
    }

    /// Those that another process has left behind.
    pub fn of_dead(worker: i32, mark: Option<Mark>, scope: Scope, grace: Duration) -> Helpers {
        let tree = match scope {
            Scope::Process => Tree::marked(None, None),
            Scope::Group => Tree::marked(mark, Some(worker)),
            Scope::Tree => Tree::marked(mark, None),
        };
        Helpers { group: None, tree, has_tree: scope != Scope::Process, grace, has_own_table: true }
    }

    /// How many of the tree were found so far, up to a bound.
    #[cfg(feature = "doctor")]
    pub fn count(&mut self) -> usize {
        self.tree.helpers().len()
    }

    /// SIGTERM for everybody.
    pub fn tell_everybody(&mut self) {
        self.tell_group();
        self.tell(|_| true);
    }

    /// A process that never had a child has no helpers, and nothing of its own in the group that it leads.
    fn may_exist(&self) -> bool {
        let is_anothers = self.group.as_ref().is_some_and(|group| group.id != sys::own_pid());
        is_anothers || ((self.has_tree || self.group.is_some()) && sys::has_had_child())
    }

    /// Makes a reaper that ends the helpers once the worker is gone, in whatever way that comes about. Until then
    /// it does nothing, and may be killed.
    pub fn reap_once_gone(&mut self, patience: Duration) -> Option<QuietChild> {
        if !self.may_exist() {
            return None;
        }
        self.collect(|_| {});
        self.fork_reaper(First::Sigterm, patience.saturating_add(WORKER_PATIENCE))
    }

    /// Ends them.
    pub fn end(&mut self) {
        if !self.may_exist() {
            return;
        }
        // Nobody without a child has descendants.
        self.has_tree = self.has_tree && sys::has_child();
        if self.has_tree {
            // Whoever loses its parent from here on is found again. Not before: the program would find those that
            // are adopted in its own waits.
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
        // Those in the group get it together.
        let group = self.group.as_ref().map(|group| group.id);
        self.tell(|helper| Some(helper.group) != group);
        match place {
            Place::Outside(child) => {
                let has_members = self.group.as_ref().is_some_and(Group::has_members);
                if has_members {
                    self.tell_group();
                    self.tell(|_| true);
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
                let reaper = self.fork_reaper(First::Sigterm, WORKER_PATIENCE);
                if reaper.is_none() {
                    self.kill();
                }
            }
            // The last resort, for the helpers as well as for us: nor would there be a process for the reaper.
            Place::Stuck => self.kill(),
        }
    }

    /// Ends them from within their group, each by its number. The reaper does it: whoever is held still goes on,
    /// however this process ends meanwhile.
    fn end_one_by_one(&mut self) {
        let told = SharedNumber::new();
        let reaper = told.as_ref().and_then(|told| {
            self.fork_reaper(First::Everything(told), WORKER_PATIENCE).map(|_| told)
        });
        let Some(told) = reaper else {
            self.tell_everybody_found();
            self.kill_held();
            return;
        };
        // Until then nobody may lose its parent, this process.
        let until = sys::uptime().saturating_add(TELLING_PATIENCE);
        while told.get() == 0 && sys::uptime() < until {
            sys::nap(Duration::from_millis(1));
        }
    }

    fn tell_everybody_found(&mut self) {
        self.hold_still();
        self.tell_group();
        self.tell_held();
        self.let_go_on();
    }

    fn collect(&mut self, greet: impl FnMut(&mut Helper)) {
        if self.has_tree {
            self.tree.collect(greet);
        }
    }

    /// SIGTERM for the helpers of whom `whom` says so and who have not had it, until there is nobody new.
    fn tell(&mut self, whom: impl Fn(&Helper) -> bool) {
        for helper in self.tree.helpers().iter_mut().filter(|helper| whom(helper)) {
            helper.tell();
        }
        self.collect(|helper| {
            if whom(helper) {
                helper.tell();
            }
        });
    }

    fn tell_held(&mut self) {
        for helper in self.tree.helpers() {
            helper.tell();
        }
    }

    /// Where its members are listed, they are held, and told one by one.
    fn tell_group(&mut self) {
        let Some(group) = self.group.as_ref().filter(|_| !sys::LISTS_MEMBERS) else { return };
        group.signal(libc::SIGTERM);
        let id = group.id;
        for helper in self.tree.helpers().iter_mut().filter(|helper| helper.group == id) {
            helper.is_told = true;
        }
    }

    /// SIGKILL for everybody, this process too if it is in the group.
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
        // Opened while the worker lives, it is surely on it.
        let pidfd = Pidfd::open(worker).ok();
        // SAFETY: `reap` makes system calls alone.
        let reaper = unsafe { QuietChild::fork(|| self.reap(worker, pidfd, first, patience)) };
        pidfd.inspect(|pidfd| pidfd.close());
        reaper
    }

    /// The reaper, in a group of its own, without a descriptor of the worker's and without its memory: a port, a
    /// pipe or a GPU must not stay open for its sake.
    fn reap(&mut self, worker: i32, pidfd: Option<Pidfd>, first: First<'_>, patience: Duration) {
        sys::join_group(0);
        if let First::Everything(told) = first {
            self.tell_everybody_found();
            told.set(1);
        }
        if !self.has_own_table {
            self.close_all_but_ours(pidfd);
        }
        sys::change_to_root();
        // SAFETY: what follows are system calls, on this stack.
        unsafe { sys::let_go_of_memory() };
        self.tree.uproot();
        wait_until_gone(worker, pidfd, patience);
        if let First::Sigterm = first {
            self.tell_everybody_found();
        }
        self.finish();
    }

    /// Where the children of one that has ended are lost, all are held, and stopped, before anybody is told.
    fn hold_still(&mut self) {
        if sys::HAS_SUBREAPERS {
            return;
        }
        for _ in 0..ROUNDS {
            if self.has_tree {
                self.tree.look(&mut |_| {});
            }
            self.hold_group();
            if self.stop(|_| true) == 0 {
                break;
            }
        }
    }

    /// Who was held still has had SIGTERM, and goes on. Before the worker ends: the kernel sends SIGHUP to those who are
    /// stopped in a group that becomes an orphaned one.
    fn let_go_on(&mut self) {
        for helper in self.tree.helpers().iter_mut().filter(|helper| helper.is_stopped) {
            helper.go_on();
        }
    }

    /// Who is stopped starts nobody while the others are looked for. Returns how many were running.
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

    /// What follows SIGTERM: the grace, then SIGKILL, for resource trackers last.
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

    /// Whether nobody is left, after that time at most. Who is forked meanwhile is held too.
    fn is_empty_within(&mut self, patience: Duration) -> bool {
        let until = sys::uptime().saturating_add(patience);
        loop {
            let has_members = self.group.as_ref().is_some_and(Group::has_members);
            if !has_members && self.tree.is_empty() && self.tree.look_for_marks(&mut |_| {}) == 0 {
                return true;
            }
            if sys::uptime() >= until {
                return false;
            }
            sys::nap(LOOK);
            if self.has_tree {
                self.tree.look(&mut |_| {});
            }
        }
    }

    /// A tracker cleans up when the others, who hold its pipe, are gone. The others are stopped first: then they
    /// start nobody while they are looked through.
    fn kill_all_but_trackers(&mut self) {
        for _ in 0..ROUNDS {
            self.hold_group();
            if self.stop(|helper| !sys::is_resource_tracker(helper.pid)) == 0 {
                break;
            }
            self.collect(|_| {});
        }
        for helper in self.tree.helpers().iter().filter(|helper| helper.is_stopped) {
            helper.signal(libc::SIGKILL);
        }
    }

    /// Holds the members of the group. To find them may take its time: it is for helpers that are left when their
    /// time is over.
    fn hold_group(&mut self) {
        let Some(group) = self.group.as_ref().filter(|group| group.has_members()) else { return };
        if !sys::procfs_is_ours() {
            return;
        }
        for pid in sys::members(group.id) {
            let is_member = |stat: &sys::Stat| stat.group == group.id;
            // As long as the group has members, its number cannot be another's.
            self.tree.add(pid, |_, stat| is_member(stat) && group.has_members(), &mut |helper| {
                helper.is_member_alone = true
            });
        }
    }
}

fn is_living_tracker(helper: &Helper) -> bool {
    !helper.has_ended() && sys::is_resource_tracker(helper.pid)
}

/// Readable is gone, with all of its threads. `getppid()`, which changes when they have all begun to end, is asked
/// where there is no pidfd. A worker that is not gone by then is stuck, and is killed.
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

//! The helpers on Windows: the descendants of the worker, each held by a handle, and all of them in a job.
//!
//! A process id alone proves nothing. A process keeps its parent's id after the parent has ended, and a new process may
//! get that id. So a handle holds the parent first: then no other process can get its id. A process that was created
//! after the parent and names its id as its parent is then surely its child.

use std::time::Duration;

use crate::sys::{self, Job, Members, NoReaper, Process};

/// How many helpers can be held. More are ended at once.
const MOST: usize = 256;
/// How often a look is repeated at most. Each finds what was started during the one before.
const ROUNDS: usize = 50;

pub(crate) struct Helpers {
    /// `None`: the scope has no helpers.
    tree: Option<Tree>,
}

struct Tree {
    held: [Option<Helper>; MOST],
    count: usize,
    /// What the helpers start is in the job too. `None`: no job could be made.
    job: Option<Job>,
}

struct Helper {
    pid: i32,
    start: u64,
    process: Process,
}

impl Helpers {
    pub fn of(
        _group: Option<i32>,
        has_tree: bool,
        _grace: Option<Duration>,
        _has_own_table: bool,
    ) -> Helpers {
        Helpers { tree: has_tree.then(Tree::new) }
    }

    /// From now on the helpers end with this process, however it ends: the job sees to that.
    pub fn reap_once_gone(&mut self, _patience: Duration) -> Option<NoReaper> {
        if let Some(tree) = &mut self.tree {
            tree.collect();
        }
        None
    }

    /// Windows has no SIGTERM: the helpers are terminated at once.
    pub fn end(&mut self) {
        let Some(tree) = &mut self.tree else { return };
        tree.collect();
        for _ in 0..ROUNDS {
            if let Some(job) = &tree.job {
                job.end();
            }
            for helper in tree.helpers() {
                helper.process.terminate();
            }
            // Started meanwhile by a helper that could not be put into the job.
            if tree.look() == 0 {
                break;
            }
        }
    }
}

impl Tree {
    fn new() -> Tree {
        Tree { held: [const { None }; MOST], count: 0, job: Job::new(Members::AndDescendants) }
    }

    fn helpers(&self) -> impl Iterator<Item = &Helper> {
        self.held.iter().flatten()
    }

    /// Looks until a look finds no new helper.
    fn collect(&mut self) {
        for _ in 0..ROUNDS {
            if self.look() == 0 {
                break;
            }
        }
    }

    /// One look at all processes. Returns how many new helpers it found.
    fn look(&mut self) -> usize {
        let mut new = 0;
        sys::each_process(|pid, parent| new += usize::from(self.add(pid, parent)));
        new
    }

    /// Holds a process if it is a child of this process or of a helper. Returns whether it is new.
    fn add(&mut self, pid: i32, parent: i32) -> bool {
        let Some(parent_start) = self.start_of(parent) else { return false };
        if self.helpers().any(|helper| helper.pid == pid) {
            return false;
        }
        let Ok(process) = Process::open_to_end(pid) else { return false };
        // The handle is open: the id cannot be reused meanwhile.
        let is_child = |stat: &sys::Stat| {
            stat.parent == parent && stat.start >= parent_start && !stat.has_ended()
        };
        let Some(stat) = process.stat().filter(is_child) else { return false };
        if let Some(job) = &self.job {
            job.add(&process);
        }
        match self.held.get_mut(self.count) {
            Some(room) => {
                *room = Some(Helper { pid, start: stat.start, process });
                self.count += 1;
            }
            None => process.terminate(),
        }
        true
    }

    /// When this process or the helper with that id was created.
    fn start_of(&self, pid: i32) -> Option<u64> {
        if pid == sys::own_pid() {
            return sys::own_start_time();
        }
        self.helpers().find(|helper| helper.pid == pid).map(|helper| helper.start)
    }
}

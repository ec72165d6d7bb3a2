//! The helpers on Windows: the descendants of the worker, each held by a handle, and all of them in a job.
//!
//! A number proves nothing by itself. A process keeps that of its parent when the parent has ended, and a new process may
//! get it. So the parent is held first: as long as it is, nobody else has its number. Then whoever was created after
//! the parent and has its number as that of a parent is a child of that very process.

use std::time::Duration;

use crate::sys::{self, Job, Members, NoReaper, Process};

/// How many can be held. Whoever is beyond that is ended at once.
const MOST: usize = 256;
/// How often a look is made again: whoever was started during one is found by the next.
const ROUNDS: usize = 50;

pub(crate) struct Helpers {
    /// `None`: nobody is looked for.
    tree: Option<Tree>,
}

struct Tree {
    held: [Option<Helper>; MOST],
    count: usize,
    /// What they start is in it too. `None`: there is none to be had.
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

    /// From now on they end with this process, however it does: its job does.
    pub fn reap_once_gone(&mut self, _patience: Duration) -> Option<NoReaper> {
        if let Some(tree) = &mut self.tree {
            tree.collect();
        }
        None
    }

    /// Nothing on Windows asks a process to end: they are ended.
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
            // Started meanwhile by one that could not be put into the job.
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

    /// Looks until a look finds nobody new.
    fn collect(&mut self) {
        for _ in 0..ROUNDS {
            if self.look() == 0 {
                break;
            }
        }
    }

    /// One look at all processes. Returns how many helpers were new.
    fn look(&mut self) -> usize {
        let mut new = 0;
        sys::each_process(|pid, parent| new += usize::from(self.add(pid, parent)));
        new
    }

    /// Holds a process if it is a child of this one or of a helper. Whether it is new.
    fn add(&mut self, pid: i32, parent: i32) -> bool {
        let Some(parent_start) = self.start_of(parent) else { return false };
        if self.helpers().any(|helper| helper.pid == pid) {
            return false;
        }
        let Ok(process) = Process::open_to_end(pid) else { return false };
        // Asked once its number cannot be given to another.
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

    /// When this process or a helper was created, by its number.
    fn start_of(&self, pid: i32) -> Option<u64> {
        if pid == sys::own_pid() {
            return sys::own_start_time();
        }
        self.helpers().find(|helper| helper.pid == pid).map(|helper| helper.start)
    }
}

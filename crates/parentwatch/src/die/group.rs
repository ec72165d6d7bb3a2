//! The process group that ends with the worker.

use crate::sys::{self, NO_SIGNAL, Pidfd, QuietChild};

/// A process group, by its number and, where the kernel can, by the identity of its leader, so that a
/// number that has been reused is never signalled.
pub(super) struct Group {
    pub id: i32,
    leader: Option<Pidfd>,
}

impl Group {
    /// By its number alone, which nobody else can have while its leader lives.
    pub fn of(id: i32) -> Group {
        Group { id, leader: None }
    }

    /// Adds the identity of its leader, for the reaper, which outlives that.
    pub fn identify(&mut self) {
        let Some(leader) = Pidfd::open(self.id).ok().filter(|_| self.leader.is_none()) else {
            return;
        };
        let is_understood = match leader.signal_group(NO_SIGNAL) {
            // A group that is empty by now is an answer, and so is one that we may not signal. EINVAL is an older
            // kernel. A filter of system calls may say EPERM too.
            0 | libc::ESRCH => true,
            denied @ (libc::EPERM | libc::EACCES) => self.signal(NO_SIGNAL) == denied,
            _ => false,
        };
        match is_understood {
            true => self.leader = Some(leader),
            false => leader.close(),
        }
    }

    pub fn descriptor(&self) -> Option<i32> {
        self.leader.map(Pidfd::raw)
    }

    /// The error number, or 0.
    pub fn signal(&self, signal: i32) -> i32 {
        match self.leader {
            Some(leader) => leader.signal_group(signal),
            None => sys::signal_group(self.id, signal),
        }
    }

    /// Zombies count too: the kernel does not tell them apart here.
    pub fn has_members(&self) -> bool {
        self.signal(NO_SIGNAL) != libc::ESRCH
    }
}

/// Where this process stands when it ends its group.
pub(super) enum Place {
    /// Outside of it. The child holds the group that it has moved to.
    Outside(Option<QuietChild>),
    /// In it, since it leads the session too: it can neither leave (setpgid(2): EPERM), nor tell whether there are
    /// others, nor signal them without itself. Its reaper does that.
    LeadsSession,
    /// In it: no process was to be had.
    Stuck,
}

impl Place {
    /// Takes this process out of its group. A leader cannot make a new group for itself, but it can join one of the
    /// same session: a child makes that and ends at once; as a zombie it still holds it.
    pub fn leave(group: i32) -> Place {
        if sys::process_group() != group {
            return Place::Outside(None);
        }
        if group != sys::own_pid() {
            return if sys::join_group(0) { Place::Outside(None) } else { Place::Stuck };
        }
        let session = sys::session();
        if session == group {
            return Place::LeadsSession;
        }
        if let Some(child) = QuietChild::leader_of_a_new_group() {
            if sys::join_group(child.pid()) {
                return Place::Outside(Some(child));
            }
            child.reap();
        }
        // The group of the session's leader will do for the moment that is left, if there still is one. A leader
        // outside our PID namespace is 0 here, which setpgid(2) would take for ourselves.
        let joined = session > 0 && sys::join_group(session);
        if joined { Place::Outside(None) } else { Place::Stuck }
    }
}

//! The process group that ends with the worker.

use crate::sys::{self, NO_SIGNAL, Pidfd, QuietChild};

/// A process group, by its number and, where the kernel can (Linux 6.9), by a pidfd of its leader. With the pidfd a
/// reused number is never signalled.
pub(super) struct Group {
    pub id: i32,
    leader: Option<Pidfd>,
}

impl Group {
    /// By its number alone. While its leader lives, no other group can have that number.
    pub fn of(id: i32) -> Group {
        Group { id, leader: None }
    }

    /// Adds the leader's pidfd. The reaper outlives the leader and needs it.
    pub fn identify(&mut self) {
        let Some(leader) = Pidfd::open(self.id).ok().filter(|_| self.leader.is_none()) else {
            return;
        };
        let is_understood = match leader.signal_group(NO_SIGNAL) {
            // ESRCH means an empty group and EPERM one that we may not signal: both are answers. EINVAL comes from an
            // older kernel. EPERM may also come from a seccomp filter, so the plain call must agree.
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

    /// Signals the members. Returns the error number, or 0.
    pub fn signal(&self, signal: i32) -> i32 {
        match self.leader {
            Some(leader) => leader.signal_group(signal),
            None => sys::signal_group(self.id, signal),
        }
    }

    /// Zombies count as members: the kernel reports no difference here.
    pub fn has_members(&self) -> bool {
        self.signal(NO_SIGNAL) != libc::ESRCH
    }
}

/// Whether this process is still in the group that it ends.
pub(super) enum Place {
    /// Outside. The child keeps the group alive that this process has moved to.
    Outside(Option<QuietChild>),
    /// Inside: it leads the session too, so it cannot leave (setpgid(2): EPERM). It can neither see whether the group has
    /// other members nor signal them without itself. Its reaper does that.
    LeadsSession,
    /// Inside: no process could be forked.
    Stuck,
}

impl Place {
    /// Takes this process out of its group. A leader cannot make a new group for itself, but it can join another one of
    /// its session. A child makes that group and ends at once. As a zombie it keeps the group alive.
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
        // The group of the session's leader will do for the moment that is left, if it still exists. A leader outside
        // of our PID namespace is reported as 0, which setpgid(2) would take for this process.
        let joined = session > 0 && sys::join_group(session);
        if joined { Place::Outside(None) } else { Place::Stuck }
    }
}

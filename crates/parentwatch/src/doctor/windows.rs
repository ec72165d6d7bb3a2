//! Tries out what a Windows host supports.

use std::io;

use super::Host;
use crate::identity::Supervisor;
use crate::state::Tier;
use crate::sys::{self, Handle, Job, Members};

pub(super) fn examine() -> Host {
    let opened = Handle::open_in(None, sys::own_pid());
    let why = match opened {
        Ok(_) => "the kernel wakes the watcher",
        Err(_) => "this process may not open processes",
    };
    Host {
        kernel: sys::kernel_release(),
        tier: if opened.is_ok() { Tier::Event } else { Tier::Poll },
        why: why.to_owned(),
        no_job: match Job::new(Members::AndDescendants) {
            Some(_) => None,
            None => Some(io::Error::last_os_error().to_string()),
        },
    }
}

/// The state of the supervisor that the environment names.
pub(super) enum Named {
    Alive,
    Gone,
    /// Its state cannot be found out, for this reason.
    Unknown(&'static str),
}

pub(super) fn named(supervisor: Supervisor, _bearer: Option<i32>) -> Named {
    match supervisor.pid_namespace() {
        Some(namespace) if Some(namespace) != sys::pid_namespace() => {
            Named::Unknown("its token is not from Windows")
        }
        _ if sys::looks_gone(supervisor.pid(), supervisor.start_time()) => Named::Gone,
        _ => Named::Alive,
    }
}

//! Tries out what this host supports.

use std::io;
use std::thread;

use super::Host;
use crate::state::Tier;
use crate::sys::{self, Cgroup, OwnTable, Pidfd};

pub(super) fn examine() -> Host {
    let (tier, why) = tier();
    let pid_namespace = sys::pid_namespace();
    Host {
        kernel: sys::kernel_release(),
        tier,
        why,
        seccomp: sys::seccomp_mode(),
        pid_namespace,
        pid_namespace_is_initial: pid_namespace == Some(sys::INITIAL_PID_NAMESPACE),
        procfs_is_ours: sys::procfs_is_ours(),
        children_are_listed: sys::children_are_listed(),
        no_cgroup: match Cgroup::make() {
            Ok(cgroup) => (!cgroup.remove()).then(|| "it cannot be removed again".to_owned()),
            Err(error) => Some(text(&error)),
        },
    }
}

/// Tries what the watcher needs, on a thread of its own.
fn tier() -> (Tier, String) {
    let tried = thread::Builder::new().spawn(|| {
        let table = OwnTable::take().ok_or_else(io::Error::last_os_error);
        // Our own process will do: a seccomp filter cannot tell whose pidfd is opened.
        let pidfd = Pidfd::open(sys::own_pid()).map_err(|_| io::Error::last_os_error());
        if let Ok(pidfd) = pidfd {
            pidfd.close();
        }
        (table.map(drop), pidfd.map(drop))
    });
    let (table, pidfd) = match tried.map(thread::JoinHandle::join) {
        Ok(Ok(tried)) => tried,
        Ok(Err(_)) => return (Tier::None, "the thread has failed".to_owned()),
        Err(error) => return (Tier::None, format!("cannot create a thread: {}", text(&error))),
    };
    match (table, pidfd) {
        _ if cfg!(parentwatch_force_poll) => (Tier::Poll, "this program was built so".to_owned()),
        (_, Err(error)) => {
            (Tier::Poll, format!("pidfd_open (Linux 5.3): {}{}", text(&error), because(&error)))
        }
        (Err(error), _) => (
            Tier::Poll,
            format!(
                "no separate descriptor table (close_range, Linux 5.9, or unshare): {}{}",
                text(&error),
                because(&error)
            ),
        ),
        _ => (Tier::Event, "the kernel wakes the watcher".to_owned()),
    }
}

fn because(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => "; an old kernel, a sandbox or a seccomp filter",
        Some(libc::EPERM | libc::EACCES) => "; a seccomp filter or a security module",
        Some(libc::EMFILE | libc::ENFILE) => "; raise the limit on open files",
        _ => "",
    }
}

/// The error's text without the error number that Rust adds.
fn text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tier_is_the_one_that_a_watcher_gets() {
        let opened = thread::spawn(|| {
            let table = OwnTable::take();
            sys::Handle::open_in(table.as_ref(), sys::own_pid()).is_ok()
        });
        let expected = if opened.join().unwrap() { Tier::Event } else { Tier::Poll };
        let host = examine();
        assert_eq!(host.tier, expected, "{}", host.why);
    }
}

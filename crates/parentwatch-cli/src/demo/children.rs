//! The children of this process: it is a subreaper, so whatever is left of a
//! tree ends up here.

use std::collections::BTreeSet;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, pidfd_open, pidfd_send_signal, waitpid,
};

use super::procfs::processes;

/// How long killed processes may take to end.
const LIMIT: Duration = Duration::from_secs(5);

/// How long to wait between two looks at them.
const PAUSE: Duration = Duration::from_millis(1);

/// The children of this process at some moment.
#[derive(Debug)]
pub struct Children(BTreeSet<i32>);

impl Children {
    /// Finds them, those among them that have ended and were not reaped included.
    pub fn find() -> io::Result<Self> {
        let parent = getpid().as_raw_nonzero().get();
        let children = processes()?.into_iter().filter(|process| process.parent == parent);
        Ok(Self(children.map(|process| process.pid).collect()))
    }

    /// Kills and reaps every child of this process that is not one of these, and every one that
    /// comes to it as their children become orphans.
    pub fn end_others(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let mut others = Self::find()?.0;
            others.retain(|pid| !self.0.contains(pid));
            if others.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("{} processes of the demo do not end: {others:?}", others.len());
            }
            for pid in others {
                end(pid)?;
            }
            thread::sleep(PAUSE);
        }
    }
}

/// Kills one child, and reaps it if it has ended. Nobody else reaps it, so that the number is its.
fn end(pid: i32) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(pid) else {
        return Ok(());
    };
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    match pidfd_send_signal(pidfd, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => return Err(error.into()),
    }
    waitpid(Some(pid), WaitOptions::NOHANG)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn ends_others_only() {
        let mut bystander = Command::new("sleep").arg("60").spawn().unwrap();
        let bystanders = Children::find().unwrap();
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        bystanders.end_others().unwrap();
        assert_eq!(bystander.try_wait().unwrap(), None);
        assert!(other.try_wait().is_err(), "reaped already");
        bystander.kill().unwrap();
        bystander.wait().unwrap();
    }
}

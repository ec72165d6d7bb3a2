//! The children of this process. It is a subreaper, so the orphans of a tree become its children.

use std::collections::BTreeSet;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, pidfd_open, pidfd_send_signal, waitpid,
};

use super::procfs::processes;

/// The time between SIGTERM and SIGKILL. Python's resource tracker needs it to clean up.
const GRACE: Duration = Duration::from_secs(2);

/// How long killed children may take to end.
const LIMIT: Duration = Duration::from_secs(30);

/// The polling interval.
const PAUSE: Duration = Duration::from_millis(1);

/// The children of this process at one moment.
#[derive(Debug)]
pub struct Children(BTreeSet<i32>);

impl Children {
    /// Finds them, zombies included.
    pub fn find() -> io::Result<Self> {
        let parent = getpid().as_raw_nonzero().get();
        let children = processes()?.into_iter().filter(|process| process.parent == parent);
        Ok(Self(children.map(|process| process.pid).collect()))
    }

    /// Ends and reaps every child of this process that is not one of these, and the orphans that it adopts meanwhile:
    /// SIGTERM first, then SIGKILL.
    pub fn end_others(&self) -> anyhow::Result<()> {
        self.end_others_after(GRACE)
    }

    fn end_others_after(&self, grace: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut asked = BTreeSet::new();
        loop {
            let mut others = Self::find()?.0;
            others.retain(|pid| !self.0.contains(pid));
            if others.is_empty() {
                return Ok(());
            }
            if start.elapsed() >= grace + LIMIT {
                bail!("{} processes of the demo do not end: {others:?}", others.len());
            }
            for pid in others {
                if start.elapsed() >= grace {
                    end(pid, Some(Signal::KILL))?;
                } else {
                    end(pid, asked.insert(pid).then_some(Signal::TERM))?;
                }
            }
            thread::sleep(PAUSE);
        }
    }
}

/// Signals one child, and reaps it if it has ended. Only this function reaps children, so the process id is not reused.
fn end(pid: i32, signal: Option<Signal>) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(pid) else {
        return Ok(());
    };
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    match signal.map_or(Ok(()), |signal| pidfd_send_signal(pidfd, signal)) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => return Err(error.into()),
    }
    waitpid(Some(pid), WaitOptions::NOHANG)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};
    use std::sync::Mutex;

    use super::*;

    /// A test that ends all children must not run beside another one.
    static ALONE: Mutex<()> = Mutex::new(());

    #[test]
    fn ends_others_only() {
        let _alone = ALONE.lock();
        let mut bystander = Command::new("sleep").arg("600").spawn().unwrap();
        let bystanders = Children::find().unwrap();
        let mut other = Command::new("sleep").arg("600").spawn().unwrap();
        bystanders.end_others().unwrap();
        assert_eq!(bystander.try_wait().unwrap(), None);
        assert!(other.try_wait().is_err(), "reaped already");
        bystander.kill().unwrap();
        bystander.wait().unwrap();
    }

    /// What a shell prints when it is ended. It first prints hello: then its trap is set.
    fn last_words(script: &str, grace: Duration) -> String {
        let bystanders = Children::find().unwrap();
        let mut command = Command::new("sh");
        let mut shell = command.args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(shell.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "hello\n");
        bystanders.end_others_after(grace).unwrap();
        let mut rest = String::new();
        said.read_to_string(&mut rest).unwrap();
        assert!(shell.try_wait().is_err(), "reaped already");
        rest
    }

    #[test]
    fn asks_before_it_kills() {
        let _alone = ALONE.lock();
        let begin = Instant::now();
        // A long grace is no reason to wait: this shell ends at once on SIGTERM.
        let grace = Duration::from_secs(600);
        let polite = "trap 'echo bye; exit' TERM; echo hello; while :; do sleep 0.01; done";
        assert_eq!(last_words(polite, grace), "bye\n");
        assert!(begin.elapsed() < grace, "it was not killed");
    }

    #[test]
    fn kills_who_does_not_follow() {
        let _alone = ALONE.lock();
        let stubborn = "trap '' TERM; echo hello; exec sleep 600";
        assert_eq!(last_words(stubborn, Duration::from_millis(50)), "");
    }
}

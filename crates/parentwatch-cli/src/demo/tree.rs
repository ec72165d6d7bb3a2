//! The process tree: this program starts a supervisor, and that starts the workers.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Deserialize;
use tempfile::TempDir;

use super::Options;
use super::children::Children;
use super::procfs::{Process, processes};
use crate::signals::StopSignals;

/// The variable that switches the watcher off.
const WATCH: &str = "LOCALAI_BACKEND_PARENT_WATCH";

/// The variable for the polling interval.
const INTERVAL: &str = "LOCALAI_BACKEND_PARENT_WATCH_INTERVAL";

/// How much longer than its workers the supervisor may take. A busy machine may be slow.
const SUPERVISOR_MARGIN: Duration = Duration::from_secs(30);

/// How long a worker may take to answer `Health`.
const HEALTH_LIMIT: Duration = Duration::from_secs(30);

/// Whether the workers of a tree watch their supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// The watcher is on.
    On,
    /// The watcher is switched off.
    Off,
}

/// A running supervisor with its workers. When it is dropped, its processes are ended and its files removed.
#[derive(Debug)]
pub struct Tree {
    supervisor: Child,
    /// The supervisor's program. It can also ask a server for its health.
    program: PathBuf,
    workers: Vec<Worker>,
    /// The children that this process had before. They must not be ended.
    bystanders: Children,
    /// Holds the stderr of the supervisor and the state of the workers.
    directory: TempDir,
}

/// A worker of the tree.
#[derive(Debug)]
pub struct Worker {
    /// The language that it is written in.
    pub kind: String,
    /// Whether it is not linked with the library but run by `exec`.
    pub is_guarded: bool,
    /// Its process id.
    pub pid: i32,
    /// The port of the loopback address that it serves on.
    pub port: u16,
    /// Refers to this process only, and becomes readable when it ends.
    pub pidfd: OwnedFd,
    /// Where its stderr goes.
    stderr: PathBuf,
}

impl Worker {
    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        // A file that cannot be read counts as empty: there is no death line.
        fs::read(&self.stderr)
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .unwrap_or_default()
    }

    /// Handles on its helpers: its descendants, and the other processes in the group that it leads.
    pub fn find_helpers(&self) -> io::Result<Vec<OwnedFd>> {
        let mut helpers = Vec::new();
        for pid in find_family(&processes()?, self.pid) {
            let Some(pid) = Pid::from_raw(pid).filter(|pid| pid.as_raw_pid() != self.pid) else {
                continue;
            };
            match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(pidfd) => helpers.push(pidfd),
                // It has ended since it was listed.
                Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(helpers)
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl fmt::Display for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.pid)
    }
}

/// The process `pid`, its group, and all descendants of these.
fn find_family(processes: &[Process], pid: i32) -> BTreeSet<i32> {
    let mut family = BTreeSet::from([pid]);
    // A child may be listed before its parent.
    loop {
        let count = family.len();
        for process in processes.iter().filter(|process| !process.is_zombie) {
            if process.group == pid || family.contains(&process.parent) {
                family.insert(process.pid);
            }
        }
        if family.len() == count {
            return family;
        }
    }
}

/// A line of the supervisor's output: a worker that is ready.
#[derive(Debug, Deserialize)]
struct WorkerLine {
    kind: String,
    #[serde(default)]
    guarded: bool,
    pid: i32,
    port: u16,
    state_dir: PathBuf,
}

/// A line of the output of `supervisor health`.
#[derive(Debug, Deserialize)]
struct HealthLine {
    addr: String,
    ok: bool,
}

impl Tree {
    /// Starts the supervisor and waits until it has reported all of its workers.
    pub fn start(options: &Options, watch: Watch, stop: &StopSignals) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("localai-parentwatch-demo-")
            .tempdir()
            .context("cannot make a temporary directory")?;
        let stderr = File::create(directory.path().join("stderr"))?;
        let mut command = Command::new(&options.supervisor);
        command
            .arg("--until-stdin-eof") // In case this program is killed.
            .arg("--workers")
            .arg(options.workers.to_string())
            .arg("--ready-timeout")
            .arg(format!("{}ms", options.ready_timeout.as_millis()))
            .arg("--state-dir")
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            // The limits for the poll tier assume the default interval.
            .env_remove(INTERVAL)
            // Only this program gets a ^C; it then ends the tree.
            .process_group(0);
        for (option, programs) in [("--worker", &options.programs), ("--guarded", &options.guarded)]
        {
            for program in programs {
                command.arg(option).arg(format!("{}={}", program.kind, program.path));
            }
        }
        match watch {
            Watch::On => command.env_remove(WATCH),
            Watch::Off => command.env(WATCH, "off"),
        };

        let bystanders = Children::find()?;
        let program = options.supervisor.clone();
        let supervisor = command.spawn().with_context(|| {
            format!("cannot start {}, which `make demo` builds", program.display())
        })?;
        // From here on, dropping the tree ends the processes, also when this function fails.
        let mut tree = Self { supervisor, program, workers: Vec::new(), bystanders, directory };
        let stdout = tree.supervisor.stdout.take().context("the supervisor has no stdout")?;
        let mut lines = Lines::new(stdout, options.ready_timeout + SUPERVISOR_MARGIN);
        let kinds = options.programs.len() + options.guarded.len();
        for _ in 0..usize::from(options.workers) * kinds {
            let Some(line) = lines.next(stop)? else {
                return Err(tree.supervisor_failed());
            };
            let line: WorkerLine = serde_json::from_str(&line)
                .with_context(|| format!("the supervisor printed {line:?}"))?;
            tree.workers.push(line.try_into()?);
        }
        Ok(tree)
    }

    /// The workers, in the order in which the supervisor reported them.
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// The workers, and their supervisor so that it can be killed.
    pub fn split(&mut self) -> (&[Worker], &mut Child) {
        (&self.workers, &mut self.supervisor)
    }

    /// Asks all workers at once for their health over gRPC. Returns whether each answers.
    pub fn health(&self, stop: &StopSignals) -> anyhow::Result<Vec<bool>> {
        let mut asking = Command::new(&self.program)
            .arg("health")
            .arg("--timeout")
            .arg(format!("{}ms", HEALTH_LIMIT.as_millis()))
            .args(self.workers.iter().map(Worker::address))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null()) // The output also has the workers that do not answer.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let stdout = asking.stdout.take().context("no stdout")?;
        let mut lines = Lines::new(stdout, HEALTH_LIMIT + SUPERVISOR_MARGIN);
        let mut answers = Vec::with_capacity(self.workers.len());
        for worker in &self.workers {
            let line = lines.next(stop)?.context("the health of the workers is unknown")?;
            let line: HealthLine = serde_json::from_str(&line)
                .with_context(|| format!("asked for the health of workers, got {line:?}"))?;
            if line.addr != worker.address() {
                bail!("asked for the health of {worker}, got that of {}", line.addr);
            }
            answers.push(line.ok);
        }
        asking.wait()?;
        Ok(answers)
    }

    /// Fails when a worker does not answer `Health`.
    pub fn require_health(&self, stop: &StopSignals) -> anyhow::Result<()> {
        match self.workers.iter().zip(self.health(stop)?).find(|(_, ok)| !ok) {
            Some((worker, _)) => Err(anyhow!("worker {worker} does not answer Health")),
            None => Ok(()),
        }
    }

    /// Ends the processes of the tree.
    pub fn end(self) -> anyhow::Result<()> {
        self.bystanders.end_others()
    }

    /// Why the supervisor ended before its workers were ready: its last line on stderr.
    fn supervisor_failed(&self) -> anyhow::Error {
        let text = fs::read(self.directory.path().join("stderr")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        match text.lines().last() {
            Some(line) => anyhow!("{line}"),
            None => anyhow!("the supervisor ended before its workers were ready"),
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // Errors are ignored here: `end` reports them.
        let _ = self.bystanders.end_others();
    }
}

impl TryFrom<WorkerLine> for Worker {
    type Error = anyhow::Error;

    fn try_from(line: WorkerLine) -> anyhow::Result<Self> {
        let WorkerLine { kind, guarded, pid, port, state_dir } = line;
        let open = |pid| pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from);
        let pidfd = Pid::from_raw(pid)
            .ok_or_else(|| anyhow!("the supervisor reported a worker without a pid"))
            .and_then(|pid| Ok(open(pid)?))
            .with_context(|| format!("no handle on worker {kind} {pid}"))?;
        let stderr = state_dir.join("stderr");
        Ok(Self { kind, is_guarded: guarded, pid, port, pidfd, stderr })
    }
}

/// Reads the lines that a process prints, up to a deadline.
struct Lines {
    stdout: ChildStdout,
    deadline: Instant,
    buffer: Vec<u8>,
}

impl Lines {
    fn new(stdout: ChildStdout, time: Duration) -> Self {
        Self { stdout, deadline: Instant::now() + time, buffer: Vec::new() }
    }

    /// The next line without its end, or `None` at the end of the output.
    fn next(&mut self, stop: &StopSignals) -> anyhow::Result<Option<String>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
            }
            if !stop.wait_readable(self.stdout.as_fd(), self.deadline)? {
                bail!("the supervisor does not answer");
            }
            let mut chunk = [0; 4096];
            let count = self.stdout.read(&mut chunk)?;
            if count == 0 {
                return Ok(None);
            }
            self.buffer.extend_from_slice(chunk.get(..count).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_helpers_in_every_session() {
        let process = |pid, parent, group| Process { pid, is_zombie: false, parent, group };
        let listed = [
            process(9, 8, 9), // It has its own session, and is listed before its parent.
            process(8, 5, 5),
            process(5, 2, 5),
            process(7, 1, 5), // An orphan.
            process(6, 2, 6), // Another child of the supervisor, for example a guardian.
            Process { is_zombie: true, ..process(10, 5, 5) },
        ];
        assert_eq!(find_family(&listed, 5), BTreeSet::from([5, 7, 8, 9]));
    }
}

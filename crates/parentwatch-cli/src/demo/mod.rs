//! `localai-parentwatch demo`: the same tree of processes twice, with the watcher and without it.
//!
//! A supervisor starts gRPC workers and is killed with SIGKILL. With the watcher the workers end too. Without it they
//! stay, hold their ports and answer. This program is the subreaper of both trees: the orphans become its children, so
//! that it sees each of them end and leaves none behind.

mod children;
mod death_line;
mod measure;
mod procfs;
mod render;
mod report;
mod tree;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;

use crate::say;
use crate::signals::{Interrupted, StopSignals};
use report::{Limits, Orphan, Protected, Report};
use tree::{Tree, Watch};

/// How long protected workers and their helpers may outlive their supervisor: 1 s, plus the interval of 2 s in the poll
/// tier. Helpers are killed 1 s after their worker has ended.
const LIMITS: Limits = Limits {
    event: Duration::from_secs(1),
    poll: Duration::from_secs(3),
    helpers: Duration::from_secs(2),
};

/// Kill the supervisor of real gRPC workers and show what the workers do
///
/// A supervisor written in Go starts the workers as LocalAI starts its backends, and is killed with SIGKILL: once with
/// the watcher in the workers, once with the watcher switched off. The exit status is 1 if a protected worker or one of
/// its helpers was alive 1 s later (in the poll tier: one interval more). It is also 1 if a worker without the watcher
/// did not survive: then the demo has shown nothing.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Number of workers of each kind
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u16).range(1..=500))]
    workers: u16,

    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,

    /// The supervisor's program
    #[arg(long, value_name = "PATH", default_value = "target/demo/supervisor")]
    supervisor: PathBuf,

    /// Kind of worker and its program; may be repeated
    #[arg(long = "worker", value_name = "KIND=PATH",
          default_values = [
              "cpp=target/demo/worker-cpp",
              "rust=target/demo/worker-rust",
              "python=target/demo/worker-python/run.sh",
              "go=target/demo/worker-go",
              "go-degraded=target/demo/worker-go-degraded",
          ])]
    programs: Vec<Program>,

    /// The same for a program without the library, which the supervisor runs under `exec`: localai-parentwatch is beside
    /// the supervisor or in PATH
    #[arg(
        long = "guarded",
        value_name = "KIND=PATH",
        default_value = "exec=target/demo/worker-python/unlinked.sh"
    )]
    guarded: Vec<Program>,

    /// How long the workers may take to become ready, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    ready_timeout: Duration,

    /// How long to watch the unprotected workers after the kill, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    orphan_time: Duration,
}

/// A kind of worker and its program, as the supervisor expects them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Program {
    kind: String,
    path: String,
}

impl FromStr for Program {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((kind, path)) if !kind.is_empty() && !path.is_empty() => {
                Ok(Self { kind: kind.to_owned(), path: path.to_owned() })
            }
            _ => Err("expected KIND=PATH"),
        }
    }
}

/// Reads a duration from the command line: seconds, from 10 ms to 1 h.
fn seconds(text: &str) -> Result<Duration, &'static str> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.01..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected a number of seconds from 0.01 to 3600"),
    }
}

/// The whole command. Returns the exit status.
pub fn main(options: &Options) -> u8 {
    match run(options) {
        Ok(held) => u8::from(!held),
        Err(error) => match error.downcast_ref::<Interrupted>() {
            // Without the context of what it was doing at that moment.
            Some(interrupted) => {
                say(format_args!("{interrupted}"));
                interrupted.exit_status()
            }
            None => {
                say(format_args!("{error:#}"));
                1
            }
        },
    }
}

/// Runs the demo and prints what it saw. Returns whether that is what it should see.
fn run(options: &Options) -> anyhow::Result<bool> {
    let stop = StopSignals::install().context("cannot take signals")?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(io::Error::from)
        .context("cannot become a subreaper")?;
    let progress = Progress::new();

    let protected = protected(options, &stop, &progress)?;
    let unprotected = unprotected(options, &stop, &progress)?;
    progress.done();

    let report = Report::new(protected, unprotected, &LIMITS);
    let mut stdout = anstream::AutoStream::auto(io::stdout().lock());
    let fancy =
        io::stdout().is_terminal() && stdout.current_choice() != anstream::ColorChoice::Never;
    let text = match options.json {
        true => serde_json::to_string_pretty(&report)? + "\n",
        false => render::report(&report, fancy, &LIMITS, options.orphan_time),
    };
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("cannot print")?;
    Ok(report.ok)
}

/// The first tree: every worker watches its supervisor.
fn protected(
    options: &Options,
    stop: &StopSignals,
    progress: &Progress,
) -> anyhow::Result<Vec<Protected>> {
    progress.say("starting a supervisor and its workers");
    let mut tree = Tree::start(options, Watch::On, stop)?;
    tree.require_health(stop)?;
    progress.say("killing the supervisor");
    let outcomes = measure::kill_and_watch(&mut tree, LIMITS.longest(), stop)?;
    let seen = tree.workers().iter().zip(outcomes);
    let seen = seen.map(|(worker, outcome)| Protected::new(worker, &outcome)).collect();
    tree.end()?;
    Ok(seen)
}

/// The second tree: the watcher is switched off, as if the workers had none.
fn unprotected(
    options: &Options,
    stop: &StopSignals,
    progress: &Progress,
) -> anyhow::Result<Vec<Orphan>> {
    progress.say("starting the same tree with the watcher switched off");
    let mut tree = Tree::start(options, Watch::Off, stop)?;
    tree.require_health(stop)?;
    progress.say("killing the supervisor, watching the orphans");
    let outcomes = measure::kill_and_watch(&mut tree, options.orphan_time, stop)?;
    let answers = tree.health(stop)?;
    let orphans = orphans()?;
    let seen = tree.workers().iter().zip(outcomes).zip(answers);
    let seen =
        seen.map(|((worker, outcome), ok)| Orphan::new(worker, &outcome, ok, &orphans)).collect();
    progress.say("ending the orphans");
    tree.end()?;
    Ok(seen)
}

/// The process ids of the orphans that `doctor` knows.
fn orphans() -> anyhow::Result<Vec<i32>> {
    #[derive(Deserialize)]
    struct Found {
        orphans: Vec<Process>,
    }
    #[derive(Deserialize)]
    struct Process {
        pid: i32,
    }
    let (text, _) = parentwatch::doctor::run(std::env::var_os, true, &[])
        .map_err(anyhow::Error::msg)
        .context("doctor")?;
    let found: Found = serde_json::from_str(&text).context("doctor's JSON")?;
    Ok(found.orphans.into_iter().map(|process| process.pid).collect())
}

/// A progress line on stderr, if that is a terminal.
struct Progress(ProgressBar);

impl Progress {
    fn new() -> Self {
        // indicatif hides it if stderr is no terminal.
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("· {msg} …") {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Shows `message` until the next one. There is no ticking thread, which could disturb a measurement.
    fn say(&self, message: &'static str) {
        self.0.set_message(message);
    }

    fn done(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.done();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_programs() {
        let program = |kind: &str, path: &str| Program { kind: kind.into(), path: path.into() };
        assert_eq!("cpp=/bin/a=b".parse(), Ok(program("cpp", "/bin/a=b")));
        for bad in ["", "cpp", "cpp=", "=/bin/a"] {
            assert!(bad.parse::<Program>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn reads_seconds() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        for bad in ["", "0", "-1", "1s", "inf", "NaN", "3601"] {
            assert!(seconds(bad).is_err(), "{bad:?}");
        }
    }
}

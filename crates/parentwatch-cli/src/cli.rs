//! The command line.

use std::ffi::OsString;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use parentwatch::{Scope, Supervisor, parse_duration_or_zero};

#[cfg(feature = "demo")]
use crate::demo;

/// End workers when their supervisor dies
#[derive(Debug, Parser)]
#[command(name = "localai-parentwatch", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    Exec(Exec),
    Doctor(Doctor),
    #[cfg(feature = "demo")]
    Demo(demo::Options),
    #[cfg(feature = "pages")]
    /// Write the man pages and the shell completions
    #[command(hide = true)]
    Generate {
        folder: std::path::PathBuf,
    },
}

/// Run a program and end it, with its helpers, when its supervisor dies
///
/// Starts a guardian, then replaces itself by CMD. CMD keeps the process id, the parent, the process group, the
/// terminal, the descriptors and the signals. When the supervisor dies, CMD and its helpers get SIGTERM and, after the
/// grace, SIGKILL. When CMD ends, the processes that it left behind end in the same way. A program that puts itself
/// into the background therefore ends: start it in the foreground.
///
/// The supervisor is the parent, or the process that LOCALAI_BACKEND_PARENT_PID names. The variables
/// LOCALAI_BACKEND_PARENT_WATCH, ..._INTERVAL, ..._SCOPE and ..._GRACE apply too. Options override them.
///
/// The exit status is that of CMD. It is 127 when there is no such program, 126 when it cannot be executed, 1 when the
/// supervisor has died already, and 2 for a usage error.
#[derive(Debug, Args)]
#[command(override_usage = "localai-parentwatch exec [OPTIONS] [--] CMD [ARG]...")]
pub struct Exec {
    /// Time between SIGTERM and SIGKILL, such as 500ms, 2s or 1m30s; 0 for none [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = grace)]
    pub grace: Option<Duration>,

    /// What to end: tree, group or process [default: tree]
    #[arg(long, value_parser = Scope::from_str)]
    pub scope: Option<Scope>,

    /// Supervisor: PID or PID@STARTTIME@PIDNS, as in LOCALAI_BACKEND_PARENT_PID
    #[arg(long, value_name = "TOKEN", value_parser = Supervisor::from_str)]
    pub parent: Option<Supervisor>,

    /// Run CMD in its own control group, which no descendant can leave (cgroup v2, Linux 5.14)
    #[arg(long)]
    pub cgroup: bool,

    /// Print to stderr which process guards which
    #[arg(long)]
    pub verbose: bool,

    /// Program to run, with its arguments
    #[arg(
        value_name = "CMD",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = false
    )]
    pub command: Vec<OsString>,
}

/// Show what this host supports, the workers, and the orphans
///
/// Shows how a supervisor would be watched here and why, the effective LOCALAI_BACKEND_PARENT_* settings, the workers,
/// and the orphans: processes whose LOCALAI_BACKEND_PARENT_PID names a process that has died. It ends nothing without
/// --end.
///
/// The exit status is 0, or 1 if there are orphans. With --end it is 0 if all the named orphans are gone, and 1 if one
/// is not. It is 2 if one of the named processes is no orphan: then none is ended.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    /// End these orphans and their helpers: SIGTERM, then SIGKILL after 1 s
    #[arg(long, value_name = "PID", num_args = 1.., value_parser = clap::value_parser!(i32).range(1..))]
    pub end: Vec<i32>,
}

fn grace(text: &str) -> Result<Duration, &'static str> {
    parse_duration_or_zero(text)
        .filter(|grace| *grace <= Duration::from_secs(3600))
        .ok_or("expected a duration such as 500ms, 2s or 1m30s, at most 1h")
}

//! What can be asked for on the command line.

use std::ffi::OsString;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use parentwatch::{Scope, Supervisor, parse_duration_or_zero};

#[cfg(feature = "demo")]
use crate::demo;

/// Workers that end with their supervisor
#[derive(Debug, Parser)]
#[command(name = "localai-parentwatch", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub enum Command {
    Exec(Exec),
    Doctor(Doctor),
    #[cfg(feature = "demo")]
    Demo(demo::Options),
    #[cfg(feature = "pages")]
    /// Write the man pages and the completions of shells
    #[command(hide = true)]
    Generate {
        folder: std::path::PathBuf,
    },
}

/// Run a program that ends with its supervisor, and whose helpers end with it
///
/// Starts a guardian and becomes CMD, which keeps the process id, the parent, the process group, the terminal,
/// descriptors and signals. When the supervisor is gone, CMD and its helpers get SIGTERM and, after the grace, SIGKILL.
/// When CMD has ended, whatever it leaves behind goes the same way. So a program that puts itself into the background
/// is ended: start it in the foreground.
///
/// The supervisor is the parent, or whom LOCALAI_BACKEND_PARENT_PID names. The variables
/// LOCALAI_BACKEND_PARENT_WATCH, ..._INTERVAL, ..._SCOPE and ..._GRACE hold here too; options beat them.
///
/// The exit status is CMD's; 127 when there is no such program, 126 when it cannot be run, 1 when the supervisor is
/// gone already, 2 for a mistake on the command line.
#[derive(Debug, Args)]
#[command(override_usage = "localai-parentwatch exec [OPTIONS] [--] CMD [ARG]...")]
pub struct Exec {
    /// The time between SIGTERM and SIGKILL, such as 500ms, 2s or 1m30s; 0: none [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = grace)]
    pub grace: Option<Duration>,

    /// What ends: tree, group or process [default: tree]
    #[arg(long, value_parser = Scope::from_str)]
    pub scope: Option<Scope>,

    /// The supervisor, PID or PID@STARTTIME@PIDNS, as in LOCALAI_BACKEND_PARENT_PID
    #[arg(long, value_name = "TOKEN", value_parser = Supervisor::from_str)]
    pub parent: Option<Supervisor>,

    /// Begin CMD in a control group of its own, which nobody escapes (cgroup v2, Linux 5.14)
    #[arg(long)]
    pub cgroup: bool,

    /// Say on stderr who guards whom
    #[arg(long)]
    pub verbose: bool,

    /// The program and its arguments
    #[arg(
        value_name = "CMD",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = false
    )]
    pub command: Vec<OsString>,
}

/// Show what this host can do, the workers, and the orphans
///
/// Tells how a supervisor would be watched here and why, what the LOCALAI_BACKEND_PARENT_* variables come to, which
/// workers there are, and which processes a supervisor has left behind: those whose LOCALAI_BACKEND_PARENT_PID names a
/// process that is gone. It ends nothing unless it is asked to with --end.
///
/// The exit status is 0, or 1 when there are orphans. With --end it is 0 when all of them are gone, 1 when one is not,
/// and 2, with nobody ended, when one of the processes is no orphan.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    /// End these orphans and their helpers: SIGTERM, and SIGKILL after 1 s
    #[arg(long, value_name = "PID", num_args = 1.., value_parser = clap::value_parser!(i32).range(1..))]
    pub end: Vec<i32>,
}

fn grace(text: &str) -> Result<Duration, &'static str> {
    parse_duration_or_zero(text)
        .filter(|grace| *grace <= Duration::from_secs(3600))
        .ok_or("expected a duration such as 500ms, 2s or 1m30s, at most 1h")
}

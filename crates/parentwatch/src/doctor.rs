//! What `localai-parentwatch doctor` finds: what this host can do, what the environment asks for, the workers, and the
//! orphans that a supervisor left behind.
//!
//! Looking changes nothing. [`end`] ends orphans, and nobody else.

use std::ffi::OsStr;
use std::fmt;
use std::io;

use serde::Serialize;

use crate::config::Scope;
use crate::state::Tier;

#[cfg(any(target_os = "linux", windows))]
mod environment;
#[cfg(target_os = "linux")]
mod gpu;
#[cfg(target_os = "linux")]
mod host;
#[cfg(target_os = "linux")]
mod processes;
mod show;
#[cfg(windows)]
mod windows;

pub use show::{plain, run};

/// The variables that are explained.
pub const VARIABLES: [&str; 5] = [
    crate::ENV_PARENT_WATCH,
    crate::ENV_PARENT_PID,
    crate::ENV_PARENT_WATCH_SCOPE,
    crate::ENV_PARENT_WATCH_GRACE,
    crate::ENV_PARENT_WATCH_INTERVAL,
];

/// What was found.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// What this host can do.
    pub host: Host,
    /// What the environment asks for: every variable of the contract.
    pub environment: Vec<Variable>,
    /// The workers that can be seen. On Windows neither they nor the orphans are looked for: there the
    /// environment of another process is found in its memory alone.
    pub workers: Vec<Worker>,
    /// The processes whose supervisor is gone.
    pub orphans: Vec<Orphan>,
    /// How many processes are not in these lists because this user may not look into them.
    pub hidden: usize,
}

/// What this host can do for a worker that is started as this process was.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Host {
    /// The kernel's release.
    pub kernel: String,
    /// How a supervisor would be watched.
    pub tier: Tier,
    /// Why so.
    pub why: String,
    /// The mode of seccomp(2): 0 none, 1 strict, 2 a filter; `None` where it is not known.
    #[cfg(not(windows))]
    pub seccomp: Option<u64>,
    /// The inode of the PID namespace.
    #[cfg(not(windows))]
    pub pid_namespace: Option<u64>,
    /// It is the one that the system booted with.
    #[cfg(not(windows))]
    pub pid_namespace_is_initial: bool,
    /// `/proc` is that of this PID namespace. Without it no process can be seen.
    #[cfg(not(windows))]
    pub procfs_is_ours: bool,
    /// The kernel lists the children of a process (`CONFIG_PROC_CHILDREN`).
    #[cfg(not(windows))]
    pub children_are_listed: bool,
    /// Why a control group with `cgroup.kill` cannot be had; `None` where it can.
    #[cfg(not(windows))]
    pub no_cgroup: Option<String>,
    /// Why there can be no job; `None` where it can. A job is what `exec` puts its program into.
    #[cfg(windows)]
    pub no_job: Option<String>,
}

/// A variable of the environment.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Its value, escaped to printable ASCII and shortened; `None` when it is not set.
    pub value: Option<String>,
    /// What it comes to.
    pub meaning: String,
    /// What is wrong with the value.
    pub problem: Option<String>,
}

/// A process that is watched over: it is linked with the library, or has a guardian.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Worker {
    /// Its process id.
    pub pid: i32,
    /// Its command line.
    pub command: String,
    /// Whom it ends with; `None` for a guarded process that ends with nobody.
    pub supervisor: Option<i32>,
    /// How that one is watched; [`Tier::None`] where this user may not look.
    pub tier: Tier,
    /// What ends with it, as its environment asks; `None` where this user may not look. An option of the program's own
    /// is not seen.
    pub scope: Option<Scope>,
    /// Its guardian, if `exec` has started it.
    pub guardian: Option<i32>,
    /// It runs the library itself.
    pub is_linked: bool,
}

/// A process whose `LOCALAI_BACKEND_PARENT_PID` names a process that is gone.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Orphan {
    /// Its process id.
    pub pid: i32,
    /// Its command line.
    pub command: String,
    /// The supervisor that is gone, as it was named.
    pub supervisor: String,
    /// Its resident memory in bytes.
    pub resident: Option<u64>,
    /// Its GPU memory in bytes, as `nvidia-smi` tells.
    pub gpu: Option<u64>,
}

/// An orphan that [`end`] was asked to end.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Ended {
    /// Its process id.
    pub pid: i32,
    /// Its command line.
    pub command: String,
    /// How many of its descendants were ended with it.
    pub helpers: usize,
    /// It is gone. Else this user may not signal it, or the kernel holds it.
    pub is_gone: bool,
}

/// Why nobody was ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum EndError {
    /// This process is no orphan.
    NotAnOrphan(i32),
    /// This orphan is an ancestor of the calling process, which would end with it.
    Ancestor(i32),
    /// The system cannot be looked at.
    Io(io::Error),
}

impl fmt::Display for EndError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndError::NotAnOrphan(pid) => {
                write!(f, "{pid}: expected an orphan, as `doctor` lists them; nobody was ended")
            }
            EndError::Ancestor(pid) => {
                write!(f, "{pid}: this program runs below it and would end too; nobody was ended")
            }
            EndError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for EndError {}

/// Looks. `lookup` is the environment, as in [`Config::from_lookup`](crate::Config::from_lookup).
///
/// It makes a thread and, where it may, a control group, to see whether they can be had; both are gone when it returns.
///
/// # Errors
///
/// [`io::ErrorKind::Unsupported`] on systems other than Linux and Windows.
pub fn examine<V: AsRef<OsStr>>(lookup: impl Fn(&'static str) -> Option<V>) -> io::Result<Report> {
    #[cfg(target_os = "linux")]
    {
        let processes::Found { workers, mut orphans, hidden } = processes::look();
        if !orphans.is_empty() {
            let used = gpu::memory();
            for orphan in &mut orphans {
                orphan.gpu = gpu::of(orphan.pid, &used);
            }
        }
        let environment = environment::explain(lookup);
        Ok(Report { host: host::examine(), environment, workers, orphans, hidden })
    }
    #[cfg(windows)]
    {
        let environment = environment::explain(lookup);
        let host = windows::examine();
        Ok(Report { host, environment, workers: Vec::new(), orphans: Vec::new(), hidden: 0 })
    }
    #[cfg(not(any(target_os = "linux", windows)))]
    {
        let _ = lookup;
        Err(unsupported())
    }
}

/// Ends orphans, each with its descendants and the process group that it leads: SIGTERM, and SIGKILL after 1 s for
/// those that are left. Returns when they are gone.
///
/// # Errors
///
/// Nobody is ended when one of them is no orphan, or is an ancestor of this process.
pub fn end(pids: &[i32]) -> Result<Vec<Ended>, EndError> {
    #[cfg(target_os = "linux")]
    {
        processes::end(pids)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = pids;
        Err(EndError::Io(unsupported()))
    }
}

#[cfg(not(target_os = "linux"))]
fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "not supported on this system")
}

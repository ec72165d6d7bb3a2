//! The report of `localai-parentwatch doctor`: what this host supports, what the environment variables mean, the
//! workers, and the orphans that a dead supervisor has left behind.
//!
//! [`examine`] ends no process. [`end`] ends orphans, with their descendants and process groups, and nothing else.

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

/// The environment variables that the report explains.
pub const VARIABLES: [&str; 5] = [
    crate::ENV_PARENT_WATCH,
    crate::ENV_PARENT_PID,
    crate::ENV_PARENT_WATCH_SCOPE,
    crate::ENV_PARENT_WATCH_GRACE,
    crate::ENV_PARENT_WATCH_INTERVAL,
];

/// The report.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// What this host supports.
    pub host: Host,
    /// Every variable of the contract, and what it means.
    pub environment: Vec<Variable>,
    /// The workers that this user may see. Always empty on Windows, as is `orphans`: there the environment of another
    /// process can only be read from its memory.
    pub workers: Vec<Worker>,
    /// The processes whose supervisor is gone.
    pub orphans: Vec<Orphan>,
    /// How many processes are in neither list because this user may not read them.
    pub hidden: usize,
}

/// What this host supports for a worker that is started in the same way as this process.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Host {
    /// The kernel's release.
    pub kernel: String,
    /// How a supervisor would be watched.
    pub tier: Tier,
    /// Why this tier.
    pub why: String,
    /// The seccomp(2) mode: 0 none, 1 strict, 2 a filter. `None` if it is not known.
    #[cfg(not(windows))]
    pub seccomp: Option<u64>,
    /// The inode of the PID namespace.
    #[cfg(not(windows))]
    pub pid_namespace: Option<u64>,
    /// Whether it is the one that the system booted with.
    #[cfg(not(windows))]
    pub pid_namespace_is_initial: bool,
    /// Whether `/proc` is that of this PID namespace. Otherwise no process can be seen.
    #[cfg(not(windows))]
    pub procfs_is_ours: bool,
    /// Whether the kernel lists the children of a process (`CONFIG_PROC_CHILDREN`).
    #[cfg(not(windows))]
    pub children_are_listed: bool,
    /// Why no control group with `cgroup.kill` can be made. `None` if it can.
    #[cfg(not(windows))]
    pub no_cgroup: Option<String>,
    /// Why no job object can be made. `None` if it can. `exec` puts its program into a job object.
    #[cfg(windows)]
    pub no_job: Option<String>,
}

/// An environment variable.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Its value, escaped to printable ASCII and shortened. `None` if it is not set.
    pub value: Option<String>,
    /// What the value means.
    pub meaning: String,
    /// What is wrong with the value. `None` if nothing is.
    pub problem: Option<String>,
}

/// A process that ends with its supervisor: it is linked with the library, or has a guardian.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Worker {
    /// Its process id.
    pub pid: i32,
    /// Its command line.
    pub command: String,
    /// The process id of its supervisor. `None` for a guarded process without one.
    pub supervisor: Option<i32>,
    /// How its supervisor is watched. [`Tier::None`] if this user may not read that.
    pub tier: Tier,
    /// Which processes end with it, according to its environment. An option that the program passes to the library
    /// cannot be seen. `None` if this user may not read the environment.
    pub scope: Option<Scope>,
    /// The process id of its guardian. `None` if it was not started by `exec`.
    pub guardian: Option<i32>,
    /// Whether it runs the library itself.
    pub is_linked: bool,
}

/// A process whose `LOCALAI_BACKEND_PARENT_PID` names a supervisor that is gone.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Orphan {
    /// Its process id.
    pub pid: i32,
    /// Its command line.
    pub command: String,
    /// The value of that variable.
    pub supervisor: String,
    /// Its resident memory in bytes. `None` if it is not known.
    pub resident: Option<u64>,
    /// Its GPU memory in bytes, from `nvidia-smi`. `None` if it is not known.
    pub gpu: Option<u64>,
}

/// The result of ending one orphan by [`end`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Ended {
    /// Its process id.
    pub pid: i32,
    /// Its command line.
    pub command: String,
    /// How many of its descendants were ended with it.
    pub helpers: usize,
    /// Whether it is gone. If not, this user may not signal it, or the kernel is still freeing it.
    pub is_gone: bool,
}

/// Why [`end`] has ended no process.
#[derive(Debug)]
#[non_exhaustive]
pub enum EndError {
    /// This process is not an orphan.
    NotAnOrphan(i32),
    /// This orphan is an ancestor of the calling process, which would end too.
    Ancestor(i32),
    /// The processes cannot be read.
    Io(io::Error),
}

impl fmt::Display for EndError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndError::NotAnOrphan(pid) => {
                write!(
                    f,
                    "{pid}: expected an orphan from the list of `doctor`; no process was ended"
                )
            }
            EndError::Ancestor(pid) => {
                write!(
                    f,
                    "{pid}: this program runs below it and would end too; no process was ended"
                )
            }
            EndError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for EndError {}

/// Makes the report. `lookup` is the environment, as in [`Config::from_lookup`](crate::Config::from_lookup).
///
/// To find out whether that works, it makes a thread and, where it may, a control group. Both are gone when it returns.
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

/// Ends orphans, each with its descendants and the process group that it leads. All get SIGTERM. After 1 s, those that
/// are left get SIGKILL. Returns once they are gone.
///
/// # Errors
///
/// If one of the processes is not an orphan, or is an ancestor of this process, none is ended.
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

//! Ends a worker process when its supervisor dies.
//!
//! LocalAI starts one gRPC server process per model. When LocalAI is killed, nobody stops those workers: they keep
//! gigabytes of GPU memory and their ports. A worker that calls [`start`] first thing in `main` ends a fraction of a
//! millisecond after its supervisor. Until then it costs one sleeping thread, and one more for a hook.
//!
//! ```no_run
//! // First thing in main. It is a safety net: the server runs, whatever it returns.
//! let _ = parentwatch::start();
//! ```
//!
//! It is a backstop. Normal shutdown is unchanged: the program's signal handlers, masks and exit handlers are
//! untouched.
//!
//! # The order of dying
//!
//! When the supervisor has died:
//!
//! 1. The hook runs, if there is one, for at most its grace. Without a hook, and with a grace set, the worker gets
//!    SIGTERM and that time for its own graceful stop.
//! 2. The helpers get SIGTERM: the worker's descendants, and the process group that it leads.
//! 3. The reaper, a small separate process, sends SIGKILL to those that are left after 1 s, or after the grace.
//! 4. One line goes to stderr. It never waits for a pipe, a socket or a terminal.
//! 5. `_exit(1)`: no destructors, no exit handlers.
//!
//! On Windows there is no SIGTERM. After the hook the descendants are ended, the line is printed, and
//! `TerminateProcess` ends the worker with status 1. The descendants are in a job that ends with the worker, so they
//! also end if the hook ends the process.
//!
//! # Descriptors
//!
//! The watcher's thread has its own descriptor table (Linux 5.9, or `unshare`). The program never sees a descriptor of
//! the watcher.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod arm;
mod config;
mod die;
#[cfg(feature = "doctor")]
pub mod doctor;
mod duration;
mod exec;
#[cfg(all(target_os = "linux", not(parentwatch_macos_shim)))]
mod guardian;
mod identity;
mod options;
mod state;
mod sys;
mod wait_for_exit;
mod watch;

pub use arm::{start, status};
pub use config::{
    Config, ENV_PARENT_PID, ENV_PARENT_WATCH, ENV_PARENT_WATCH_GRACE, ENV_PARENT_WATCH_INTERVAL,
    ENV_PARENT_WATCH_SCOPE, ParseScopeError, Scope, Warning,
};
pub use duration::{parse_duration, parse_duration_or_zero};
pub use exec::{Exec, ExecError};
pub use identity::{ParseSupervisorError, Supervisor};
pub use options::Options;
pub use state::{Error, Info, Status, Tier};
pub use wait_for_exit::{Exit, parent_died, wait_for_exit, wait_for_exit_or};

/// Names this process as the supervisor of a child that it starts.
///
/// ```no_run
/// use parentwatch::CommandExt;
/// std::process::Command::new("./worker").name_supervisor().spawn()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait CommandExt {
    /// Sets `LOCALAI_BACKEND_PARENT_PID` in the child's environment to the [`token`] of this process.
    ///
    /// Call it in the process that starts the child: a forked child has another token.
    fn name_supervisor(&mut self) -> &mut Self;
}

impl CommandExt for std::process::Command {
    fn name_supervisor(&mut self) -> &mut Self {
        self.env(ENV_PARENT_PID, token())
    }
}

/// The token of this process: the value of `LOCALAI_BACKEND_PARENT_PID` for the workers that it starts. It is
/// `PID@STARTTIME@PIDNS`, or the process id alone where the system does not provide the rest.
///
/// It is valid for the life of this process. A forked child has another token. Safe from any thread.
///
/// With a [`Command`](std::process::Command), use [`CommandExt::name_supervisor`].
pub fn token() -> String {
    Supervisor::this_process().to_string()
}

//! Ends a worker process when its supervisor is gone.
//!
//! LocalAI starts one gRPC server process per model. When LocalAI is killed, nobody stops those
//! workers: they keep gigabytes of GPU memory and their ports. A worker that calls [`start`] first
//! thing in `main` is gone within a fraction of a millisecond after its supervisor, and costs nothing
//! until then: one sleeping thread, and one more for a hook.
//!
//! ```no_run
//! // first thing in main; a safety net: whatever it answers, the server runs
//! let _ = parentwatch::start();
//! ```
//!
//! It is a backstop. Normal shutdown is unchanged: the program's signal handlers, masks and exit handlers are
//! untouched.
//!
//! # The order of dying
//!
//! When the supervisor is gone:
//!
//! 1. The hook runs, if there is one, for at most its grace. Without a hook, and with a grace set, the worker gets
//!    SIGTERM and that time for its own graceful stop.
//! 2. The helpers get SIGTERM: the worker's descendants, and the process group that it leads.
//! 3. A reaper, a small process of its own, sends SIGKILL to those that are left after 1 s, or after the grace.
//! 4. One line goes to stderr. It never waits for a pipe, a socket or a terminal.
//! 5. `_exit(1)`: no destructors, no exit handlers.
//!
//! On Windows there is no SIGTERM: after the hook the descendants are ended, then comes the line, then `TerminateProcess`
//! with status 1. They are in a job that ends with the worker, so that they go however the hook ends it.
//!
//! # Descriptors
//!
//! The watcher's thread has a descriptor table of its own (Linux 5.9, or `unshare`). The program never sees a
//! descriptor of the watcher's.

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

/// Names this process as the supervisor to a child that it starts.
///
/// ```no_run
/// use parentwatch::CommandExt;
/// std::process::Command::new("./worker").name_supervisor().spawn()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait CommandExt {
    /// Sets `LOCALAI_BACKEND_PARENT_PID` in the child's environment to the [`token`] of this process.
    ///
    /// Call it in the process that starts the child: a forked child has a token of its own.
    fn name_supervisor(&mut self) -> &mut Self;
}

impl CommandExt for std::process::Command {
    fn name_supervisor(&mut self) -> &mut Self {
        self.env(ENV_PARENT_PID, token())
    }
}

/// The token of this process, for `LOCALAI_BACKEND_PARENT_PID` in the environment of the workers that
/// it starts: `PID@STARTTIME@PIDNS`, or the process id alone where the system cannot give the rest.
///
/// Valid for the life of this process; a forked child has its own. Safe from any thread.
///
/// For a [`Command`](std::process::Command) there is [`CommandExt::name_supervisor`].
pub fn token() -> String {
    Supervisor::this_process().to_string()
}

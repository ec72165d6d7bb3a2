//! Ends a worker process when its supervisor is gone.
//!
//! LocalAI starts one gRPC server process per model. When LocalAI is killed, nobody stops those
//! workers: they keep gigabytes of GPU memory and their ports. A worker that calls [`start`] first
//! thing in `main` is gone within a fraction of a millisecond after its supervisor, and costs nothing
//! until then: one sleeping thread and one descriptor (two of these when the supervisor is further up than the
//! parent, and one thread more for a hook).
//!
//! ```no_run
//! // first thing in main; a safety net: whatever it answers, the server runs
//! let _ = parentwatch::start();
//! ```
//!
//! It is a backstop and changes nothing about a graceful stop: no signal disposition, no signal mask
//! of the program's own threads, no exit handler.
//!
//! # The order of dying
//!
//! When the supervisor is gone the watcher thread writes one line to stderr (never blocking), runs the
//! hook if there is one (bounded by its grace), ends the helpers in the worker's process group (SIGTERM
//! now, or with a hook once the worker is gone; SIGKILL 1 s after the worker is gone), and leaves by `_exit(1)`: no
//! destructors, no exit handlers, no signal to itself.
//!
//! # What it cannot see
//!
//! A program that closes or replaces the watcher's descriptor is noticed at the next wake, which moves that
//! watch to polling. One that puts something over it that never becomes readable is not noticed, and that
//! watch is blind from then on.

mod arm;
mod config;
mod die;
mod duration;
mod hook;
mod identity;
mod line;
mod machine;
mod options;
mod state;
mod sys;
mod wait_for_exit;
mod watch;

pub use arm::{start, status};
pub use config::{
    Config, ENV_PARENT_PID, ENV_PARENT_WATCH, ENV_PARENT_WATCH_INTERVAL, ENV_PARENT_WATCH_SCOPE,
    ParseScopeError, Scope, Warning,
};
pub use duration::parse_duration;
pub use identity::{ParseSupervisorError, Supervisor};
pub use options::Options;
pub use state::{Error, Info, Status, Tier};
pub use wait_for_exit::{Exit, parent_died, wait_for_exit, wait_for_exit_or};

/// The token of this process, for `LOCALAI_BACKEND_PARENT_PID` in the environment of the workers that
/// it starts: `PID@STARTTIME@PIDNS`, or the process id alone where the system cannot give the rest.
///
/// Valid for the life of this process; a forked child has its own. Safe from any thread.
///
/// ```no_run
/// # fn main() -> std::io::Result<()> {
/// std::process::Command::new("./worker")
///     .env(parentwatch::ENV_PARENT_PID, parentwatch::token())
///     .spawn()?;
/// # Ok(()) }
/// ```
pub fn token() -> String {
    Supervisor::this_process().to_string()
}

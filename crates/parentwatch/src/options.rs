//! What a program asks for in code. It beats the environment, except that a watcher switched off
//! stays off.

use std::time::Duration;

use crate::config::{Config, MAX_GRACE, MAX_INTERVAL, MIN_INTERVAL, Scope, Warning};
use crate::die::hook::Hook;
use crate::identity::Supervisor;
use crate::state::{Error, Status};

/// Options for [`start`](crate::start). What is not given comes from the environment, then from the
/// defaults.
///
/// ```no_run
/// use std::time::Duration;
/// let status = parentwatch::Options::new()
///     .scope(parentwatch::Scope::Process)
///     .grace(Duration::from_secs(2))
///     .on_death(|| { /* flush what must not be lost */ })
///     .start()?;
/// # Ok::<(), parentwatch::Error>(())
/// ```
#[derive(Debug, Default)]
#[must_use = "options do nothing until `start` is called"]
pub struct Options {
    pub(crate) parent: Option<Supervisor>,
    pub(crate) interval: Option<Duration>,
    pub(crate) scope: Option<Scope>,
    pub(crate) grace: Option<Duration>,
    pub(crate) on_death: Option<Hook>,
    pub(crate) environment: Option<(Config, Vec<Warning>)>,
}

impl Options {
    /// Nothing asked for: everything comes from the environment.
    pub fn new() -> Options {
        Options::default()
    }

    /// Who the supervisor is, as in `LOCALAI_BACKEND_PARENT_PID`.
    pub fn parent(mut self, supervisor: Supervisor) -> Options {
        self.parent = Some(supervisor);
        self
    }

    /// How often the polling tier looks: from 10 ms to 1 h, else [`Error::Invalid`]. Default 2 s.
    pub fn interval(mut self, interval: Duration) -> Options {
        self.interval = Some(interval);
        self
    }

    /// What ends with the supervisor. Default [`Scope::Tree`].
    pub fn scope(mut self, scope: Scope) -> Options {
        self.scope = Some(scope);
        self
    }

    /// How long the worker, and after it its helpers, may take to end by themselves once the supervisor is gone: at
    /// most 1 h, else [`Error::Invalid`]. As `LOCALAI_BACKEND_PARENT_WATCH_GRACE`.
    ///
    /// The worker has that time for its hook or, without a hook, for its own graceful stop, which a SIGTERM to
    /// itself begins. The helpers have it between SIGTERM and SIGKILL. Unset, a hook has 5 s, a worker without a
    /// hook none, and helpers 1 s. Zero: nobody has any, and the hook does not run.
    ///
    /// Windows has no SIGTERM: there it is the time of the hook alone, and the helpers are ended after it.
    pub fn grace(mut self, grace: Duration) -> Options {
        self.grace = Some(grace);
        self
    }

    /// Runs `hook` once when the supervisor is gone, before the worker exits. It runs on a thread of
    /// its own (`parent-hook`, at least 1 MiB of stack, signals blocked) that arming makes, and is bounded
    /// by the grace. Whether it returns, panics or hangs, the worker exits with status 1.
    ///
    /// A hook that calls `exit`, or crashes, ends the process its own way, with a status of its own; the helpers
    /// go all the same. One that is still running when the grace is over is cut off wherever it is.
    pub fn on_death(mut self, hook: impl FnOnce() + Send + 'static) -> Options {
        self.on_death = Some(Hook::closure(hook));
        self
    }

    /// [`on_death`](Options::on_death) for C: the same function with the same data, given again, is
    /// the same option.
    ///
    /// # Safety
    ///
    /// `function` must be callable once with `user_data` from another thread at any later time of this
    /// process, and must not unwind (throw) into its caller.
    pub unsafe fn on_death_function(
        mut self,
        function: unsafe extern "C" fn(*mut std::ffi::c_void),
        user_data: *mut std::ffi::c_void,
    ) -> Options {
        // SAFETY: the caller's promise is the one that is asked for here.
        self.on_death = Some(unsafe { Hook::function(function, user_data) });
        self
    }

    /// What the environment says, read beforehand by [`Config::from_lookup`], so that starting does not read
    /// it: for a program that changes its environment under a lock of its own (Python's) and does not hold
    /// it while this blocks.
    pub fn environment(mut self, read: (Config, Vec<Warning>)) -> Options {
        self.environment = Some(read);
        self
    }

    /// Starts the watcher with these options; see [`start`](crate::start), which is this without any.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when an option is out of range, or when the watcher is already armed with
    /// other ones (a hook among them); the armed watcher is not touched. The others as `start`.
    pub fn start(self) -> Result<Status, Error> {
        crate::arm::start_with(self)
    }

    pub(crate) fn asks_for_nothing(&self) -> bool {
        let Options { parent, interval, scope, grace, on_death, environment: _ } = self;
        parent.is_none()
            && interval.is_none()
            && scope.is_none()
            && grace.is_none()
            && on_death.is_none()
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.interval.is_some_and(|interval| !(MIN_INTERVAL..=MAX_INTERVAL).contains(&interval))
        {
            return Err(Error::Invalid("interval: expected from 10ms to 1h"));
        }
        if self.grace.is_some_and(|grace| grace > MAX_GRACE) {
            return Err(Error::Invalid("grace: expected at most 1h"));
        }
        Ok(())
    }
}

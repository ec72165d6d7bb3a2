//! The options of a program. They override the environment, which can always switch the watcher off.

use std::time::Duration;

use crate::config::{Config, MAX_GRACE, MAX_INTERVAL, MIN_INTERVAL, Scope, Warning};
use crate::die::hook::Hook;
use crate::identity::Supervisor;
use crate::state::{Error, Status};

/// Options for [`start`](crate::start). An option that is not given comes from the environment, then from the defaults.
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
    /// No options: everything comes from the environment.
    pub fn new() -> Options {
        Options::default()
    }

    /// Names the supervisor, as `LOCALAI_BACKEND_PARENT_PID` does.
    pub fn parent(mut self, supervisor: Supervisor) -> Options {
        self.parent = Some(supervisor);
        self
    }

    /// The polling interval: from 10 ms to 1 h, else [`Error::Invalid`]. Default: 2 s.
    pub fn interval(mut self, interval: Duration) -> Options {
        self.interval = Some(interval);
        self
    }

    /// What ends with the supervisor. Default: [`Scope::Tree`].
    pub fn scope(mut self, scope: Scope) -> Options {
        self.scope = Some(scope);
        self
    }

    /// The time to exit once the supervisor has died, at most 1 h, else [`Error::Invalid`]. It is the same as
    /// `LOCALAI_BACKEND_PARENT_WATCH_GRACE`.
    ///
    /// The worker has this time for its hook. Without a hook it gets SIGTERM, and has this time for its own graceful
    /// stop. After that, the helpers have this time between SIGTERM and SIGKILL. If it is not set, a hook has 5 s, a
    /// worker without a hook no time, and helpers 1 s. With zero nobody has any time, and the hook does not run.
    ///
    /// Windows has no SIGTERM. There it limits the hook only, and the helpers are ended after it.
    pub fn grace(mut self, grace: Duration) -> Options {
        self.grace = Some(grace);
        self
    }

    /// Runs `hook` once when the supervisor has died, before the worker exits. It has its own thread, `parent-hook`,
    /// with at least 1 MiB of stack and with signals blocked. Arming creates that thread.
    ///
    /// The worker exits with status 1 when the hook returns or panics, and at the end of the grace even if the hook
    /// still runs. A hook may end the process itself, by `exit` or a crash: the exit status is then its own, and the
    /// helpers still end.
    pub fn on_death(mut self, hook: impl FnOnce() + Send + 'static) -> Options {
        self.on_death = Some(Hook::closure(hook));
        self
    }

    /// [`on_death`](Options::on_death) for C. A later call with the same function and data asks for the same option.
    ///
    /// # Safety
    ///
    /// Another thread must be able to call `function` with `user_data` once, at any time in the life of this process.
    /// `function` must not unwind (throw) into its caller.
    pub unsafe fn on_death_function(
        mut self,
        function: unsafe extern "C" fn(*mut std::ffi::c_void),
        user_data: *mut std::ffi::c_void,
    ) -> Options {
        // SAFETY: the caller makes the promise that `Hook::function` requires.
        self.on_death = Some(unsafe { Hook::function(function, user_data) });
        self
    }

    /// The settings in the environment, read beforehand by [`Config::from_lookup`]: then starting does not read them.
    /// This is for programs that guard their environment by a lock, as Python does, and do not hold that lock while
    /// `start` blocks.
    pub fn environment(mut self, read: (Config, Vec<Warning>)) -> Options {
        self.environment = Some(read);
        self
    }

    /// Starts the watcher with these options. [`start`](crate::start) is the same without options.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if an option is out of range, or if the watcher is already armed with other options,
    /// including another hook. The armed watcher is not changed. Other errors are those of `start`.
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

//! `localai-parentwatch exec`: runs a program under a guardian, for programs that cannot be changed.

use std::ffi::CStr;
use std::fmt;
use std::io;

use crate::options::Options;
use crate::state::Error;

/// Runs a program under a guardian, in place of this process.
///
/// The program keeps the process id, parent, process group, terminal, descriptors and signals of this process, and the
/// parent gets its exit status. The *guardian* is a small separate process, not a child of the program. It watches the
/// supervisor by the rules of [`start`](crate::start), and it watches the program.
///
/// - When the supervisor dies, the program gets SIGTERM, and so do its group and its helpers, as far as the scope
///   includes them. Those that are left after the grace, 1 s unless set, get SIGKILL. One line goes to the program's
///   stderr, if that is a file opened for appending, a pipe or a terminal.
/// - When the program ends, its helpers end in the same way: with [`Scope::Tree`](crate::Scope::Tree) all processes
///   that carry its mark, with [`Scope::Group`](crate::Scope::Group) only those in the group that it led. This also
///   ends a program that puts itself into the background: start it in the foreground.
///
/// The *mark* is a soft limit `RLIMIT_RTTIME` that is unique to the program. All its descendants inherit it, whatever
/// they do to their environment, session or parent. The limit has no effect on programs that are not real-time
/// (getrlimit(2)). A program that sets this limit itself loses the mark; `sudo` and `su` do.
///
/// If there can be no guardian (as on systems other than Linux and Windows), one line says so, and the program runs
/// without one. If `LOCALAI_BACKEND_PARENT_WATCH` switches the watcher off, there is no guardian. If the guardian is
/// killed, the program runs on.
///
/// # Windows
///
/// On Windows a process cannot replace itself by another program. This process stays and is the guardian. The program
/// is its child, with another process id, in a job that ends with this process. These rules differ:
///
/// - There is no SIGTERM. When the supervisor dies, the program and its helpers are ended after the grace, at once
///   unless one is set.
/// - The helpers are all processes that the program started, directly or not. With
///   [`Scope::Group`](crate::Scope::Group) only the program ends.
/// - It guards unless `LOCALAI_BACKEND_PARENT_WATCH` switches it off. It needs no opt-in there.
/// - When this process is killed, the program and its helpers end.
/// - This process ignores Ctrl-C and leaves it to the program. It exits with the program's exit status.
#[derive(Debug, Default)]
#[must_use = "nothing runs until `run` is called"]
pub struct Exec {
    options: Options,
    in_cgroup: bool,
    is_verbose: bool,
}

impl Exec {
    /// Options that are not given come from the environment. A hook is invalid: no process could run it.
    pub fn new(options: Options) -> Exec {
        Exec { options, ..Exec::default() }
    }

    /// Runs the program in its own control group (cgroup v2), below that of this process. At the end, `cgroup.kill`
    /// (Linux
    /// 5.14) ends all processes in it. If the group cannot be created, one line says so. With another scope than
    /// [`Scope::Tree`](crate::Scope::Tree) this does nothing.
    pub fn cgroup(mut self, in_cgroup: bool) -> Exec {
        self.in_cgroup = in_cgroup;
        self
    }

    /// Prints one line to stderr that says which process guards which, and how.
    pub fn verbose(mut self, is_verbose: bool) -> Exec {
        self.is_verbose = is_verbose;
        self
    }

    /// Executes the program. `command` has its name and its arguments. `environment` has its variables as `NAME=VALUE`;
    /// `None` means the environment of this process. The name is looked up in the `PATH` of that environment, as a
    /// shell does.
    ///
    /// It returns only if that fails. This process is then unchanged, and there is no guardian. If the supervisor is
    /// proven to have died already, this process exits with status 1.
    ///
    /// It forks, so another thread must not change the environment meanwhile. The other threads of this process end, as
    /// with execve(2).
    pub fn run(self, command: &[&CStr], environment: Option<&[&CStr]>) -> ExecError {
        if let Err(Error::Invalid(what)) = self.options.check() {
            return ExecError::Invalid(what);
        }
        if self.options.on_death.is_some() {
            return ExecError::Invalid("on_death: expected none: exec cannot run a hook");
        }
        let Some(program) = command.first() else {
            return ExecError::Invalid("command: expected a program and its arguments");
        };
        #[cfg(windows)]
        return job::run(self, program, command, environment);
        #[cfg(not(windows))]
        {
            let guarded = guarded::begin(self, program, environment);
            let error = crate::sys::exec(command, environment);
            guarded.take_back();
            ExecError::NotExecuted(error)
        }
    }
}

/// Why a program was not executed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExecError {
    /// A bad argument. The text says which one, and what was expected.
    Invalid(&'static str),
    /// execve(2) failed.
    NotExecuted(io::Error),
}

impl ExecError {
    /// The error number of execve(2); `None` for a bad argument.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            ExecError::Invalid(_) => None,
            ExecError::NotExecuted(error) => error.raw_os_error(),
        }
    }

    /// The exit status that a shell uses for it: 127 if there is no such program, 126 if it cannot be executed, 2 for a
    /// bad argument.
    pub fn exit_status(&self) -> u8 {
        match self {
            ExecError::Invalid(_) => 2,
            ExecError::NotExecuted(error) if error.kind() == io::ErrorKind::NotFound => 127,
            ExecError::NotExecuted(_) => 126,
        }
    }
}

impl fmt::Display for ExecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExecError::Invalid(what) => f.write_str(what),
            ExecError::NotExecuted(error) => {
                let text = error.to_string();
                f.write_str(text.split(" (os error").next().unwrap_or(&text))
            }
        }
    }
}

impl std::error::Error for ExecError {}

#[cfg(all(target_os = "linux", not(parentwatch_macos_shim)))]
mod guarded {
    use std::ffi::CStr;

    use super::Exec;
    use crate::arm::{Naming, warn, warn_of_bad_values};
    use crate::config::{Config, Scope};
    use crate::die::line::Line;
    use crate::guardian::{self, Plan, Started};
    use crate::identity::Worker;
    use crate::state::Tier;
    use crate::sys::{self, Cgroup, Limit, Mark};

    /// What must be undone if the program cannot be executed.
    #[derive(Default)]
    pub(super) struct Guarded {
        guardian: Option<i32>,
        limit: Option<Limit>,
        cgroup: Option<Cgroup>,
    }

    impl Guarded {
        pub(super) fn take_back(self) {
            if let Some(guardian) = self.guardian {
                guardian::dismiss(guardian);
            }
            if let Some(limit) = self.limit {
                limit.set();
            }
            if let Some(cgroup) = self.cgroup {
                cgroup.leave();
            }
        }
    }

    /// Starts the guardian, and puts this process under it.
    pub(super) fn begin(exec: Exec, program: &CStr, new: Option<&[&CStr]>) -> Guarded {
        let Exec { mut options, in_cgroup, is_verbose } = exec;
        let read = options.environment.take();
        let (environment, warnings) = read.unwrap_or_else(|| Config::from_lookup(std::env::var_os));
        if !environment.enabled {
            return Guarded::default();
        }
        warn_of_bad_values(&warnings, &options);
        if sys::is_out_of_reach(program, new) {
            warn(
                format_args!(
                    "{}: set-user-ID: it runs as another user, so its guardian cannot end it",
                    program.to_string_lossy()
                ),
                None,
            );
        }
        let mark = Mark::new();
        let limit = mark.put_on();
        if limit.is_none() {
            warn(
                format_args!(
                    "RLIMIT_RTTIME is set already and stays: helpers that leave the program's tree are not found"
                ),
                None,
            );
        }
        let scope = options.scope.unwrap_or(environment.scope);
        // The control group ends all processes in it. Only this scope asks for that.
        let cgroup = if in_cgroup && scope == Scope::Tree { make_cgroup() } else { None };
        let mut plan = Plan {
            worker: Worker::this_process(),
            naming: Naming::of(&options, &environment),
            interval: options.interval.unwrap_or(environment.interval),
            scope,
            grace: options.grace.or(environment.grace),
            mark: limit.map(|_| mark),
            cgroup,
        };
        let started = guardian::start(&plan);
        let cgroup = plan.cgroup.take();
        let mut guarded = Guarded { guardian: None, limit, cgroup };
        let worker = plan.worker;
        match started {
            Ok(Started::Orphaned { pid, is_named }) => orphaned(guarded, pid, is_named, worker.pid),
            // The guardian watches this parent. If the parent died meanwhile, it watches none.
            Ok(Started::Ready { guardian, watches_parent: true, .. })
                if sys::parent_is_gone(worker.parent, false) =>
            {
                guarded.guardian = Some(guardian);
                let is_named = plan.naming.named.is_some_and(|named| named.pid() == worker.parent);
                orphaned(guarded, worker.parent, is_named, worker.pid)
            }
            Ok(Started::Ready { guardian, tier, .. }) => {
                guarded.guardian = Some(guardian);
                if is_verbose {
                    let how = if tier == Tier::Event { "event" } else { "poll" };
                    warn(
                        format_args!(
                            "guardian {guardian} guards {} (parent {}, scope {}, {how})",
                            worker.pid, worker.parent, plan.scope
                        ),
                        None,
                    );
                }
            }
            Err(code) => {
                warn(
                    format_args!(
                        "cannot start a guardian (error {code}): the program runs without one"
                    ),
                    None,
                );
                guarded.take_back();
                return Guarded::default();
            }
        }
        if let Some(Err(error)) = guarded.cgroup.as_ref().map(Cgroup::enter) {
            no_cgroup(&error);
        }
        guarded
    }

    fn make_cgroup() -> Option<Cgroup> {
        Cgroup::make().inspect_err(no_cgroup).ok()
    }

    fn no_cgroup(error: &std::io::Error) {
        warn(
            format_args!(
                "cannot create a control group ({error}): helpers are found by their mark"
            ),
            None,
        );
    }

    fn orphaned(guarded: Guarded, pid: i32, is_named: bool, worker: i32) -> ! {
        guarded.take_back();
        sys::write_to_stderr(Line::gone(pid, is_named, worker, Tier::None).as_bytes(), None);
        sys::exit_now()
    }
}

#[cfg(windows)]
mod job;

#[cfg(any(not(any(target_os = "linux", windows)), parentwatch_macos_shim))]
mod guarded {
    use std::ffi::CStr;

    use super::Exec;
    use crate::arm::warn;
    use crate::config::Config;

    pub(super) struct Guarded;

    impl Guarded {
        pub(super) fn take_back(self) {}
    }

    pub(super) fn begin(mut exec: Exec, _: &CStr, _: Option<&[&CStr]>) -> Guarded {
        let read = exec.options.environment.take();
        let (environment, _) = read.unwrap_or_else(|| Config::from_lookup(std::env::var_os));
        if environment.enabled {
            warn(format_args!("no guardian on this system: the program runs without one"), None);
        }
        Guarded
    }
}

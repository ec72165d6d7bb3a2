//! Becoming a program that is guarded: `localai-parentwatch exec`, for programs that cannot be changed.

use std::ffi::CStr;
use std::fmt;
use std::io;

use crate::options::Options;
use crate::state::Error;

/// Runs a program under a guardian, in place of this process.
///
/// The program keeps what this process has: process id, parent, process group, terminal, descriptors, signals, and its
/// exit status goes to the parent. The *guardian* is a small process of its own, no child of the program's. It ends
/// the program with its supervisor, by the rules of [`start`](crate::start), and ends whatever the program leaves
/// behind when that dies itself.
///
/// - The supervisor is gone: SIGTERM for the program and, as the scope says, its group and its helpers; SIGKILL for
///   those that are left after the grace, 1 s unless set. One line goes to the program's stderr, where that is a file
///   opened for appending, a pipe or a terminal.
/// - The program has ended: with [`Scope::Tree`](crate::Scope::Tree) all that carry its mark are ended in the same
///   way, with [`Scope::Group`](crate::Scope::Group) those of them that are in the group that it led. A program that
///   puts itself into the background ends so: start it in the foreground.
///
/// The *mark* is the program's soft limit `RLIMIT_RTTIME`, a number of its own. All that descends from the program
/// inherits it, whatever it does to its environment, session or parent. It means nothing to programs that are not
/// real-time (getrlimit(2)). Who sets that limit itself, `sudo` and `su` among them, gets rid of the mark.
///
/// Where no guardian can be had (and on systems other than Linux and Windows) one line says so, and the program runs all
/// the same. Switched off by `LOCALAI_BACKEND_PARENT_WATCH` there is none. Should the guardian be killed, the program runs
/// on.
///
/// # Windows
///
/// A process cannot become another one there. This process stays and is the guardian: the program is its child, with a
/// process id of its own, in a job that ends with this process. The rules are the same, but for these:
///
/// - Nothing asks a process to end: when the supervisor is gone, the program and its helpers are ended after the grace,
///   at once unless one is set.
/// - The helpers are all that the program has started, directly or not. With [`Scope::Group`](crate::Scope::Group) it is
///   the program alone that ends.
/// - [`run`](Exec::run) is asked for, so that it guards unless `LOCALAI_BACKEND_PARENT_WATCH` switches it off.
/// - When this process is killed, the program and its helpers end.
/// - Ctrl-C is the program's business. Its exit status is that of this process.
#[derive(Debug, Default)]
#[must_use = "nothing runs until `run` is called"]
pub struct Exec {
    options: Options,
    in_cgroup: bool,
    is_verbose: bool,
}

impl Exec {
    /// With these options; what is not given comes from the environment. A hook is invalid: it would run in no
    /// process.
    pub fn new(options: Options) -> Exec {
        Exec { options, ..Exec::default() }
    }

    /// Begins the program in a control group of its own (cgroup v2) below that of this process, where one may be made.
    /// At the end `cgroup.kill` (Linux 5.14) leaves nobody. Where that is not to be had, one line says so. It is for
    /// [`Scope::Tree`](crate::Scope::Tree); with another scope it does nothing.
    pub fn cgroup(mut self, in_cgroup: bool) -> Exec {
        self.in_cgroup = in_cgroup;
        self
    }

    /// Says in one line on stderr who is guarded for whom, and how.
    pub fn verbose(mut self, is_verbose: bool) -> Exec {
        self.is_verbose = is_verbose;
        self
    }

    /// Becomes the program: `command` is its name and its arguments, `environment` is `NAME=VALUE` each, `None` that of
    /// this process. The name is looked for in the `PATH` of that environment, as a shell does.
    ///
    /// Returns only when that fails; then no guardian is left, and this process is as it was. A supervisor that is
    /// proven to have died already ends this process with status 1.
    ///
    /// It forks: not to be called while another thread changes the environment. Other threads of this process end, as
    /// execve(2) says.
    pub fn run(self, command: &[&CStr], environment: Option<&[&CStr]>) -> ExecError {
        if let Err(Error::Invalid(what)) = self.options.check() {
            return ExecError::Invalid(what);
        }
        if self.options.on_death.is_some() {
            return ExecError::Invalid("on_death: expected none, since nobody could run it");
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

/// Why a program does not run.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExecError {
    /// A bad argument: what, and what was expected.
    Invalid(&'static str),
    /// execve(2) says so.
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

    /// The exit status that a shell has for it: 127 when there is no such program, 126 when it cannot be run, 2 for a
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

    /// What has to be taken back when the program cannot be run.
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

    /// Starts the guardian, and makes this process one that is guarded.
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
                    "{}: set-user-ID: it runs as another user, whom its guardian cannot end",
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
                    "a limit RLIMIT_RTTIME is in force and stays: helpers that leave the program's tree are not found"
                ),
                None,
            );
        }
        let scope = options.scope.unwrap_or(environment.scope);
        // It ends all that are in it, which the other scopes do not ask for.
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
            // The guardian is on this parent or, when it died meanwhile, on nobody.
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
                        "no guardian to be had (error {code}): the program runs unguarded"
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
                "no control group to be had ({error}): the helpers are known by their mark"
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
            warn(format_args!("no guardian on this system: the program runs unguarded"), None);
        }
        Guarded
    }
}

//! `exec` on Windows: this process stays, and the program is its child, in a job.

use std::ffi::CStr;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Exec, ExecError};
use crate::arm::{Naming, Whom, warn, warn_of_bad_values, whom_to_watch};
use crate::config::{Config, DEFAULT_GRACE, Scope};
use crate::die::line::Line;
use crate::identity::Worker;
use crate::options::Options;
use crate::state::Tier;
use crate::sys::{self, Handle, Job, Members, Process};
use crate::watch::{Gone, Kernel, ThisKernel, Watched};

/// Returns only when the program cannot be started.
pub(super) fn run(
    exec: Exec,
    program: &CStr,
    arguments: &[&CStr],
    environment: Option<&[&CStr]>,
) -> ExecError {
    let Exec { mut options, in_cgroup: _, is_verbose } = exec;
    let Some(mut command) = command(program, arguments, environment) else {
        return ExecError::Invalid("command, environment: expected UTF-8");
    };
    let (config, warnings) = options.environment.take().unwrap_or_else(Config::of_exec);
    let mut watched = Watched { parent: None, supervisor: None };
    let naming = Naming::of(&options, &config);
    if config.enabled {
        warn_of_bad_values(&warnings, &options);
        match whom_to_watch(None, Worker::this_process(), naming, None) {
            Whom::Nobody => {}
            Whom::Watch { watched: found, .. } => watched = found,
            Whom::Orphaned(gone) => orphaned(naming, gone),
        }
        if let Err(gone) = watched.begin(&mut ThisKernel(None)) {
            orphaned(naming, gone);
        }
    }
    sys::leave_console_events_to_others();
    let scope = options.scope.unwrap_or(config.scope);
    // There are no process groups here.
    let members = if scope == Scope::Tree { Members::AndDescendants } else { Members::Alone };
    let job = if config.enabled { Job::new(members) } else { None };
    let program = match sys::spawn(&mut command, job.as_ref()) {
        Ok((program, is_in_job)) => {
            if config.enabled && !is_in_job {
                warn(
                    format_args!(
                        "cannot create a job: the helpers of {} are not ended",
                        program.pid()
                    ),
                    None,
                );
            }
            program
        }
        Err(error) => return ExecError::NotExecuted(error),
    };
    let mut guardian = Guardian { program, job };
    if is_verbose && config.enabled {
        guardian.introduce(&watched, scope);
    }
    let interval = options.interval.unwrap_or(config.interval);
    let Options { grace, .. } = options;
    let grace = grace.or(config.grace);
    let gone = watched.until_death(&mut guardian, interval, grace.unwrap_or(DEFAULT_GRACE), |_| {});
    guardian.end_program(grace.unwrap_or(Duration::ZERO));
    tell(naming, gone, guardian.program.pid());
    sys::exit_now()
}

fn command(program: &CStr, arguments: &[&CStr], environment: Option<&[&CStr]>) -> Option<Command> {
    let mut command = Command::new(program.to_str().ok()?);
    for argument in arguments.iter().skip(1) {
        command.arg(argument.to_str().ok()?);
    }
    if let Some(environment) = environment {
        command.env_clear();
        for entry in environment {
            // The name may begin with "=": the shell has variables such as `=C:=C:\\folder`.
            let entry = entry.to_str().ok()?;
            let (at, _) = entry.char_indices().skip(1).find(|(_, letter)| *letter == '=')?;
            command.env(entry.get(..at)?, entry.get(at + 1..)?);
        }
    }
    Some(command)
}

fn orphaned(naming: Naming, gone: Gone) -> ! {
    tell(naming, gone, sys::own_pid());
    sys::exit_now()
}

fn tell(naming: Naming, gone: Gone, worker: i32) {
    let is_named = naming.named.is_some_and(|named| named.pid() == gone.pid);
    let line = Line::gone(gone.pid, is_named, worker, gone.tier);
    sys::write_to_stderr(line.as_bytes(), None);
}

/// This process, while the program runs.
struct Guardian {
    program: Process,
    job: Option<Job>,
}

impl Guardian {
    fn introduce(&self, watched: &Watched<Handle>, scope: Scope) {
        let parent = watched.parent.or(watched.supervisor).map_or(0, |target| target.pid);
        let how = if watched.tier() == Tier::Event { "event" } else { "poll" };
        let (own, program) = (sys::own_pid(), self.program.pid());
        warn(
            format_args!("guardian {own} guards {program} (parent {parent}, scope {scope}, {how})"),
            None,
        );
    }

    /// The supervisor has died: ends the program and its helpers.
    fn end_program(&self, grace: Duration) {
        sys::wait([Some(Handle::of(&self.program))], Some(grace));
        self.end_job();
        self.program.terminate();
    }

    fn end_job(&self) {
        if let Some(job) = &self.job {
            job.end();
        }
    }
}

/// The end of the program ends every wait.
impl Kernel for Guardian {
    type Handle = Handle;

    fn open(&mut self, pid: i32) -> Option<Handle> {
        ThisKernel(None).open(pid)
    }

    fn parent_is_gone(&mut self, pid: i32, fired: bool) -> bool {
        ThisKernel(None).parent_is_gone(pid, fired)
    }

    fn has_ended(&mut self, handle: Handle) -> bool {
        handle.has_ended()
    }

    fn looks_gone(&mut self, pid: i32, start: Option<u64>) -> bool {
        ThisKernel(None).looks_gone(pid, start)
    }

    fn wait(
        &mut self,
        handles: [Option<Handle>; 2],
        timeout: Option<Duration>,
    ) -> Option<[bool; 2]> {
        let [parent, supervisor] = handles;
        let fired = sys::wait([Some(Handle::of(&self.program)), parent, supervisor], timeout);
        // If both die together, the supervisor is the reason.
        if !matches!(fired, Some([_, true, _] | [_, _, true])) && self.program.has_ended() {
            let status = self.program.exit_status();
            // End what it left behind.
            self.end_job();
            sys::exit_at_once(status);
        }
        fired.map(|[_, parent, supervisor]| [parent, supervisor])
    }

    fn now(&mut self) -> Instant {
        Instant::now()
    }
}

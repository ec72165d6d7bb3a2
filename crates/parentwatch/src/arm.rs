//! Arming: starts the watcher of this process. Any thread may do so, any number of times.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::config::{self, Config, DEFAULT_GRACE, ENV_PARENT_PID, Scope, Warning};
use crate::die::hook::HookThread;
use crate::die::line::Line;
use crate::die::{self, Cause, Death};
use crate::identity::{self, Decision, Supervisor, Worker};
use crate::options::Options;
use crate::state::{self, Armed, Claim, Error, Info, Phase, State, Status, Tier};
use crate::sys::{self, Handle, OwnTable, SignalsBlocked, WATCHER_NAME};
use crate::watch::{Gone, Target, ThisKernel, Watched, Whose};

/// Starts the watcher of this process, with the settings in the environment. Call it first thing in `main`.
///
/// Any thread may call it, any number of times. Once armed, the watcher stays armed: there is no way to disarm it. A
/// forked child has no watcher and may start its own.
///
/// If the supervisor is proven to have died before this call (see [`Supervisor`]), the process exits here.
///
/// The call waits at most 1 s for the watcher's thread. A hung file system can delay that thread while it closes its
/// copies of the program's descriptors. Then the call returns [`Status::Armed`], and [`status`] has the tier
/// [`Tier::None`] until the thread watches.
///
/// # Errors
///
/// [`Error::Exhausted`] if the thread cannot be created. One warning line goes to stderr, and the program runs on
/// unprotected. It may call again later. [`Error::Internal`] for a bug in this library.
pub fn start() -> Result<Status, Error> {
    start_with(Options::new())
}

pub(crate) fn start_with(options: Options) -> Result<Status, Error> {
    options.check()?;
    let _whole = sys::CancellationDisabled::here();
    let state = State::of_this_process();
    match state.claim(options.asks_for_nothing()) {
        Claim::Armed(armed) => armed.agrees_with(&options),
        Claim::Settled(phase) => phase.outcome(),
        Claim::Busy => Ok(Status::NotStarted),
        Claim::Ours => {
            let phase = catch_unwind(AssertUnwindSafe(|| arm(state, options)));
            let phase = phase.unwrap_or(Phase::Internal);
            state.settle(phase);
            phase.outcome()
        }
    }
}

/// Tells how this process is being watched. Before the watcher is armed, interval, scope and grace are those in the
/// environment.
///
/// Safe from any thread and after a fork: a forked child sees its own state. Prints nothing.
pub fn status() -> Info {
    let state = State::of_this_process();
    match state.when_armed() {
        Some(armed) => Info {
            state: Ok(Status::Armed),
            tier: state.tier(),
            parent: state.parent(),
            supervisor: state.supervisor(),
            interval: armed.interval,
            scope: acted_on(armed.scope, die::group_to_end(armed.led, state.group_leader())),
            grace: armed.grace,
        },
        None => {
            let config = Config::from_env();
            Info {
                state: state.phase().outcome(),
                tier: Tier::None,
                parent: None,
                supervisor: None,
                interval: config.interval,
                scope: config.scope,
                grace: config.grace,
            }
        }
    }
}

/// The scope in effect, for a worker with that group to end.
fn acted_on(scope: Scope, group: Option<i32>) -> Scope {
    match scope {
        Scope::Tree if sys::HAS_TREE => Scope::Tree,
        Scope::Tree | Scope::Group if group.is_some() => Scope::Group,
        _ => Scope::Process,
    }
}

/// Everything between [`State::claim`] and [`State::settle`].
fn arm(state: &'static State, mut options: Options) -> Phase {
    let read = options.environment.take();
    let (environment, warnings) = read.unwrap_or_else(|| Config::from_lookup(std::env::var_os));
    if !environment.enabled {
        return Phase::Disabled;
    }
    if !sys::SUPPORTED {
        return Phase::Unsupported;
    }
    warn_of_bad_values(&warnings, &options);
    let naming = Naming::of(&options, &environment);
    let worker = Worker::this_process();
    if worker.parent <= 1 && naming.named.is_none() {
        return Phase::NoParent;
    }

    let grace = options.grace.or(environment.grace);
    let default_grace = options.on_death.as_ref().map(|_| DEFAULT_GRACE);
    let armed = Armed {
        interval: options.interval.unwrap_or(environment.interval),
        scope: options.scope.unwrap_or(environment.scope),
        led: worker.group == worker.pid,
        grace: grace.or(default_grace),
        named: naming.named,
        hook: options.on_death.as_ref().and_then(|hook| hook.identity()),
    };
    state.record(armed);
    let started = {
        // Block signals first, so that our threads inherit the mask and never run one of the program's handlers.
        let blocked = SignalsBlocked::all();
        let hook = options.on_death.map(|hook| HookThread::spawn(hook, &blocked)).transpose();
        hook.and_then(|hook| {
            let watcher =
                Watcher { state, armed, worker, naming, hook: hook.clone(), grace_is_set: grace };
            let started = sys::spawn_thread(WATCHER_NAME, STACK, &blocked, move || watcher.run());
            started.inspect_err(|_| cancel(&hook)).map(|()| hook)
        })
    };
    match started {
        Ok(hook) if state.wait_for_answer() == state::NOBODY => {
            cancel(&hook);
            Phase::NoParent
        }
        Ok(_) => Phase::Armed,
        Err(code) => exhausted(naming.named, worker, code),
    }
}

fn cancel(hook: &Option<HookThread>) {
    if let Some(hook) = hook {
        hook.cancel();
    }
}

/// Enough for the watcher's thread and the dying path. Only the pages that are used take memory.
const STACK: usize = 256 << 10;

/// What the watcher's thread starts with.
struct Watcher {
    state: &'static State,
    armed: Armed,
    worker: Worker,
    naming: Naming,
    hook: Option<HookThread>,
    /// The grace that was set: `None` even if a hook has the default.
    grace_is_set: Option<Duration>,
}

impl Watcher {
    fn run(self) {
        // Before anything is opened.
        let table = OwnTable::take();
        let mut death = Death {
            scope: self.armed.scope,
            led: self.armed.led,
            group_leader: None,
            hook: self.hook.clone(),
            grace: self.grace_is_set,
            table,
        };
        let whom =
            whom_to_watch(death.table.as_ref(), self.worker, self.naming, death.table.as_ref());
        let mut watched = match whom {
            Whom::Nobody => {
                self.state.answer.replace(state::NOBODY);
                return;
            }
            Whom::Orphaned(gone) => {
                // There are no helpers yet, and nothing proves whose group this is.
                death.scope = Scope::Process;
                self.die(&death, gone)
            }
            Whom::Watch { watched, group_leader } => {
                death.group_leader = group_leader;
                watched
            }
        };
        let begun = watched.begin(&mut ThisKernel(death.table.as_ref()));
        if let Err(gone) = begun {
            self.die(&death, gone);
        }
        let pid_of = |target: Option<Target<Handle>>| target.map(|target| target.pid);
        let (parent, supervisor) = (pid_of(watched.parent), pid_of(watched.supervisor));
        self.state.set_watched(parent, supervisor, death.group_leader);
        self.state.set_tier(watched.tier());
        self.state.answer.replace(state::WATCHING);
        loop {
            // We know of no panic in it. If there is one, the watch goes on.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                let gone = watched.until_death(
                    &mut ThisKernel(death.table.as_ref()),
                    self.armed.interval,
                    self.grace_is_set.unwrap_or(DEFAULT_GRACE),
                    |tier| self.state.set_tier(tier),
                );
                self.die(&death, gone)
            }));
            sys::nap(self.armed.interval);
        }
    }

    fn die(&self, death: &Death, gone: Gone) -> ! {
        if gone.tier == Tier::None {
            self.state.answer.replace(state::DYING);
        }
        death.now(&Cause {
            pid: gone.pid,
            is_named: self.armed.named.is_some_and(|named| named.pid() == gone.pid),
            tier: gone.tier,
        })
    }
}

/// The named supervisor, and where it was named.
#[derive(Clone, Copy)]
pub(crate) struct Naming {
    pub named: Option<Supervisor>,
    pub in_code: bool,
}

impl Naming {
    pub(crate) fn of(options: &Options, environment: &Config) -> Naming {
        let named = options.parent.or(environment.supervisor);
        Naming { named, in_code: options.parent.is_some() }
    }
}

pub(crate) enum Whom {
    Nobody,
    Watch {
        watched: Watched<Handle>,
        group_leader: Option<i32>,
    },
    /// The named supervisor is proven to have died already.
    Orphaned(Gone),
}

/// Finds out which processes to watch. If nothing is proven about the named supervisor, it prints a warning to the
/// stderr that is reached through `stderr`.
pub(crate) fn whom_to_watch(
    table: Option<&OwnTable>,
    worker: Worker,
    naming: Naming,
    stderr: Option<&OwnTable>,
) -> Whom {
    let parent = Target { pid: worker.parent, start: None, handle: None };
    let watch = |parent, supervisor, group_leader| Whom::Watch {
        watched: Watched { parent, supervisor },
        group_leader,
    };
    // PID 1 adopts orphans, and all others end with it. It is no supervisor unless it is named.
    let parent_or_nobody = || match worker.parent {
        ..=1 => Whom::Nobody,
        _ => watch(Some(parent), None, None),
    };
    let Some(named) = naming.named else { return parent_or_nobody() };
    let pid = named.pid();
    let identity::Resolution { decision, handle, start, group_leader } =
        identity::resolve(table, named, worker);
    match decision {
        Decision::Parent => watch(Some(parent), None, None),
        Decision::Supervisor { and_parent } => {
            let supervisor = Target { pid, start, handle };
            watch(Some(parent).filter(|_| and_parent), Some(supervisor), group_leader)
        }
        Decision::Orphaned => {
            Whom::Orphaned(Gone { whose: Whose::Supervisor, pid, tier: Tier::None })
        }
        Decision::Unproven(reason) => {
            warn_unproven(naming, named, reason, worker.parent, stderr);
            parent_or_nobody()
        }
    }
}

fn warn_unproven(
    naming: Naming,
    named: Supervisor,
    reason: &str,
    parent: i32,
    stderr: Option<&OwnTable>,
) {
    let variable = if naming.in_code { "the option parent" } else { ENV_PARENT_PID };
    let used = match parent {
        ..=1 => format_args!("nothing, since there is no parent"),
        _ => format_args!("only the parent process {parent}"),
    };
    let expected = "a living ancestor of this process";
    warn(
        format_args!("{variable}={named}: expected {expected}, but {reason}; watching {used}"),
        stderr,
    );
}

pub(crate) fn warn_of_bad_values(warnings: &[Warning], options: &Options) {
    for warning in warnings.iter().filter(|warning| !is_overridden(warning.variable, options)) {
        warn(format_args!("{warning}"), None);
    }
}

/// A bad value that an option overrides is not used, so it is no warning.
fn is_overridden(variable: &str, options: &Options) -> bool {
    match variable {
        config::ENV_PARENT_WATCH_INTERVAL => options.interval.is_some(),
        config::ENV_PARENT_WATCH_SCOPE => options.scope.is_some(),
        config::ENV_PARENT_WATCH_GRACE => options.grace.is_some(),
        ENV_PARENT_PID => options.parent.is_some(),
        _ => false,
    }
}

pub(crate) fn warn(text: std::fmt::Arguments<'_>, table: Option<&OwnTable>) {
    let line = Line::new(format_args!("localai-parentwatch: {text}"));
    sys::write_to_stderr(line.as_bytes(), table);
}

/// No thread could be created. A proven orphan dies all the same.
fn exhausted(named: Option<Supervisor>, worker: Worker, code: i32) -> Phase {
    let decision = named.map(|named| identity::resolve(None, named, worker).decision);
    if let (Some(Decision::Orphaned), Some(named)) = (decision, named) {
        let death = Death {
            scope: Scope::Process,
            led: false,
            group_leader: None,
            hook: None,
            grace: None,
            table: None,
        };
        death.now(&Cause { pid: named.pid(), is_named: true, tier: Tier::None });
    }
    warn(
        format_args!(
            "cannot create a thread (error {code}): supervisor {} is not watched, the program runs on",
            worker.parent
        ),
        None,
    );
    Phase::Exhausted
}

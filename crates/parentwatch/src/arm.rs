//! Arming: once per process, from any thread, any number of times.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::config::{self, Config, DEFAULT_GRACE, ENV_PARENT_PID};
use crate::die::{Cause, Death};
use crate::hook::HookThread;
use crate::identity::{self, Decision, Supervisor};
use crate::line::Line;
use crate::options::Options;
use crate::state::{Armed, Claim, Error, Info, Phase, State, Status, Tier};
use crate::sys::{self, Handle, SignalsBlocked};
use crate::watch::{Role, Target, Watch};

/// Starts the watcher of this process, as the environment asks for it; first thing in `main`.
///
/// May be called from any thread, any number of times: once armed it stays armed, and later calls say
/// so. A forked child has no watcher and may start its own. There is no way to disarm.
///
/// When the supervisor died before this call and that is proven (see [`Supervisor`]), the process
/// exits here.
///
/// # Errors
///
/// [`Error::Exhausted`] when no thread can be had, after one warning line on stderr: the program runs
/// on, unprotected, and may call again later. [`Error::Internal`] for a bug of ours.
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

/// The watcher of this process as it stands: its state, its tier, whom it watches and with what. Before
/// it is armed, interval and scope are what the environment asks for.
///
/// Safe from any thread and after a fork (a child's own state, not its parent's). Prints nothing.
pub fn status() -> Info {
    let state = State::of_this_process();
    match state.when_armed() {
        Some(armed) => Info {
            state: Ok(Status::Armed),
            tier: state.tier(),
            parent: armed.parent,
            supervisor: armed.supervisor,
            interval: armed.interval,
            scope: armed.scope,
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
                grace: Duration::ZERO,
            }
        }
    }
}

/// Everything between the claim and its settlement.
fn arm(state: &'static State, options: Options) -> Phase {
    let (environment, warnings) = Config::from_lookup(std::env::var_os);
    if !environment.enabled {
        return Phase::Disabled;
    }
    if !sys::SUPPORTED {
        return Phase::Unsupported;
    }
    for warning in warnings.iter().filter(|warning| !is_overridden(warning.variable, &options)) {
        warn(format_args!("{warning}"));
    }
    let interval = options.interval.unwrap_or(environment.interval);
    let scope = options.scope.unwrap_or(environment.scope);
    let named = options.parent.or(environment.supervisor);
    let has_hook = options.on_death.is_some();
    let hook_identity = options.on_death.as_ref().and_then(|hook| hook.identity());
    let grace = if has_hook { options.grace.unwrap_or(DEFAULT_GRACE) } else { Duration::ZERO };

    // The signals stay blocked until the threads are made, which inherit that: no handler of the program is
    // called on them but for what they raise themselves.
    let blocked = SignalsBlocked::all();

    // The parent first: whatever happens to it from here on is seen below.
    let parent = sys::parent_pid();
    let resolution = named.map(|named| identity::resolve(named, parent));
    let decision = resolution.as_ref().map(|resolution| resolution.decision);
    if let (Some(named), Some(Decision::Unproven(reason))) = (named, decision) {
        warn_unproven(named, reason, parent, options.parent.is_some());
    }
    let orphaned = decision == Some(Decision::Orphaned);
    if parent <= 1 && !orphaned && decision != Some(Decision::Parent) {
        return Phase::NoParent;
    }

    let hook = match options.on_death.map(|hook| HookThread::spawn(hook, &blocked)).transpose() {
        Ok(hook) => hook,
        // A proven orphan dies with or without its hook.
        Err(_) if orphaned => None,
        Err(error) => return exhausted(parent, &error),
    };
    let mut death = Death { scope, group_leader: None, hook, grace };
    if let (true, Some(named)) = (orphaned, named) {
        // No helpers yet, and nothing proves whose group this is.
        death.scope = config::Scope::Process;
        let role = Role::Supervisor { start: named.start_time() };
        death.now(&Cause { pid: named.pid(), role, tier: Tier::None });
    }

    let handle = Handle::open(parent).ok();
    let mut targets = [Some(Target { pid: parent, role: Role::Parent, handle }), None];
    let mut supervisor = None;
    if let (Some(Decision::ParentAndSupervisor), Some(named), Some(resolution)) =
        (decision, named, resolution)
    {
        let role = Role::Supervisor { start: resolution.start };
        supervisor = Some(named.pid());
        death.group_leader = resolution.group_leader;
        targets[1] = Some(Target { pid: named.pid(), role, handle: resolution.handle });
    }
    // A parent that died before the handle was open may have left its number to another process.
    if sys::parent_is_gone(parent, false) {
        death.now(&Cause { pid: parent, role: Role::Parent, tier: Tier::None });
    }

    let watch = Watch { targets, interval, death, state };
    let armed = Armed {
        interval,
        scope,
        grace,
        named,
        has_hook,
        hook: hook_identity,
        parent: Some(parent),
        supervisor,
    };
    state.record(armed, watch.tier());
    match watch.spawn(&blocked) {
        Ok(()) => Phase::Armed,
        Err(error) => {
            state.set_tier(Tier::None);
            exhausted(parent, &error)
        }
    }
}

/// A bad value that an option stands in for is used by nobody.
fn is_overridden(variable: &str, options: &Options) -> bool {
    match variable {
        config::ENV_PARENT_WATCH_INTERVAL => options.interval.is_some(),
        config::ENV_PARENT_WATCH_SCOPE => options.scope.is_some(),
        ENV_PARENT_PID => options.parent.is_some(),
        _ => false,
    }
}

fn warn(text: std::fmt::Arguments<'_>) {
    sys::write_to_stderr(Line::new(format_args!("localai-parentwatch: {text}")).as_bytes());
}

fn warn_unproven(named: Supervisor, reason: &str, parent: i32, in_code: bool) {
    let variable = if in_code { "the option parent" } else { ENV_PARENT_PID };
    let expected = format_args!("expected a living ancestor of this process, but {reason}");
    match parent {
        ..=1 => warn(format_args!(
            "{variable}={named}: {expected}; using nobody, since there is no parent to watch"
        )),
        _ => warn(format_args!(
            "{variable}={named}: {expected}; using the parent process {parent} alone"
        )),
    }
}

fn exhausted(parent: i32, error: &std::io::Error) -> Phase {
    let code = error.raw_os_error().unwrap_or(0);
    warn(format_args!(
        "no thread to be had (error {code}): supervisor {parent} is not watched, the server runs on"
    ));
    Phase::Exhausted
}

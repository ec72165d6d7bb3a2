//! Arming: once per process, from any thread, any number of times.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::config::{self, Config, DEFAULT_GRACE, ENV_PARENT_PID};
use crate::die::Death;
use crate::hook::HookThread;
use crate::identity::{self, Decision, Supervisor};
use crate::line::Line;
use crate::machine::{Arming, ArmingEvent, NoThread};
use crate::options::Options;
use crate::state::{Armed, Claim, Error, Info, Phase, State, Status, Tier};
use crate::sys::{self, Handle, SignalsBlocked};
use crate::watch::{Target, Watch};

/// Starts the watcher of this process, as the environment asks for it; first thing in `main`.
///
/// May be called from any thread, any number of times: once armed it stays armed, and later calls say
/// so. A forked child has no watcher and may start its own. There is no way to disarm.
///
/// When the supervisor died before this call and that is proven (see [`Supervisor`]), the process
/// exits here. It may take until the kernel has taken down the memory of a supervisor that is just
/// ending; at most 5 s are waited for that.
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
            parent: Some(armed.parent),
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
fn arm(state: &'static State, mut options: Options) -> Phase {
    let read = options.environment.take();
    let (environment, warnings) = read.unwrap_or_else(|| Config::from_lookup(std::env::var_os));
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

    let named_in_code = options.parent.is_some();
    let mut on_death = options.on_death;
    let mut watch = Watch {
        parent: Target { pid: 0, handle: None },
        supervisor: None,
        supervisor_start: None,
        interval,
        death: Death { scope, group_leader: None, hook: None, grace },
        state,
    };
    let mut arming = Arming::Identify;
    loop {
        arming = arming.step(match arming {
            Arming::Identify => {
                // The parent first: whatever happens to it from here on is seen by the recheck.
                watch.parent.pid = sys::parent_pid();
                let decision = named.map(|named| identify(&mut watch, named, named_in_code));
                ArmingEvent::Identified { has_parent: watch.parent.pid > 1, decision }
            }
            Arming::MakeHook(_) => {
                let made = on_death.take().map(|hook| HookThread::spawn(hook, &blocked));
                let made = made.transpose().map(|hook| watch.death.hook = hook);
                ArmingEvent::HookMade(made.map_err(NoThread::from))
            }
            Arming::Open => {
                watch.parent.handle = Handle::open(watch.parent.pid).ok();
                ArmingEvent::Opened(watch.targets())
            }
            Arming::Recheck(_) => {
                let parent_is_gone = sys::parent_is_gone(watch.parent.pid, false);
                ArmingEvent::Rechecked { parent_is_gone }
            }
            Arming::StartThread(targets) => {
                let parent = watch.parent.pid;
                let supervisor = watch.supervisor.as_ref().map(|supervisor| supervisor.pid);
                let armed = Armed {
                    interval,
                    scope,
                    grace,
                    named,
                    has_hook,
                    hook: hook_identity,
                    parent,
                    supervisor,
                };
                state.record(armed, Tier::of(targets));
                let started = watch.spawn(&blocked).map_err(NoThread::from);
                return match arming.step(ArmingEvent::ThreadStarted(started)) {
                    Arming::Exhausted(reason) => exhausted(state, parent, reason),
                    _ => Phase::Armed,
                };
            }
            Arming::Armed(_) => return Phase::Armed,
            Arming::NoParent => return Phase::NoParent,
            Arming::Exhausted(reason) => return exhausted(state, watch.parent.pid, reason),
            Arming::Die(whose) => watch.death.now(&watch.cause(whose, Tier::None)),
        });
    }
}

/// Looks at the supervisor that was named, and keeps what watching it, or dying of it, takes.
fn identify(watch: &mut Watch, named: Supervisor, named_in_code: bool) -> Decision {
    let resolution = identity::resolve(named, watch.parent.pid);
    match resolution.decision {
        Decision::Parent => {}
        Decision::ParentAndSupervisor => {
            watch.supervisor = Some(Target { pid: named.pid(), handle: resolution.handle });
            watch.supervisor_start = resolution.start;
            watch.death.group_leader = resolution.group_leader;
        }
        Decision::Orphaned => {
            watch.supervisor = Some(Target { pid: named.pid(), handle: None });
            // No helpers yet, and nothing proves whose group this is.
            watch.death.scope = config::Scope::Process;
        }
        Decision::Unproven(reason) => {
            warn_unproven(named, reason, watch.parent.pid, named_in_code);
        }
    }
    resolution.decision
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

fn exhausted(state: &State, parent: i32, NoThread(code): NoThread) -> Phase {
    state.set_tier(Tier::None);
    warn(format_args!(
        "no thread to be had (error {code}): supervisor {parent} is not watched, the server runs on"
    ));
    Phase::Exhausted
}

//! Tests the public interface in one process whose parent lives. The tests in which a parent dies are in `e2e/`. Only
//! one test arms, since a process is armed once.
#![cfg(any(target_os = "linux", target_os = "macos"))]

use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parentwatch::{
    Config, ENV_PARENT_PID, ENV_PARENT_WATCH, ENV_PARENT_WATCH_INTERVAL, ENV_PARENT_WATCH_SCOPE,
    Error, Exit, Options, Scope, Status, Supervisor, Tier,
};

fn set(variable: &str, value: &str) {
    // SAFETY: no other test of this process, and no other thread, reads the environment.
    unsafe { std::env::set_var(variable, value) };
}

fn unset(variable: &str) {
    // SAFETY: as above.
    unsafe { std::env::remove_var(variable) };
}

#[test]
fn from_the_first_call_to_the_armed_watcher() {
    for variable in
        [ENV_PARENT_WATCH, ENV_PARENT_WATCH_INTERVAL, ENV_PARENT_WATCH_SCOPE, ENV_PARENT_PID]
    {
        unset(variable);
    }
    let parent = i32::try_from(std::os::unix::process::parent_id()).unwrap();

    // Before the start, the status shows what the environment sets.
    set(ENV_PARENT_WATCH_INTERVAL, "250ms");
    let before = parentwatch::status();
    assert_eq!(before.state, Ok(Status::NotStarted));
    assert_eq!((before.tier, before.parent, before.supervisor), (Tier::None, None, None));
    assert_eq!((before.interval, before.scope), (Duration::from_millis(250), Scope::Tree));
    assert_eq!(Config::from_env().interval, Duration::from_millis(250));

    // "off" in the environment beats the options. Starting can be tried again later.
    set(ENV_PARENT_WATCH, "off");
    assert_eq!(Options::new().interval(Duration::from_secs(1)).start(), Ok(Status::Disabled));
    assert_eq!(parentwatch::status().state, Ok(Status::Disabled));
    unset(ENV_PARENT_WATCH);

    // An option out of range is refused, and changes nothing.
    for bad in [Duration::ZERO, Duration::from_millis(9), Duration::from_secs(3601)] {
        let refused = Options::new().interval(bad).start();
        assert!(matches!(refused, Err(Error::Invalid(_))), "{bad:?}: {refused:?}");
    }
    assert!(matches!(Options::new().grace(Duration::MAX).start(), Err(Error::Invalid(_))));
    assert_eq!(parentwatch::status().state, Ok(Status::Disabled));

    // Waiting works without an armed watcher.
    assert_eq!(parentwatch::wait_for_exit(1, Duration::ZERO), Exit::NoParent);
    assert_eq!(parentwatch::wait_for_exit(-1, Duration::ZERO), Exit::NoParent);
    let own = i32::try_from(std::process::id()).unwrap();
    assert_eq!(parentwatch::wait_for_exit(own, Duration::MAX), Exit::Exited);
    assert!(parentwatch::parent_died(own));
    assert_eq!(parentwatch::parent_died(parent), parent == 1);

    // An environment that was read earlier is used in place of the current one.
    let read = Config::from_lookup(|name| (name == ENV_PARENT_WATCH).then_some("off"));
    assert_eq!(Options::new().environment(read).start(), Ok(Status::Disabled));

    // Options beat the environment. With a hook, the default grace is 5 s.
    let started = Options::new().scope(Scope::Process).on_death(|| {}).start();
    if parent <= 1 {
        assert_eq!(started, Ok(Status::NoParent));
        return;
    }
    assert_eq!(started, Ok(Status::Armed));
    let armed = parentwatch::status();
    assert_eq!(armed.state, Ok(Status::Armed));
    let forced = cfg!(parentwatch_force_poll);
    if forced {
        assert_eq!(armed.tier, Tier::Poll);
    }
    assert_ne!(armed.tier, Tier::None);
    assert_eq!((armed.parent, armed.supervisor), (Some(parent), None));
    assert_eq!((armed.interval, armed.scope), (Duration::from_millis(250), Scope::Process));
    assert_eq!(armed.grace, Some(Duration::from_secs(5)));

    // Once armed, the same options succeed again and other options are refused.
    assert_eq!(parentwatch::start(), Ok(Status::Armed));
    assert_eq!(Options::new().scope(Scope::Process).start(), Ok(Status::Armed));
    set(ENV_PARENT_WATCH, "off");
    assert_eq!(parentwatch::start(), Ok(Status::Armed), "a worker cannot be disarmed");
    let another: Supervisor = "4242".parse().unwrap();
    for other in [
        Options::new().scope(Scope::Group),
        Options::new().interval(Duration::from_secs(2)),
        Options::new().grace(Duration::from_secs(1)),
        Options::new().parent(another),
        Options::new().on_death(|| {}),
    ] {
        let asked = format!("{other:?}");
        assert!(matches!(other.start(), Err(Error::Invalid(_))), "{asked}");
    }
    assert_eq!(parentwatch::status(), armed);

    // The token of this process names this process.
    let token: Supervisor = parentwatch::token().parse().unwrap();
    assert_eq!(token, Supervisor::this_process());
    assert_eq!(token.pid(), own);
    assert_eq!(token.start_time().is_some(), cfg!(any(target_os = "linux", target_os = "macos")));
}

extern "C" fn ignore(_signal: libc::c_int) {}

#[test]
fn a_wait_calls_its_check_once_per_interval() {
    let parent = i32::try_from(std::os::unix::process::parent_id()).unwrap();
    let mut asked = 0;
    let waited = parentwatch::wait_for_exit_or(parent, Duration::from_millis(10), || {
        asked += 1;
        if asked < 4 { Ok(()) } else { Err("asked") }
    });
    match parent {
        ..=1 => assert_eq!((waited, asked), (Ok(Exit::NoParent), 0)),
        _ => assert_eq!((waited, asked), (Err("asked"), 4)),
    }
}

#[test]
fn a_wait_calls_its_check_when_a_signal_arrives() {
    // SAFETY: the handler does nothing.
    unsafe { libc::signal(libc::SIGUSR1, ignore as extern "C" fn(libc::c_int) as usize) };
    let parent = i32::try_from(std::os::unix::process::parent_id()).unwrap();
    if parent <= 1 {
        let refused = parentwatch::wait_for_exit_or(parent, Duration::MAX, || Err("asked"));
        assert_eq!(refused, Ok(Exit::NoParent));
        return;
    }
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let waiting = std::thread::spawn(move || {
        let at_once = parentwatch::wait_for_exit_or(parent, Duration::MAX, || Err("at once"));
        let later = parentwatch::wait_for_exit_or(parent, Duration::MAX, || {
            match counted.fetch_add(1, Ordering::SeqCst) {
                0 => Ok(()),
                _ => Err("a signal"),
            }
        });
        (at_once, later)
    });
    let deadline = Instant::now() + Duration::from_secs(30);
    while !waiting.is_finished() && Instant::now() < deadline {
        if asked.load(Ordering::SeqCst) > 0 {
            // SAFETY: the thread has not been joined.
            unsafe { libc::pthread_kill(waiting.as_pthread_t(), libc::SIGUSR1) };
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(waiting.is_finished(), "the wait went on");
    assert_eq!(waiting.join().unwrap(), (Err("at once"), Err("a signal")));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

//! Explores the watch in a simulated world where everything can go wrong: processes die at any point, process ids are
//! reused, handles cannot be opened, waits fail, signals arrive, handles fire without reason.
//!
//! Each call of the kernel is a point at which the world may deviate from the expected answer. The test runs all
//! combinations of up to [`DEVIATIONS`] deviations among the first [`POINTS`] points. After that nothing changes any
//! more. Each run must satisfy three rules:
//!
//! - The worker never dies while the watched processes live.
//! - The worker notices the death of a watched process.
//! - No wait returns at once again and again.
//!
//! The rules of `identity::decide` are included. Forks are not simulated: a child starts from the beginning, as its
//! parent did (`state` guarantees that).

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::*;
use crate::identity::{Decision, Facts, Sighting, decide};

const DEVIATIONS: usize = 3;
const POINTS: usize = 16;
const INTERVAL: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_secs(5);

/// The processes: `supervisor ── [wrapper ──] worker`. The worker is this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Supervisor,
    Wrapper,
    /// The process that adopts the worker when its parent dies: a subreaper above the supervisor, PID 1, or none.
    Adopter,
    /// A process that has the process id of a dead one.
    Stranger,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Alive,
    /// Its children already have another parent, but its pidfd is not readable yet.
    Exiting,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Adopter {
    Subreaper,
    Init,
    /// Windows: an orphan has no parent.
    Nobody,
}

/// The tree when the worker arms.
#[derive(Clone, Copy, Debug)]
struct Tree {
    has_wrapper: bool,
    /// The launcher that started the worker has exited: the worker is no longer a descendant of the supervisor.
    is_elsewhere: bool,
    adopter: Adopter,
    /// The supervisor was named by its token, and `/proc` shows it.
    is_named: bool,
    is_visible: bool,
}

/// What is left out, to check that the exploration finds the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeftOut {
    Nothing,
    TheRecheck,
    TheConfirmation,
    TheSupervisor,
}

struct World {
    tree: Tree,
    left_out: LeftOut,
    supervisor: Life,
    wrapper: Life,
    /// The first result of `getppid()`.
    captured: Option<Who>,
    /// Which alternative to take at each point. 0 is the expected one, also at all later points.
    script: Vec<usize>,
    /// How many alternatives there were.
    widths: Vec<usize>,
    point: usize,
    now: Instant,
    waits: usize,
    spins: bool,
}

/// The run is over: nothing else can happen.
struct Over;

impl World {
    fn choose(&mut self, alternatives: usize) -> usize {
        let point = self.point;
        self.point += 1;
        if point >= POINTS {
            return 0;
        }
        self.widths.push(alternatives);
        self.script.get(point).copied().unwrap_or(0)
    }

    fn stands_still(&self) -> bool {
        self.point >= POINTS
    }

    /// The world may change before each answer. Once it no longer changes, an exit that has begun is complete.
    fn move_on(&mut self) {
        let step = |life| if life == Life::Alive { Life::Exiting } else { Life::Ended };
        match self.choose(4) {
            1 => self.supervisor = step(self.supervisor),
            2 if self.tree.has_wrapper => self.wrapper = step(self.wrapper),
            3 => (self.supervisor, self.wrapper) = (Life::Ended, Life::Ended),
            _ => {}
        }
        self.settle();
    }

    fn settle(&mut self) {
        if self.stands_still() {
            let settled = |life| if life == Life::Alive { Life::Alive } else { Life::Ended };
            (self.supervisor, self.wrapper) = (settled(self.supervisor), settled(self.wrapper));
        }
    }

    fn life(&self, who: Who) -> Life {
        match who {
            Who::Supervisor => self.supervisor,
            Who::Wrapper => self.wrapper,
            Who::Adopter | Who::Stranger => Life::Alive,
        }
    }

    fn getppid(&self) -> Who {
        let first = match self.tree {
            Tree { is_elsewhere: true, .. } => Who::Adopter,
            Tree { has_wrapper: true, .. } => Who::Wrapper,
            _ => Who::Supervisor,
        };
        if self.life(first) == Life::Alive { first } else { Who::Adopter }
    }

    fn number(&self, who: Who) -> i32 {
        match who {
            Who::Adopter => match self.tree.adopter {
                Adopter::Subreaper => 50,
                Adopter::Init => 1,
                Adopter::Nobody => 0,
            },
            Who::Supervisor => 100,
            Who::Wrapper => 200,
            Who::Stranger => 999,
        }
    }

    fn is_dead(&self, whose: Whose) -> bool {
        match whose {
            Whose::Parent => self.captured != Some(self.getppid()),
            Whose::Supervisor => self.supervisor == Life::Ended,
        }
    }

    /// What arming does, as in `arm` and `identity`.
    fn identify(&mut self) -> (Option<Decision>, Watched<Who>) {
        self.move_on();
        let parent = self.getppid();
        self.captured = Some(parent);
        self.move_on();
        let has_adopters = self.tree.adopter != Adopter::Nobody;
        let start = match parent {
            Who::Adopter => has_adopters.then_some(10),
            Who::Supervisor => Some(50),
            _ => Some(60),
        };
        let facts = Facts {
            named: "100@50@4026531836".parse().unwrap(),
            own_pid: 300,
            parent: self.number(parent),
            own_pid_namespace: self.tree.is_visible.then_some(4_026_531_836),
            clock_is_initial: true,
            has_adopters,
            sighting: match self.supervisor {
                _ if !self.tree.is_visible => Sighting::Hidden,
                Life::Ended => Sighting::Ended,
                _ => Sighting::Alive { start: 50 },
            },
            is_exiting: self.supervisor == Life::Exiting,
            parent_start: start.filter(|_| self.tree.is_visible),
            is_ancestor: parent == Who::Wrapper,
        };
        let decision = self.tree.is_named.then(|| decide(&facts));
        let target = |pid, handle| Some(Target { pid, start: None, handle });
        let mut watched = Watched { parent: target(self.number(parent), None), supervisor: None };
        if let Some(Decision::Supervisor { and_parent }) = decision {
            let handle = (self.choose(2) == 0).then_some(Who::Supervisor);
            watched.supervisor = target(100, handle);
            watched.parent = watched.parent.filter(|_| and_parent);
        }
        if decision != Some(Decision::Parent) && self.number(parent) <= 1 {
            watched.parent = None;
        }
        (decision, watched)
    }
}

impl Kernel for World {
    type Handle = Who;

    fn open(&mut self, pid: i32) -> Option<Who> {
        self.move_on();
        let captured = self.captured.unwrap();
        assert_eq!(pid, self.number(captured));
        // Once it has ended it may be reaped. Its process id is then free or reused.
        match (self.choose(3), self.life(captured)) {
            (1, _) => None,
            (2, Life::Ended) => Some(Who::Stranger),
            _ => Some(captured),
        }
    }

    fn parent_is_gone(&mut self, _: i32, fired: bool) -> bool {
        self.move_on();
        match self.left_out {
            LeftOut::TheRecheck if self.waits == 0 => false,
            LeftOut::TheConfirmation if fired => true,
            _ => self.is_dead(Whose::Parent),
        }
    }

    fn has_ended(&mut self, handle: Who) -> bool {
        self.move_on();
        self.left_out != LeftOut::TheSupervisor && self.life(handle) == Life::Ended
    }

    fn looks_gone(&mut self, _: i32, _: Option<u64>) -> bool {
        self.move_on();
        // The process may be impossible to examine.
        let fails = self.choose(2) == 1 || self.left_out == LeftOut::TheSupervisor;
        !fails && self.is_dead(Whose::Supervisor)
    }

    fn wait(&mut self, handles: [Option<Who>; 2], timeout: Option<Duration>) -> Option<[bool; 2]> {
        const MANY: usize = 40;
        self.waits += 1;
        let (alternative, ready) = loop {
            self.move_on();
            let alternative = self.choose(5);
            self.settle();
            let ready =
                handles.map(|handle| handle.is_some_and(|who| self.life(who) == Life::Ended));
            let sleeps = alternative == 0 && ready == [false; 2];
            if self.waits > MANY || (sleeps && timeout.is_none() && self.stands_still()) {
                self.spins = !sleeps;
                resume_unwind(Box::new(Over));
            }
            if !sleeps || timeout.is_some() {
                self.now += timeout.filter(|_| sleeps).unwrap_or_default();
                break (alternative, ready);
            }
        };
        match alternative {
            // A signal, a failed wait, or handles that fire without reason.
            1 => Some([false; 2]),
            2 => None,
            3 => Some([true, ready[1]]),
            4 => Some([ready[0], true]),
            _ => Some(ready),
        }
    }

    fn now(&mut self) -> Instant {
        self.now
    }
}

/// One run. Returns whether the worker died, and the number of alternatives at each point.
fn run(tree: Tree, left_out: LeftOut, script: &[usize]) -> Result<(bool, Vec<usize>), String> {
    let mut world = World {
        tree,
        left_out,
        supervisor: Life::Alive,
        wrapper: Life::Alive,
        captured: None,
        script: script.to_vec(),
        widths: Vec::new(),
        point: 0,
        now: Instant::now(),
        waits: 0,
        spins: false,
    };
    let (decision, mut watched) = world.identify();
    let failed = |what: &str| Err(format!("{what}: {tree:?}, {script:?}"));
    if decision == Some(Decision::Orphaned) {
        let is_right = world.is_dead(Whose::Supervisor);
        return if is_right { Ok((true, world.widths)) } else { failed("a false kill") };
    }
    let watches = [watched.parent.is_some(), watched.supervisor.is_some()];
    let mut gone = None;
    if watches != [false; 2] {
        let watching = catch_unwind(AssertUnwindSafe(|| match watched.begin(&mut world) {
            Err(gone) => gone,
            Ok(()) => watched.until_death(&mut world, INTERVAL, GRACE, |_| {}),
        }));
        gone = match watching {
            Ok(gone) => Some(gone),
            Err(over) if over.is::<Over>() => None,
            Err(panic) => resume_unwind(panic),
        };
    }
    if world.spins {
        return failed("it spins");
    }
    if let Some(gone) = gone {
        let is_right = world.is_dead(gone.whose);
        return if is_right { Ok((true, world.widths)) } else { failed("a false kill") };
    }
    // It armed after the death, and could notice it.
    let is_orphan = tree.is_named && tree.is_visible && world.captured == Some(Who::Adopter);
    let is_missed = (watches[0] && world.is_dead(Whose::Parent))
        || ((watches[1] || is_orphan) && world.is_dead(Whose::Supervisor));
    if is_missed && world.stands_still() {
        failed("a missed death")
    } else {
        Ok((false, world.widths))
    }
}

/// All runs. Returns how many there were, and in how many the worker died.
fn explore(left_out: LeftOut) -> Result<(usize, usize), String> {
    let (mut runs, mut deaths) = (0, 0);
    let adopters = [Adopter::Subreaper, Adopter::Init, Adopter::Nobody];
    for (bits, adopter) in (0..16_u8).flat_map(|bits| adopters.map(|adopter| (bits, adopter))) {
        let is_set = |bit: u8| bits & (1 << bit) != 0;
        let tree = Tree {
            has_wrapper: is_set(0),
            is_elsewhere: is_set(1),
            adopter,
            is_named: is_set(2),
            is_visible: is_set(3),
        };
        let mut scripts = vec![Vec::new()];
        while let Some(script) = scripts.pop() {
            let (died, widths) = run(tree, left_out, &script)?;
            runs += 1;
            deaths += usize::from(died);
            if script.iter().filter(|choice| **choice != 0).count() == DEVIATIONS {
                continue;
            }
            // The runs with one more deviation, after those of this run.
            for (point, width) in widths.iter().enumerate().skip(script.len()) {
                for choice in 1..*width {
                    let mut next = script.clone();
                    next.resize(point, 0);
                    next.push(choice);
                    scripts.push(next);
                }
            }
        }
    }
    Ok((runs, deaths))
}

#[test]
fn nothing_is_missed_and_nobody_is_killed_by_mistake() {
    let (runs, deaths) = explore(LeftOut::Nothing).unwrap();
    println!("{runs} runs, {deaths} deaths");
    assert!(runs > 10_000 && deaths > 1_000, "{runs} runs, {deaths} deaths");
}

/// The exploration must find each fault: each of these leaves one thing out.
#[test]
fn what_is_left_out_is_found() {
    for (left_out, expected) in [
        (LeftOut::TheRecheck, "a missed death"),
        (LeftOut::TheConfirmation, "a false kill"),
        (LeftOut::TheSupervisor, "a missed death"),
    ] {
        let found = explore(left_out).unwrap_err();
        assert!(found.starts_with(expected), "{left_out:?}: {found}");
    }
}

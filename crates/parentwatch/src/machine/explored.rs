//! Every way through both state machines, in a world of processes, handles and numbers that does its worst
//! at every point: processes die, numbers are given to strangers, handles are closed and replaced, nothing can
//! be had, signals come, claims are false. Three things must hold in every state that can be reached:
//!
//! - nobody dies of a process that lives;
//! - if the world then stood still, a death of a watched process would be seen;
//! - if the world then stood still, nothing would go round in circles.
//!
//! The rules of `identity::decide` are part of it. A fork needs no event of its own: a child begins where
//! its parent once began (`state` sees to that).

use std::collections::HashSet;

use super::*;
use crate::identity::{Decision, Facts, Sighting, decide};

/// The processes: `supervisor ── [wrapper ──] worker`, the worker being this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    Supervisor,
    Wrapper,
    /// Whoever gets the worker when its parent dies: a subreaper above the supervisor, or PID 1.
    Adopter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Life {
    Alive,
    /// Its children have another parent already, and its pidfd is not readable yet.
    Leaving,
    Ended,
}

/// What is behind a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fd {
    None,
    On(Who),
    /// The number that it was opened by had been given to another process.
    OnStranger,
    ClosedByProgram,
    /// The program has put something else over it.
    Replaced {
        readable: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct World {
    supervisor: Life,
    wrapper: Option<Life>,
    adopter_is_pid_1: bool,
    /// The supervisor was named by its token, and can be seen.
    named: bool,
    visible: bool,
    /// Whom `getppid()` named when it was asked first.
    captured: Option<Who>,
    /// What came of looking at the one that was named.
    decision: Option<Decision>,
    /// It was to be seen then that the one that was named is dead, and that this is its orphan.
    is_proven_orphan: bool,
    parent_fd: Fd,
    supervisor_fd: Fd,
}

impl World {
    fn life(&self, who: Who) -> Life {
        match who {
            Who::Supervisor => self.supervisor,
            Who::Wrapper => self.wrapper.unwrap_or(Life::Ended),
            Who::Adopter => Life::Alive,
        }
    }

    fn getppid(&self) -> Who {
        let first = if self.wrapper.is_some() { Who::Wrapper } else { Who::Supervisor };
        if self.life(first) == Life::Alive { first } else { Who::Adopter }
    }

    fn number(&self, who: Who) -> i32 {
        match who {
            Who::Adopter if self.adopter_is_pid_1 => 1,
            Who::Adopter => 50,
            Who::Supervisor => 100,
            Who::Wrapper => 200,
        }
    }

    fn parent_is_gone(&self) -> bool {
        self.captured != Some(self.getppid())
    }

    fn is_dead(&self, whose: Whose) -> bool {
        match whose {
            Whose::Parent => self.parent_is_gone(),
            Whose::Supervisor => self.supervisor == Life::Ended,
        }
    }

    fn fd(&self, whose: Whose) -> Fd {
        match whose {
            Whose::Parent => self.parent_fd,
            Whose::Supervisor => self.supervisor_fd,
        }
    }

    /// What a wait that returns at once tells of a descriptor, `None` if it tells nothing.
    fn ready(&self, fd: Fd) -> Option<Wake> {
        match fd {
            Fd::On(who) if self.life(who) == Life::Ended => Some(Wake::Readable),
            Fd::Replaced { readable: true } => Some(Wake::Readable),
            Fd::ClosedByProgram => Some(Wake::Invalid),
            _ => None,
        }
    }

    fn identified(&self, machines: Machines) -> World {
        let captured = self.getppid();
        let supervisor = match self.is_proven_orphan() && machines.waits_for_the_end {
            true => Life::Ended,
            false => self.supervisor,
        };
        let sighting = match supervisor {
            _ if !self.visible => Sighting::Hidden,
            Life::Ended => Sighting::Ended,
            _ => Sighting::Alive { start: 50 },
        };
        let start = |who| match who {
            Who::Adopter => 10,
            Who::Supervisor => 50,
            Who::Wrapper => 60,
        };
        let facts = Facts {
            named: "100@50@4026531836".parse().unwrap(),
            own_pid: 300,
            parent: self.number(captured),
            own_pid_namespace: self.visible.then_some(4_026_531_836),
            clock_is_initial: true,
            sighting,
            parent_start: self.visible.then_some(start(captured)),
            is_ancestor: captured == Who::Wrapper,
        };
        World {
            supervisor,
            captured: Some(captured),
            decision: self.named.then(|| decide(&facts)),
            is_proven_orphan: self.is_proven_orphan(),
            ..*self
        }
    }

    fn is_proven_orphan(&self) -> bool {
        self.named
            && self.visible
            && self.getppid() == Who::Adopter
            && self.supervisor != Life::Alive
    }

    /// What has begun to end has ended.
    fn settled(self) -> World {
        let end = |life| if life == Life::Leaving { Life::Ended } else { life };
        World { supervisor: end(self.supervisor), wrapper: self.wrapper.map(end), ..self }
    }

    /// What the world may do next by itself.
    fn moves(&self) -> Vec<World> {
        let mut worlds = Vec::new();
        let dying = |life| match life {
            Life::Alive => Some(Life::Leaving),
            Life::Leaving => Some(Life::Ended),
            Life::Ended => None,
        };
        if let Some(supervisor) = dying(self.supervisor) {
            worlds.push(World { supervisor, ..*self });
        }
        if let Some(life) = self.wrapper.and_then(dying) {
            worlds.push(World { wrapper: Some(life), ..*self });
        }
        for replaced in
            [Fd::ClosedByProgram, Fd::Replaced { readable: true }, Fd::Replaced { readable: false }]
        {
            if matches!(self.parent_fd, Fd::On(_) | Fd::OnStranger) {
                worlds.push(World { parent_fd: replaced, ..*self });
            }
            if matches!(self.supervisor_fd, Fd::On(_)) {
                worlds.push(World { supervisor_fd: replaced, ..*self });
            }
        }
        worlds
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Arming(Arming),
    Watching(Watching),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Node {
    stage: Stage,
    world: World,
}

/// The two functions that are explored.
#[derive(Clone, Copy)]
struct Machines {
    arming: fn(Arming, ArmingEvent) -> Arming,
    watching: fn(Watching, WatchingEvent) -> Watching,
    /// Whoever looks at a supervisor that has begun to end, and that has given us away, waits for its end.
    waits_for_the_end: bool,
}

const OURS: Machines =
    Machines { arming: Arming::step, watching: Watching::step, waits_for_the_end: true };

#[derive(Debug, PartialEq, Eq)]
enum Violation {
    FalseKill(Node),
    MissedDeath(Node),
    Spins(Node),
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Explored {
    states: usize,
    transitions: usize,
    deaths: usize,
}

impl Node {
    fn arming(self, world: World, next: Arming) -> Node {
        let stage = match next {
            Arming::Armed(targets) => Stage::Watching(Watching::begin(targets)),
            other => Stage::Arming(other),
        };
        Node { stage, world }
    }

    fn watching(self, world: World, next: Watching) -> Node {
        Node { stage: Stage::Watching(next), world }
    }

    /// What may come of what the state asks for. The first is what comes of it when nothing goes wrong;
    /// nothing at all, when the state is an end, or a sleep that nobody ends.
    fn outcomes(self, machines: Machines) -> Vec<Node> {
        match self.stage {
            Stage::Arming(state) => self.outcomes_of_arming(state, machines),
            Stage::Watching(state) => self.outcomes_of_watching(state, machines.watching),
        }
    }

    fn outcomes_of_arming(self, state: Arming, machines: Machines) -> Vec<Node> {
        const FAILED: NoThread = NoThread(11);
        let (world, step) = (self.world, machines.arming);
        let next = |event| self.arming(world, step(state, event));
        match state {
            Arming::Identify => {
                let identified = world.identified(machines);
                let event = ArmingEvent::Identified {
                    has_parent: world.number(world.getppid()) > 1,
                    decision: identified.decision,
                };
                let next = step(state, event);
                let mut nodes = vec![self.arming(identified, next)];
                if identified.decision == Some(Decision::ParentAndSupervisor) {
                    let supervisor_fd = Fd::On(Who::Supervisor);
                    nodes.insert(0, self.arming(World { supervisor_fd, ..identified }, next));
                }
                nodes
            }
            Arming::MakeHook(_) => {
                vec![next(ArmingEvent::HookMade(Ok(()))), next(ArmingEvent::HookMade(Err(FAILED)))]
            }
            Arming::Open => {
                let captured = world.captured.unwrap();
                let mut fds = vec![Fd::On(captured), Fd::None];
                if world.life(captured) == Life::Ended {
                    // It is reaped, and its number is free or given to another process.
                    fds = vec![Fd::OnStranger, Fd::None, Fd::On(captured)];
                }
                let opened = |parent_fd| {
                    let by = |fd| if fd == Fd::None { By::Looks } else { By::Handle };
                    let further_up = world.decision == Some(Decision::ParentAndSupervisor);
                    let targets = Targets {
                        parent: by(parent_fd),
                        supervisor: further_up.then(|| by(world.supervisor_fd)),
                    };
                    let next = step(state, ArmingEvent::Opened(targets));
                    self.arming(World { parent_fd, ..world }, next)
                };
                fds.into_iter().map(opened).collect()
            }
            Arming::Recheck(_) => {
                vec![next(ArmingEvent::Rechecked { parent_is_gone: world.parent_is_gone() })]
            }
            Arming::StartThread(_) => vec![
                next(ArmingEvent::ThreadStarted(Ok(()))),
                next(ArmingEvent::ThreadStarted(Err(FAILED))),
            ],
            Arming::Armed(_) | Arming::Die(_) | Arming::NoParent | Arming::Exhausted(_) => vec![],
        }
    }

    fn outcomes_of_watching(
        self,
        state: Watching,
        step: fn(Watching, WatchingEvent) -> Watching,
    ) -> Vec<Node> {
        let world = self.world;
        let next = |event| self.watching(world, step(state, event));
        match state {
            Watching::Sleep { targets, .. } => {
                let ready = [world.ready(world.parent_fd), world.ready(world.supervisor_fd)];
                let [parent, supervisor] = ready.map(|wake| wake.unwrap_or(Wake::Quiet));
                let mut woke = vec![Woke { parent, supervisor }];
                let returns = ready.iter().any(Option::is_some) || targets.is_any_polled();
                // A signal; poll(2) that fails; a handle that is readable for an instant.
                woke.push(Woke { parent: Wake::Quiet, supervisor: Wake::Quiet });
                woke.push(Woke { parent: Wake::Invalid, supervisor: Wake::Invalid });
                woke.push(Woke { parent: Wake::Readable, supervisor });
                woke.push(Woke { parent, supervisor: Wake::Readable });
                let nodes = woke.into_iter().map(|woke| next(WatchingEvent::Woke(woke)));
                nodes.skip(usize::from(!returns)).collect()
            }
            Watching::Look { targets, at, .. } => {
                let fd = world.fd(at);
                let polled = targets.by(at) == By::Looks;
                let is_gone = match at {
                    Whose::Parent => world.parent_is_gone(),
                    Whose::Supervisor => polled && world.supervisor == Life::Ended,
                };
                let handle_is_ours = !polled && matches!(fd, Fd::On(_) | Fd::OnStranger);
                let is_still_readable = handle_is_ours && world.ready(fd) == Some(Wake::Readable);
                let answer = Answer { is_gone, handle_is_ours, is_still_readable };
                let mut nodes = vec![next(WatchingEvent::Looked(answer))];
                if polled && at == Whose::Supervisor {
                    // A look may fail, and then says nothing.
                    nodes.push(next(WatchingEvent::Looked(Answer::default())));
                }
                nodes
            }
            Watching::LetGo { at, .. } => {
                let world = match at {
                    Whose::Parent => World { parent_fd: Fd::None, ..world },
                    Whose::Supervisor => World { supervisor_fd: Fd::None, ..world },
                };
                vec![self.watching(world, step(state, WatchingEvent::HasLetGo))]
            }
            Watching::Die { .. } => vec![],
        }
    }

    fn dies_of(&self) -> Option<Whose> {
        match self.stage {
            Stage::Arming(Arming::Die(of)) | Stage::Watching(Watching::Die { of, .. }) => Some(of),
            _ => None,
        }
    }

    /// Whether this sleep ends at once.
    fn is_woken_at_once(&self) -> bool {
        let fds = [self.world.parent_fd, self.world.supervisor_fd];
        matches!(self.stage, Stage::Watching(Watching::Sleep { .. }))
            && fds.into_iter().any(|fd| self.world.ready(fd).is_some())
    }

    /// Whether somebody is dead whose death must be seen from here on.
    fn must_die(&self) -> bool {
        let whom: &[Whose] = match self.stage {
            Stage::Arming(Arming::Identify) => return self.world.is_proven_orphan(),
            Stage::Arming(Arming::Exhausted(_)) => &[],
            _ if self.world.is_proven_orphan => return true,
            Stage::Arming(Arming::NoParent) => &[],
            _ if self.world.decision == Some(Decision::ParentAndSupervisor) => {
                &[Whose::Parent, Whose::Supervisor]
            }
            _ => &[Whose::Parent],
        };
        whom.iter().any(|whose| self.world.is_dead(*whose))
    }

    /// The known limit: what the program put over the handle never becomes readable, and nothing else wakes us.
    fn is_blind(&self) -> bool {
        matches!(self.stage, Stage::Watching(Watching::Sleep { .. }))
            && [self.world.parent_fd, self.world.supervisor_fd]
                .contains(&Fd::Replaced { readable: false })
    }

    /// What becomes of this state when the world stands still.
    fn check(self, machines: Machines) -> Result<(), Violation> {
        const ENOUGH: usize = 40;
        if let Some(whose) = self.dies_of() {
            let killed_rightly = self.world.is_dead(whose);
            return if killed_rightly { Ok(()) } else { Err(Violation::FalseKill(self)) };
        }
        let mut at = Node { world: self.world.settled(), ..self };
        let must_die = at.must_die();
        let mut sleeps_at_once = 0;
        for _ in 0..ENOUGH {
            if at.dies_of().is_some() {
                return Ok(());
            }
            let outcomes = at.outcomes(machines);
            let sleeps = matches!(at.stage, Stage::Watching(Watching::Sleep { .. }));
            let is_woken = at.is_woken_at_once();
            let times_out = matches!(
                at.stage, Stage::Watching(Watching::Sleep { targets, .. }) if targets.is_any_polled()
            );
            if sleeps && !is_woken && !(times_out && must_die) {
                // It sleeps, and nothing is to be seen that a look would not have seen before.
                return match must_die && !at.is_blind() {
                    true => Err(Violation::MissedDeath(self)),
                    false => Ok(()),
                };
            }
            sleeps_at_once += usize::from(is_woken);
            if sleeps_at_once > 2 {
                return Err(Violation::Spins(self));
            }
            match outcomes.first() {
                Some(next) => at = *next,
                None => return Ok(()),
            }
        }
        Err(if must_die { Violation::MissedDeath(self) } else { Violation::Spins(self) })
    }
}

/// Every state that can be reached, each checked.
fn explore(machines: Machines) -> Result<Explored, Violation> {
    let mut explored = Explored::default();
    let mut seen = HashSet::new();
    let mut to_do = Vec::new();
    for bits in 0..16_u8 {
        let is_set = |bit: u8| bits & (1 << bit) != 0;
        let world = World {
            supervisor: Life::Alive,
            wrapper: is_set(0).then_some(Life::Alive),
            adopter_is_pid_1: is_set(1),
            named: is_set(2),
            visible: is_set(3),
            captured: None,
            decision: None,
            is_proven_orphan: false,
            parent_fd: Fd::None,
            supervisor_fd: Fd::None,
        };
        to_do.push(Node { stage: Stage::Arming(Arming::Identify), world });
    }
    seen.extend(to_do.iter().copied());
    while let Some(node) = to_do.pop() {
        node.check(machines)?;
        explored.deaths += usize::from(node.dies_of().is_some());
        if node.dies_of().is_some() {
            continue;
        }
        let moved = node.world.moves().into_iter().map(|world| Node { world, ..node });
        for next in node.outcomes(machines).into_iter().chain(moved) {
            explored.transitions += 1;
            if seen.insert(next) {
                to_do.push(next);
            }
        }
    }
    explored.states = seen.len();
    Ok(explored)
}

#[test]
fn nothing_is_missed_and_nobody_is_killed_by_mistake() {
    let explored = explore(OURS).unwrap();
    println!("{explored:?}");
    assert!(explored.states > 1_000 && explored.deaths > 100, "{explored:?}");
}

/// The exploration can fail: each of these leaves one thing out.
#[test]
fn what_is_left_out_is_found() {
    fn no_recheck(state: Arming, event: ArmingEvent) -> Arming {
        match state.step(event) {
            Arming::Recheck(targets) => Arming::StartThread(targets),
            other => other,
        }
    }
    let machines = Machines { arming: no_recheck, ..OURS };
    assert!(matches!(explore(machines), Err(Violation::MissedDeath(_))), "no recheck");

    fn takes_every_parent(state: Arming, event: ArmingEvent) -> Arming {
        let event = match event {
            ArmingEvent::Identified { .. } => {
                ArmingEvent::Identified { has_parent: true, decision: None }
            }
            other => other,
        };
        state.step(event)
    }
    let machines = Machines { arming: takes_every_parent, ..OURS };
    assert!(matches!(explore(machines), Err(Violation::MissedDeath(_))), "late arming");

    let machines = Machines { waits_for_the_end: false, ..OURS };
    assert!(matches!(explore(machines), Err(Violation::MissedDeath(_))), "arming amid the end");

    fn believes_every_claim(state: Watching, event: WatchingEvent) -> Watching {
        match (state, event) {
            (Watching::Sleep { targets, .. }, WatchingEvent::Woke(woke))
                if woke.parent == Wake::Readable =>
            {
                Watching::Die { of: Whose::Parent, seen: targets.parent }
            }
            _ => state.step(event),
        }
    }
    let machines = Machines { watching: believes_every_claim, ..OURS };
    assert!(matches!(explore(machines), Err(Violation::FalseKill(_))), "no confirmation");

    fn sleeps_on(state: Watching, event: WatchingEvent) -> Watching {
        match state.step(event) {
            Watching::LetGo { targets, .. } => Watching::Sleep { targets, soon: false },
            other => other,
        }
    }
    let machines = Machines { watching: sleeps_on, ..OURS };
    assert!(matches!(explore(machines), Err(Violation::Spins(_))), "an unconfirmed claim");

    fn forgets_the_supervisor(state: Watching, event: WatchingEvent) -> Watching {
        match state.step(event) {
            Watching::Look { targets, at: Whose::Supervisor, woke, soon } => {
                Watching::Look { targets, at: Whose::Parent, woke, soon }
            }
            other => other,
        }
    }
    let machines = Machines { watching: forgets_the_supervisor, ..OURS };
    let found = explore(machines);
    assert!(matches!(found, Err(Violation::Spins(_) | Violation::MissedDeath(_))), "{found:?}");
}

//! The supervisor's identity: the token that names it, and what can be proven about the named process.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use crate::sys::{self, Handle, OpenError, OwnTable, Stat};

/// Names a supervisor to a worker, in `LOCALAI_BACKEND_PARENT_PID` or in [`Options::parent`](crate::Options::parent).
///
/// The text is `PID`, or the full token `PID@STARTTIME@PIDNS`. STARTTIME is field 22 of `/proc/PID/stat`, and PIDNS is
/// the inode of `/proc/PID/ns/pid` (proc(5)). A process id alone can be reused, and means another process in another
/// PID namespace. The full token names one process until the next boot.
///
/// On macOS, STARTTIME is in microseconds since 1970. On Windows it is the creation time in units of 100 ns since 1601
/// (GetProcessTimes). PIDNS is 0 on both.
///
/// ```
/// let named: parentwatch::Supervisor = "4242@987654@4026531836".parse()?;
/// assert_eq!(named.pid(), 4242);
/// assert_eq!(named.to_string(), "4242@987654@4026531836");
/// # Ok::<(), parentwatch::ParseSupervisorError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Supervisor {
    pid: i32,
    proof: Option<Proof>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Proof {
    start: u64,
    pid_namespace: u64,
}

impl Supervisor {
    /// Names this process to its own workers. It has the full token where the system provides it (Linux with `/proc`,
    /// macOS, Windows), else the process id alone.
    pub fn this_process() -> Supervisor {
        let _whole = sys::CancellationDisabled::here();
        let start = sys::own_start_time();
        let proof = start
            .zip(sys::pid_namespace())
            .map(|(start, pid_namespace)| Proof { start, pid_namespace });
        Supervisor { pid: sys::own_pid(), proof }
    }

    /// The process id, in the PID namespace of the process that wrote the token. At least 1.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The start time, in the unit of the system; `None` if the token is a process id alone.
    pub fn start_time(&self) -> Option<u64> {
        self.proof.map(|proof| proof.start)
    }

    /// The inode of its PID namespace, 0 on macOS and Windows; `None` if the token is a process id alone.
    pub fn pid_namespace(&self) -> Option<u64> {
        self.proof.map(|proof| proof.pid_namespace)
    }
}

impl fmt::Display for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.proof {
            None => write!(f, "{}", self.pid),
            Some(Proof { start, pid_namespace }) => {
                write!(f, "{}@{start}@{pid_namespace}", self.pid)
            }
        }
    }
}

/// The text is no valid token: expected `PID` or `PID@STARTTIME@PIDNS`, in decimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseSupervisorError;

impl fmt::Display for ParseSupervisorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected PID or PID@STARTTIME@PIDNS, in decimal digits")
    }
}

impl std::error::Error for ParseSupervisorError {}

impl FromStr for Supervisor {
    type Err = ParseSupervisorError;

    /// Reads a token; white space around it is ignored.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut fields = text.trim().split('@').map(decimal);
        let pid = fields.next().flatten().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.filter(|pid| *pid > 0).ok_or(ParseSupervisorError)?;
        let proof = match (fields.next(), fields.next(), fields.next()) {
            (None, ..) => None,
            (Some(Some(start)), Some(Some(pid_namespace)), None) => {
                Some(Proof { start, pid_namespace })
            }
            _ => return Err(ParseSupervisorError),
        };
        Ok(Supervisor { pid, proof })
    }
}

/// ASCII digits only: `str::parse` alone would accept a sign.
fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// What was seen of the process that has the named process id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sighting {
    /// No process has it (ESRCH).
    Absent,
    /// That process has ended: its pidfd is readable, or it is a zombie.
    Ended,
    /// That process is alive, and started then.
    Alive { start: u64 },
    /// Unknown: there is no `/proc`, it is that of another namespace, or it has `hidepid`.
    Hidden,
}

/// All facts for the decision, gathered once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub named: Supervisor,
    pub own_pid: i32,
    pub parent: i32,
    pub own_pid_namespace: Option<u64>,
    /// Start times are in the clock of the initial time namespace, as in the token.
    pub clock_is_initial: bool,
    /// On this system orphans are adopted. On the others the parent of an orphan is 0.
    pub has_adopters: bool,
    pub sighting: Sighting,
    /// The main thread of that process has begun to exit.
    pub is_exiting: bool,
    pub parent_start: Option<u64>,
    pub is_ancestor: bool,
}

/// The outcome of the four rules of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Decision {
    /// The named supervisor is the direct parent: rule 1.
    Parent,
    /// The named supervisor is alive and an ancestor, or alive elsewhere and proven by a full token: rule 2. Perhaps
    /// the direct parent is watched too.
    Supervisor { and_parent: bool },
    /// The named supervisor died before we could watch it, and we were adopted: rule 3.
    Orphaned,
    /// Nothing is proven, for this reason. Warn, and watch the direct parent alone: rule 4.
    Unproven(&'static str),
}

/// The rules. What is not proven is rule 4: arming never ends the worker on a guess.
pub(crate) fn decide(facts: &Facts) -> Decision {
    let Facts { named, own_pid, parent, sighting, .. } = *facts;
    if named.pid == own_pid {
        return Decision::Unproven("it is this process");
    }
    if let Some(Proof { pid_namespace, .. }) = named.proof {
        match facts.own_pid_namespace {
            Some(own) if own != pid_namespace => {
                return Decision::Unproven("it is in another PID namespace");
            }
            None if parent != named.pid => return Decision::Unproven("/proc cannot be read"),
            _ => {}
        }
    }
    let has_its_start = |start: u64| named.proof.is_none_or(|proof| proof.start == start);

    if parent == named.pid {
        // An adopter cannot have the supervisor's process id, since both were alive at the same time. So nobody has
        // died. At most the token is wrong: it belongs to an earlier process, or to another clock.
        return match sighting {
            Sighting::Alive { start } if facts.clock_is_initial && !has_its_start(start) => {
                Decision::Unproven("the parent, which has its number, started at another time")
            }
            _ => Decision::Parent,
        };
    }
    let dead = match sighting {
        Sighting::Alive { start } if has_its_start(start) => {
            return match named.proof {
                _ if facts.is_ancestor => Decision::Supervisor { and_parent: true },
                // A spawner that forks twice, setsid, sudo -b. A parent that is younger than the supervisor is a
                // supervisor too, which inherited the token. An older parent has adopted us.
                Some(proof) if facts.clock_is_initial => Decision::Supervisor {
                    and_parent: facts.parent_started(named.pid, proof) == Some(Ordering::Greater),
                },
                // Children are re-parented when the last thread *starts* to exit. The process has ended when that
                // thread has *finished*, which for a large process is later.
                None if facts.is_exiting && facts.is_left_to_init() => {
                    Decision::Supervisor { and_parent: false }
                }
                _ => Decision::Unproven("it is not an ancestor"),
            };
        }
        Sighting::Hidden => return Decision::Unproven("it cannot be seen"),
        // Another process has its process id. Only a full token can prove that. If that process is our ancestor, the
        // token is wrong: our ancestors lived at the same time as the supervisor, so none can have its process id.
        Sighting::Alive { .. } => facts.clock_is_initial && !facts.is_ancestor,
        Sighting::Absent | Sighting::Ended => true,
    };
    // We were adopted if our parent started before the supervisor: an adopter is an ancestor of the supervisor.
    let adopted = match named.proof {
        _ if !facts.has_adopters => parent == 0,
        Some(proof) => {
            facts.clock_is_initial
                && (facts.parent_started(named.pid, proof) == Some(Ordering::Less)
                    || facts.is_left_to_init())
        }
        None => facts.is_left_to_init(),
    };
    match dead && adopted {
        true => Decision::Orphaned,
        false => Decision::Unproven(
            "it is dead or another process, and the parent is not known to be an adopter",
        ),
    }
}

impl Facts {
    /// Init is an ancestor of every process, even if its start time is hidden. With a process id alone, there is no
    /// other proof that a worker was adopted.
    fn is_left_to_init(&self) -> bool {
        self.own_pid_namespace == Some(sys::INITIAL_PID_NAMESPACE) && self.parent == 1
    }

    /// Whether the parent started before or after the supervisor. On Linux, start times are in ticks of 10 ms. Within
    /// one tick, compare the process ids: Linux assigns them in rising order (unless they wrap around within that
    /// tick).
    fn parent_started(&self, named_pid: i32, named: Proof) -> Option<Ordering> {
        self.parent_start.map(|start| (start, self.parent).cmp(&(named.start, named_pid)))
    }
}

/// The decision, and what is needed to watch the supervisor.
pub(crate) struct Resolution {
    pub decision: Decision,
    /// A handle on the named supervisor, if it is watched and the handle could be opened.
    pub handle: Option<Handle>,
    /// Its start time, which tells a polled process from a later one with the same process id.
    pub start: Option<u64>,
    /// The leader of our process group, if it is an ancestor of ours and a descendant of the supervisor.
    pub group_leader: Option<i32>,
}

/// The worker: the process whose supervisor is resolved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Worker {
    pub pid: i32,
    pub parent: i32,
    pub group: i32,
}

impl Worker {
    /// Remembers the parent now, so that a later check notices every change.
    pub(crate) fn this_process() -> Worker {
        Worker { pid: sys::own_pid(), parent: sys::parent_pid(), group: sys::process_group() }
    }
}

/// Examines the named process and decides.
///
/// In the usual case the parent is the named supervisor. One look is enough then: that decision ends no worker, so it
/// needs no more proof.
///
/// Else the handle is opened first. What is then read about the process id belongs to the process of the handle, or
/// that process has ended.
pub(crate) fn resolve(table: Option<&OwnTable>, named: Supervisor, worker: Worker) -> Resolution {
    let Worker { pid: own_pid, parent, group } = worker;
    let started_then =
        |proof: Proof| sys::stat(parent).is_some_and(|stat| stat.start == proof.start);
    if named.pid == parent && named.proof.is_none_or(started_then) {
        return Resolution {
            decision: Decision::Parent,
            handle: None,
            start: None,
            group_leader: None,
        };
    }
    let opened = Handle::open_in(table, named.pid);
    let procfs = sys::procfs_is_ours();
    let stat = |pid| if procfs { sys::stat(pid) } else { None };
    let seen = stat(named.pid);
    let ended = match opened {
        Ok(handle) => handle.has_ended(),
        Err(_) => seen.as_ref().is_some_and(Stat::has_ended),
    };
    let sighting = match (&opened, ended, &seen) {
        (Err(OpenError::Gone), ..) => Sighting::Absent,
        (_, true, _) => Sighting::Ended,
        (_, false, Some(stat)) => Sighting::Alive { start: stat.start },
        (Err(OpenError::Unavailable), false, None) if sys::is_absent(named.pid) => Sighting::Absent,
        (_, false, None) => Sighting::Hidden,
    };
    let mut lineage = Lineage::default();
    if let Sighting::Alive { .. } = sighting {
        // The walk fails if a process on the way ends meanwhile. Then try again.
        lineage = (0..3)
            .map(|_| Lineage::trace(parent, named.pid, group, stat))
            .find(|lineage| lineage.reaches)
            .unwrap_or_default();
    }
    let decision = decide(&Facts {
        named,
        own_pid,
        parent,
        own_pid_namespace: sys::pid_namespace(),
        clock_is_initial: sys::clock_is_initial(),
        has_adopters: sys::HAS_ADOPTERS,
        sighting,
        is_exiting: seen.is_some_and(|stat| stat.is_exiting),
        parent_start: stat(parent).map(|stat| stat.start),
        is_ancestor: lineage.reaches,
    });
    let is_watched = matches!(decision, Decision::Supervisor { .. });
    Resolution {
        decision,
        handle: opened.ok().filter(|_| is_watched),
        start: seen.filter(|_| is_watched).map(|stat| stat.start),
        group_leader: lineage.group_leader.filter(|_| is_watched),
    }
}

/// The path from the parent up to the named supervisor.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lineage {
    reaches: bool,
    group_leader: Option<i32>,
}

impl Lineage {
    /// Bounds the walk, which must end even if process ids are reused meanwhile. No process tree is this deep.
    const DEEPEST: usize = 256;

    fn trace(
        parent: i32,
        supervisor: i32,
        group: i32,
        stat: impl Fn(i32) -> Option<Stat>,
    ) -> Lineage {
        let mut pid = parent;
        let mut group_leader = None;
        let mut younger = u64::MAX;
        for _ in 0..Lineage::DEEPEST {
            if pid == supervisor {
                return Lineage { reaches: true, group_leader };
            }
            // A parent is never younger than its child. If it seems so, its process id was reused meanwhile.
            let Some(stat) = stat(pid).filter(|stat| pid > 1 && stat.start <= younger) else {
                break;
            };
            if pid == group {
                group_leader = Some(pid);
            }
            younger = stat.start;
            pid = stat.parent;
        }
        Lineage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NS: u64 = sys::INITIAL_PID_NAMESPACE;

    /// Supervisor 100 started at 50 and was the grandparent of this process. The parent is 200.
    fn facts(sighting: Sighting) -> Facts {
        Facts {
            named: format!("100@50@{NS}").parse().unwrap(),
            own_pid: 300,
            parent: 200,
            own_pid_namespace: Some(NS),
            clock_is_initial: true,
            has_adopters: true,
            sighting,
            is_exiting: false,
            parent_start: Some(60),
            is_ancestor: true,
        }
    }

    fn unproven(decision: Decision) -> bool {
        matches!(decision, Decision::Unproven(_))
    }

    #[test]
    fn rule_1_the_parent_is_the_supervisor() {
        for sighting in
            [Sighting::Alive { start: 50 }, Sighting::Hidden, Sighting::Ended, Sighting::Absent]
        {
            let parent = Facts { parent: 100, ..facts(sighting) };
            assert_eq!(decide(&parent), Decision::Parent);
            let no_procfs = Facts { own_pid_namespace: None, ..parent };
            assert_eq!(decide(&no_procfs), Decision::Parent, "without /proc");
        }
    }

    #[test]
    fn rule_2_alive_and_an_ancestor() {
        let both = Decision::Supervisor { and_parent: true };
        assert_eq!(decide(&facts(Sighting::Alive { start: 50 })), both);
        let plain = Facts { named: "100".parse().unwrap(), ..facts(Sighting::Alive { start: 7 }) };
        assert_eq!(decide(&plain), both);
    }

    #[test]
    fn rule_2_alive_and_elsewhere_named_by_a_full_token() {
        let elsewhere = Facts { is_ancestor: false, ..facts(Sighting::Alive { start: 50 }) };
        let alone = Decision::Supervisor { and_parent: false };
        let both = Decision::Supervisor { and_parent: true };
        for (parent, parent_start, expected) in [
            (200, Some(60), both),
            (200, Some(50), both),
            (99, Some(50), alone),
            (200, Some(49), alone),
            (1, Some(0), alone),
            (200, None, alone),
        ] {
            let facts = Facts { parent, parent_start, ..elsewhere };
            assert_eq!(decide(&facts), expected, "{parent} {parent_start:?}");
        }
        let unproven = Decision::Unproven("it is not an ancestor");
        let plain = Facts { named: "100".parse().unwrap(), ..elsewhere };
        assert_eq!(decide(&plain), unproven, "a process id alone");
        let exiting = Facts { is_exiting: true, parent: 1, ..plain };
        assert_eq!(decide(&exiting), alone, "about to end");
        assert_eq!(decide(&Facts { parent: 99, ..exiting }), unproven, "no proof of an adopter");
        assert_eq!(
            decide(&Facts { clock_is_initial: false, ..elsewhere }),
            unproven,
            "another clock"
        );
    }

    #[test]
    fn rule_3_dead_and_adopted_by_an_older_process() {
        for sighting in [Sighting::Absent, Sighting::Ended, Sighting::Alive { start: 51 }] {
            let adopted = Facts { parent_start: Some(49), is_ancestor: false, ..facts(sighting) };
            assert_eq!(decide(&adopted), Decision::Orphaned, "{sighting:?}");
            if matches!(sighting, Sighting::Alive { .. }) {
                let above_us = Facts { is_ancestor: true, ..adopted };
                assert!(unproven(decide(&above_us)), "an ancestor lived at the same time");
            }
            assert!(
                unproven(decide(&Facts { parent_start: Some(51), ..adopted })),
                "younger parent"
            );
            let unknown = Facts { parent_start: None, ..adopted };
            assert!(unproven(decide(&unknown)), "unknown parent");
            if !matches!(sighting, Sighting::Alive { .. }) {
                let init = Facts { parent: 1, ..unknown };
                assert_eq!(decide(&init), Decision::Orphaned, "init needs no start time");
            }
            assert!(
                unproven(decide(&Facts { clock_is_initial: false, ..adopted })),
                "time namespace"
            );
            assert!(
                unproven(decide(&Facts { own_pid_namespace: Some(1), ..adopted })),
                "other namespace"
            );
            assert!(unproven(decide(&Facts { own_pid_namespace: None, ..adopted })), "no /proc");
        }
    }

    #[test]
    fn within_one_tick_the_lower_process_id_is_older() {
        let dead = Facts { parent_start: Some(50), is_ancestor: false, ..facts(Sighting::Absent) };
        assert_eq!(decide(&Facts { parent: 1, ..dead }), Decision::Orphaned);
        assert_eq!(decide(&Facts { parent: 99, ..dead }), Decision::Orphaned);
        assert!(unproven(decide(&Facts { parent: 101, ..dead })));
    }

    #[test]
    fn rule_3_for_a_plain_pid_needs_init_and_the_initial_namespace() {
        let plain = Facts {
            named: "100".parse().unwrap(),
            parent: 1,
            parent_start: Some(0),
            is_ancestor: false,
            ..facts(Sighting::Absent)
        };
        assert_eq!(decide(&plain), Decision::Orphaned);
        assert_eq!(decide(&Facts { sighting: Sighting::Ended, ..plain }), Decision::Orphaned);
        assert!(unproven(decide(&Facts { parent: 99, ..plain })), "a subreaper proves nothing");
        assert!(unproven(decide(&Facts { own_pid_namespace: Some(1), ..plain })), "a container");
        assert!(
            unproven(decide(&Facts { sighting: Sighting::Alive { start: 9 }, ..plain })),
            "another process has the process id"
        );
    }

    /// Windows: an orphan has no parent. Other systems have adopters.
    #[test]
    fn rule_3_without_adopters_needs_a_parent_that_is_gone() {
        let gone = Facts {
            has_adopters: false,
            parent: 0,
            parent_start: None,
            is_ancestor: false,
            ..facts(Sighting::Absent)
        };
        let plain = Facts { named: "100".parse().unwrap(), ..gone };
        for orphan in [gone, plain] {
            assert_eq!(decide(&orphan), Decision::Orphaned);
            assert_eq!(decide(&Facts { sighting: Sighting::Ended, ..orphan }), Decision::Orphaned);
            let parent_lives = Facts { parent: 200, parent_start: Some(10), ..orphan };
            assert!(unproven(decide(&parent_lives)), "an older parent is no adopter");
        }
        let another = Sighting::Alive { start: 51 };
        assert_eq!(decide(&Facts { sighting: another, ..gone }), Decision::Orphaned);
        assert!(unproven(decide(&Facts { sighting: another, ..plain })));
        let detached = Facts { sighting: Sighting::Alive { start: 50 }, ..gone };
        assert_eq!(decide(&detached), Decision::Supervisor { and_parent: false });
    }

    #[test]
    fn rule_4_the_rest() {
        let alive = facts(Sighting::Alive { start: 50 });
        assert!(unproven(decide(&Facts { own_pid: 100, ..alive })));
        assert!(unproven(decide(&facts(Sighting::Hidden))));
        assert!(unproven(decide(&Facts { parent: 100, ..facts(Sighting::Alive { start: 51 }) })));
    }

    /// Runs a function on a thread that has its own descriptor table, like the watcher's thread.
    #[cfg(target_os = "linux")]
    fn in_own_table<T: Send>(run: impl FnOnce(Option<&OwnTable>) -> T + Send) -> T {
        std::thread::scope(|threads| {
            threads.spawn(|| run(OwnTable::take().as_ref())).join().unwrap()
        })
    }

    /// In a real tree: this process ── shell ── sleep. The last one plays the parent.
    #[cfg(target_os = "linux")]
    #[test]
    fn real_processes_are_resolved() {
        use std::io::Read;
        let mut shell = std::process::Command::new("/bin/sh")
            .args(["-c", "sleep 60 >/dev/null & echo $!; exec >/dev/null; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        shell.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let sleep: i32 = said.trim().parse().unwrap();
        let supervisor = i32::try_from(shell.id()).unwrap();
        let start = sys::stat(supervisor).unwrap().start;
        let namespace = sys::pid_namespace().unwrap();
        let token = |pid: i32, start: u64| -> Supervisor {
            format!("{pid}@{start}@{namespace}").parse().unwrap()
        };
        let resolve = |named, parent| {
            let worker = Worker { parent, ..Worker::this_process() };
            in_own_table(|table| resolve(table, named, worker))
        };
        let decision = |named, parent| resolve(named, parent).decision;
        let both = Decision::Supervisor { and_parent: true };

        let above = resolve(token(supervisor, start), sleep);
        assert_eq!(above.decision, both);
        assert_eq!(above.start, Some(start));
        let has_handles = in_own_table(|table| Handle::open_in(table, supervisor).is_ok());
        assert_eq!(above.handle.is_some(), has_handles);
        assert_eq!(above.group_leader, None, "the shell does not lead our group");
        let parent = resolve(token(supervisor, start), supervisor);
        assert_eq!(parent.decision, Decision::Parent);
        assert!(parent.handle.is_none() && parent.start.is_none());
        let plain: Supervisor = supervisor.to_string().parse().unwrap();
        assert_eq!(decision(plain, supervisor), Decision::Parent);
        assert_eq!(decision(plain, sleep), both);
        assert!(unproven(decision(token(supervisor, start + 1), supervisor)), "other start time");
        // Not an ancestor, as if a launcher had exited. The shell, which plays the parent, is older.
        let elsewhere = token(sleep, sys::stat(sleep).unwrap().start);
        assert_eq!(decision(elsewhere, supervisor), Decision::Supervisor { and_parent: false });

        // SAFETY: it is our descendant, and its parent has not reaped it.
        unsafe { libc::kill(sleep, libc::SIGKILL) };
        shell.wait().unwrap();
        let dead = token(supervisor, start);
        let older = i32::try_from(std::process::id()).unwrap();
        // As if this process, which is older, had adopted a child of the shell.
        assert_eq!(decision(dead, older), Decision::Orphaned);
    }

    #[test]
    fn a_parse_error_says_what_was_expected() {
        let expected = "expected PID or PID@STARTTIME@PIDNS, in decimal digits";
        assert_eq!("x".parse::<Supervisor>().unwrap_err().to_string(), expected);
    }

    #[test]
    fn the_lineage_finds_a_group_leader_only_below_the_supervisor() {
        // 100 supervisor, 200 wrapper, 250 shell, then this process
        let stat = |pid| {
            let (parent, start) = match pid {
                250 => (200, 60),
                200 => (100, 55),
                100 => (1, 50),
                _ => return None,
            };
            Some(Stat {
                parent,
                start,
                state: b'S',
                threads: 1,
                is_exiting: false,
                group: 1,
                is_reaper: false,
            })
        };
        let led_by = |group| Lineage::trace(250, 100, group, stat);
        assert_eq!(led_by(200), Lineage { reaches: true, group_leader: Some(200) });
        assert_eq!(led_by(250), Lineage { reaches: true, group_leader: Some(250) });
        assert_eq!(led_by(100), Lineage { reaches: true, group_leader: None });
        assert_eq!(led_by(7), Lineage { reaches: true, group_leader: None });
        assert_eq!(Lineage::trace(250, 99, 200, stat), Lineage::default());
    }

    #[test]
    fn the_lineage_ends_at_a_loop_and_at_a_younger_parent() {
        let looping = |pid| {
            Some(Stat {
                parent: pid,
                start: 1,
                state: b'S',
                threads: 1,
                is_exiting: false,
                group: 1,
                is_reaper: false,
            })
        };
        assert_eq!(Lineage::trace(5, 9, 0, looping), Lineage::default());
        let reused = |pid| {
            Some(Stat {
                parent: pid - 1,
                start: 100 - pid as u64,
                state: b'S',
                threads: 1,
                is_exiting: false,
                group: 1,
                is_reaper: false,
            })
        };
        assert_eq!(Lineage::trace(20, 10, 0, reused), Lineage::default());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC*") {
            let _ = text.parse::<Supervisor>();
        }

        #[test]
        fn what_is_written_is_read(pid in 1_i32.., start: u64, ns: u64) {
            let text = format!("{pid}@{start}@{ns}");
            let read: Supervisor = text.parse().unwrap();
            prop_assert_eq!(read.to_string(), text);
            prop_assert_eq!((read.pid(), read.start_time(), read.pid_namespace()), (pid, Some(start), Some(ns)));
            let plain: Supervisor = format!(" {pid}\n").parse().unwrap();
            prop_assert_eq!(plain.to_string(), pid.to_string());
        }

        #[test]
        fn a_broken_token_is_refused(token in "[0-9]{0,12}(@[0-9a-z+ -]{0,12}){0,4}") {
            let fields: Vec<_> = token.split('@').collect();
            let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
            let pid_fits = fields[0].parse::<i32>().is_ok_and(|pid| pid > 0);
            let whole = matches!(fields.len(), 1 | 3) && pid_fits && fields.iter().all(|f| digits(f));
            // white space around the token is ignored; the strategy makes it in the last field alone
            prop_assume!(!token.ends_with(' '));
            prop_assert_eq!(token.parse::<Supervisor>().is_ok(), whole);
        }

        /// Whatever the facts: without a proof, arming never ends the worker.
        #[test]
        fn orphaned_is_only_ever_proven(
            full: bool, parent in 0_i32..400, own_ns in prop::option::of(prop::sample::select(vec![NS, 1])),
            clock: bool, adopters: bool, kind in 0_usize..4, start in 40_u64..60, parent_start in prop::option::of(40_u64..60), ancestor: bool,
        ) {
            let sighting = [Sighting::Absent, Sighting::Ended, Sighting::Alive { start }, Sighting::Hidden][kind];
            let token = if full { format!("100@50@{NS}") } else { "100".to_owned() };
            let named: Supervisor = token.parse().unwrap();
            let facts = Facts {
                named, own_pid: 300, parent, own_pid_namespace: own_ns, clock_is_initial: clock,
                has_adopters: adopters, sighting, is_exiting: false, parent_start, is_ancestor: ancestor,
            };
            if decide(&facts) == Decision::Orphaned {
                prop_assert!(own_ns == Some(NS) || (!full && !adopters));
                prop_assert!(parent != 100);
                let is_alive = matches!(sighting, Sighting::Alive { .. });
                prop_assert!(!(ancestor && is_alive), "our ancestors lived beside the supervisor");
                prop_assert_ne!(sighting, Sighting::Hidden);
                prop_assert_ne!(sighting, Sighting::Alive { start: 50 });
                prop_assert!(full || !is_alive, "another process has the process id");
                match (adopters, full) {
                    (false, _) => prop_assert_eq!(parent, 0),
                    (true, true) => prop_assert!(clock && parent_start.unwrap() <= 50),
                    (true, false) => prop_assert_eq!(parent, 1),
                }
            }
        }
    }
}

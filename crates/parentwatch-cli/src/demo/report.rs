//! What the demo saw, and whether that is what it should see. This is the JSON object.

use std::time::Duration;

use rustix::process::Signal;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::death_line;
use super::measure::{Ending, Fate, Outcome};
use super::tree::Worker;

/// How long things may take after the supervisor was killed.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Until a worker in the event tier is gone.
    pub event: Duration,
    /// Until a worker in the poll tier is gone.
    pub poll: Duration,
    /// How much later than their worker the helpers may be gone.
    pub helpers: Duration,
}

impl Limits {
    /// How long to watch. Nothing may take longer.
    pub fn longest(&self) -> Duration {
        self.event.max(self.poll) + self.helpers
    }

    /// The same for workers and their helpers together.
    fn with_helpers(&self) -> Self {
        Self { event: self.event + self.helpers, poll: self.poll + self.helpers, ..*self }
    }

    /// Until a worker whose death line has `tier` is gone.
    fn of(&self, tier: Option<&str>) -> Duration {
        match tier {
            Some("poll") => self.poll,
            _ => self.event,
        }
    }
}

/// Everything that the demo saw.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The workers of the first tree, which watch their supervisor.
    pub protected: Vec<Protected>,
    /// The workers of the second tree, in which the watcher is switched off.
    pub unprotected: Vec<Orphan>,
    /// Whether there are no problems.
    pub ok: bool,
    /// The problems, one line each.
    pub problems: Vec<String>,
}

/// A worker with a watcher, after its supervisor was killed.
#[derive(Debug, Serialize)]
pub struct Protected {
    /// The language that it is written in.
    pub kind: String,
    /// Its process id.
    pub pid: i32,
    /// The tier in which it noticed the death, from its death line; none without such a line.
    pub tier: Option<String>,
    /// The port that it served on.
    pub port: u16,
    /// From the kill until it had ended and was reaped; none if it was still alive.
    #[serde(rename = "gone_after_us", serialize_with = "microseconds")]
    pub gone_after: Option<Duration>,
    /// From the kill until its port could be listened on again; none if it could not.
    #[serde(rename = "port_free_after_us", serialize_with = "microseconds")]
    pub port_free_after: Option<Duration>,
    /// Whether it is not linked with the library but run by `exec`.
    pub guarded: bool,
    /// How it ended; none if it is alive.
    #[serde(flatten, serialize_with = "status_or_signal")]
    pub ending: Option<Ending>,
    /// How many helpers it had before the kill.
    pub helpers: usize,
    /// From the kill until the last of them had ended; none if one was alive or there were none.
    #[serde(rename = "helpers_gone_after_us", serialize_with = "microseconds")]
    pub helpers_gone_after: Option<Duration>,
}

impl Protected {
    /// What became of `worker`.
    pub fn new(worker: &Worker, outcome: &Outcome) -> Self {
        let (gone_after, port_free_after, ending) = match outcome.worker {
            Fate::Alive { .. } => (None, None, None),
            Fate::Gone { after, port_free_after, ending } => {
                (Some(after), port_free_after, Some(ending))
            }
        };
        Self {
            kind: worker.kind.clone(),
            pid: worker.pid,
            tier: death_line::find_tier(&worker.stderr(), worker.pid).map(str::to_owned),
            port: worker.port,
            gone_after,
            port_free_after,
            guarded: worker.is_guarded,
            ending,
            helpers: outcome.helpers.count,
            helpers_gone_after: outcome.helpers.gone_after,
        }
    }

    /// Whether a worker of its tier may take `time`.
    pub fn is_in_time(&self, time: Duration, limits: &Limits) -> bool {
        time <= limits.of(self.tier.as_deref())
    }

    /// The library ends its process with status 1; the guardian sends SIGTERM.
    fn expected_ending(&self) -> Ending {
        match self.guarded {
            true => Ending::Killed(Signal::TERM.as_raw()),
            false => Ending::Exited(1),
        }
    }

    /// What is wrong with it, for a worker whose supervisor died.
    pub fn problem(&self, limits: &Limits) -> Option<String> {
        let what = match (self.gone_after, self.port_free_after) {
            (None, _) => format!("was alive {:?} after its supervisor", limits.longest()),
            (Some(after), _) if !self.is_in_time(after, limits) => {
                format!("ended only {after:?} after its supervisor")
            }
            (_, None) => format!("is gone, but port {} cannot be listened on", self.port),
            // Perhaps it crashed, which would prove nothing.
            _ if self.tier.is_none() => "is gone, but left no death line on its stderr".to_owned(),
            _ if self.ending != Some(self.expected_ending()) => {
                let ending = self.ending.map(|ending| ending.to_string()).unwrap_or_default();
                format!("ended {ending}, not {}", self.expected_ending())
            }
            _ => match (self.helpers, self.helpers_gone_after) {
                (0, _) => return None,
                (_, None) => "is gone, but not every one of its helpers".to_owned(),
                (_, Some(after)) if !self.is_in_time(after, &limits.with_helpers()) => {
                    format!("is gone, but its helpers ended only {after:?} after the supervisor")
                }
                _ => return None,
            },
        };
        Some(format!("worker {} {} {what}", self.kind, self.pid))
    }
}

/// A worker without a watcher, some time after its supervisor was killed.
#[derive(Debug, Serialize)]
pub struct Orphan {
    /// The language that it is written in.
    pub kind: String,
    /// Its process id.
    pub pid: i32,
    /// The port that it serves on.
    pub port: u16,
    /// Whether it was still alive at the end of the watch.
    pub survived: bool,
    /// Whether it answered `Health` then.
    pub answers_health: bool,
    /// Whether `doctor` knew it for an orphan then: its supervisor had named itself to it.
    pub found_by_doctor: bool,
    /// How many helpers it had before the kill.
    pub helpers: usize,
    /// How many of them were still alive at the end of the watch.
    pub helpers_alive: usize,
    /// From the kill until it was gone, or until the end of the watch.
    #[serde(rename = "watched_for_us", serialize_with = "some_microseconds")]
    pub watched_for: Duration,
}

impl Orphan {
    /// The outcome for `worker`, whether it answered `Health` at the end, and which `orphans` doctor found then.
    pub fn new(worker: &Worker, outcome: &Outcome, answers_health: bool, orphans: &[i32]) -> Self {
        let (survived, watched_for) = match outcome.worker {
            Fate::Alive { after } => (true, after),
            Fate::Gone { after, .. } => (false, after),
        };
        Self {
            kind: worker.kind.clone(),
            pid: worker.pid,
            port: worker.port,
            survived,
            answers_health,
            found_by_doctor: orphans.contains(&worker.pid),
            helpers: outcome.helpers.count,
            helpers_alive: outcome.helpers.alive,
            watched_for,
        }
    }

    /// What is wrong with it, for a worker without a watcher. The demo then proves nothing.
    pub fn problem(&self) -> Option<String> {
        let what = match (self.survived, self.answers_health) {
            (true, true) if self.helpers_alive == self.helpers && self.found_by_doctor => {
                return None;
            }
            (true, true) if self.helpers_alive == self.helpers => {
                return Some(format!("doctor did not find the orphan {} {}", self.kind, self.pid));
            }
            (true, true) => "did not keep its helpers",
            (true, false) => "does not answer Health",
            (false, _) => "did not survive its supervisor",
        };
        Some(format!(
            "worker {} {} {what} with the watcher switched off: the demo proves nothing",
            self.kind, self.pid
        ))
    }
}

impl Report {
    /// Judges what the demo saw.
    pub fn new(protected: Vec<Protected>, unprotected: Vec<Orphan>, limits: &Limits) -> Self {
        let problems: Vec<String> = protected
            .iter()
            .filter_map(|worker| worker.problem(limits))
            .chain(unprotected.iter().filter_map(Orphan::problem))
            .collect();
        Self { protected, unprotected, ok: problems.is_empty(), problems }
    }
}

/// Writes a time as microseconds.
fn some_microseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    microseconds(&Some(*time), serializer)
}

/// Writes the exit status of a worker, or the signal that killed it.
fn status_or_signal<S: Serializer>(
    ending: &Option<Ending>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let (exit_status, signal) = match *ending {
        Some(Ending::Exited(status)) => (Some(status), None),
        Some(Ending::Killed(signal)) => (None, Some(signal)),
        None => (None, None),
    };
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("exit_status", &exit_status)?;
    map.serialize_entry("signal", &signal)?;
    map.end()
}

/// Writes a time as microseconds, or null.
fn microseconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)).serialize(serializer)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const LIMITS: Limits = Limits {
        event: Duration::from_secs(1),
        poll: Duration::from_secs(3),
        helpers: Duration::from_secs(1),
    };

    pub fn protected() -> Protected {
        Protected {
            kind: "cpp".to_owned(),
            pid: 4243,
            tier: Some("event".to_owned()),
            port: 40001,
            gone_after: Some(Duration::from_micros(840)),
            port_free_after: Some(Duration::from_micros(1320)),
            guarded: false,
            ending: Some(Ending::Exited(1)),
            helpers: 0,
            helpers_gone_after: None,
        }
    }

    pub fn with_helpers() -> Protected {
        let gone = Some(Duration::from_micros(4250));
        Protected { kind: "python".to_owned(), helpers: 2, helpers_gone_after: gone, ..protected() }
    }

    pub fn polling() -> Protected {
        Protected {
            kind: "go".to_owned(),
            tier: Some("poll".to_owned()),
            gone_after: Some(Duration::from_millis(1500)),
            port_free_after: Some(Duration::from_millis(1501)),
            ..protected()
        }
    }

    pub fn guarded() -> Protected {
        let ending = Some(Ending::Killed(15));
        Protected { kind: "exec".to_owned(), guarded: true, ending, ..with_helpers() }
    }

    pub fn orphan() -> Orphan {
        Orphan {
            kind: "rust".to_owned(),
            pid: 4250,
            port: 40002,
            survived: true,
            answers_health: true,
            found_by_doctor: true,
            helpers: 2,
            helpers_alive: 2,
            watched_for: LIMITS.event,
        }
    }

    fn problems(protected: Protected, orphan: Orphan) -> String {
        let report = Report::new(vec![protected], vec![orphan], &LIMITS);
        assert_eq!(report.ok, report.problems.is_empty());
        report.problems.join("\n")
    }

    #[test]
    fn judges() {
        assert_eq!(problems(protected(), orphan()), "");
        let alive = Protected { gone_after: None, port_free_after: None, ..protected() };
        assert_eq!(problems(alive, orphan()), "worker cpp 4243 was alive 4s after its supervisor");
        let late = Protected { gone_after: Some(LIMITS.event * 2), ..protected() };
        assert!(problems(late, orphan()).contains("ended only 2s after"));
        let held = Protected { port_free_after: None, ..protected() };
        assert!(problems(held, orphan()).contains("port 40001 cannot be listened on"));
        let silent = Protected { tier: None, ..protected() };
        assert!(problems(silent, orphan()).contains("left no death line"));
        let crashed = Protected { ending: Some(Ending::Killed(11)), ..protected() };
        let expected = "worker cpp 4243 ended by signal 11, not with status 1";
        assert_eq!(problems(crashed, orphan()), expected);
        assert_eq!(problems(guarded(), orphan()), "");
        let killed = Protected { ending: Some(Ending::Killed(9)), ..guarded() };
        assert!(problems(killed, orphan()).contains("ended by signal 9, not by signal 15"));
        assert_eq!(problems(polling(), orphan()), "");
        let late = Protected { gone_after: Some(LIMITS.poll * 2), ..polling() };
        assert!(problems(late, orphan()).contains("ended only 6s after"));
        assert_eq!(problems(with_helpers(), orphan()), "");
        let killed = Protected { helpers_gone_after: Some(LIMITS.event * 3 / 2), ..with_helpers() };
        assert_eq!(problems(killed, orphan()), "", "they did not follow the SIGTERM");
        let left = Protected { helpers_gone_after: None, ..with_helpers() };
        assert!(problems(left, orphan()).contains("not every one of its helpers"));
        let slow = Protected { helpers_gone_after: Some(LIMITS.event * 3), ..with_helpers() };
        assert!(problems(slow, orphan()).contains("its helpers ended only 3s after"));
        let alone = Orphan { helpers_alive: 1, ..orphan() };
        assert!(problems(protected(), alone).contains("did not keep its helpers"));
        let dead = Orphan { survived: false, ..orphan() };
        assert!(problems(protected(), dead).contains("proves nothing"));
        let mute = Orphan { answers_health: false, ..orphan() };
        assert!(problems(protected(), mute).contains("does not answer Health"));
        let nameless = Orphan { found_by_doctor: false, ..orphan() };
        assert_eq!(problems(protected(), nameless), "doctor did not find the orphan rust 4250");
    }

    #[test]
    fn writes_json() {
        let report = Report::new(vec![protected()], vec![orphan()], &LIMITS);
        assert_eq!(
            serde_json::to_value(&report).unwrap(),
            serde_json::json!({
                "protected": [{
                    "kind": "cpp", "pid": 4243, "tier": "event", "port": 40001,
                    "gone_after_us": 840, "port_free_after_us": 1320,
                    "guarded": false, "exit_status": 1, "signal": null,
                    "helpers": 0, "helpers_gone_after_us": null,
                }],
                "unprotected": [{
                    "kind": "rust", "pid": 4250, "port": 40002, "survived": true,
                    "answers_health": true, "found_by_doctor": true, "helpers": 2, "helpers_alive": 2,
                    "watched_for_us": 1_000_000,
                }],
                "ok": true,
                "problems": [],
            })
        );
    }
}

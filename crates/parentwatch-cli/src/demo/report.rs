//! What the demo has seen, and whether that is what it should see: the JSON document.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::death_line;
use super::measure::Outcome;
use super::tree::Worker;

/// Everything that the demo has seen.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The workers of the first tree, which watch their supervisor.
    pub protected: Vec<Protected>,
    /// The workers of the second tree, in which the watcher is switched off.
    pub unprotected: Vec<Orphan>,
    /// Whether there are no problems.
    pub ok: bool,
    /// What is not as it should be, a line for each.
    pub problems: Vec<String>,
}

/// A worker that watches its supervisor, after the supervisor was killed.
#[derive(Debug, Serialize)]
pub struct Protected {
    /// The language that it is written in.
    pub kind: String,
    /// Its process id.
    pub pid: i32,
    /// How it saw that the supervisor was gone, from its death line; none without such a line.
    pub tier: Option<String>,
    /// The port that it served on.
    pub port: u16,
    /// From the kill until it had ended and was reaped; none if it was still alive.
    #[serde(rename = "gone_after_us", serialize_with = "microseconds")]
    pub gone_after: Option<Duration>,
    /// From the kill until its port could be listened on again; none if it could not.
    #[serde(rename = "port_free_after_us", serialize_with = "microseconds")]
    pub port_free_after: Option<Duration>,
    /// Its exit status; none if it is alive or was ended by a signal.
    pub exit_status: Option<i32>,
}

impl Protected {
    /// What became of `worker`.
    pub fn new(worker: &Worker, outcome: &Outcome) -> Self {
        let (gone_after, port_free_after, exit_status) = match *outcome {
            Outcome::Alive { .. } => (None, None, None),
            Outcome::Gone { after, port_free_after, exit_status } => {
                (Some(after), port_free_after, exit_status)
            }
        };
        Self {
            kind: worker.kind.clone(),
            pid: worker.pid,
            tier: death_line::find_tier(&worker.stderr(), worker.pid).map(str::to_owned),
            port: worker.port,
            gone_after,
            port_free_after,
            exit_status,
        }
    }

    /// Why this is not what a worker should do when its supervisor dies.
    pub fn problem(&self, limit: Duration) -> Option<String> {
        let what = match (self.gone_after, self.port_free_after) {
            (None, _) => format!("was alive {limit:?} after its supervisor"),
            (Some(after), _) if after > limit => {
                format!("ended only {after:?} after its supervisor")
            }
            (_, None) => format!("is gone, but port {} cannot be listened on", self.port),
            // It crashed, perhaps: that would not show anything.
            _ if self.tier.is_none() => "is gone, but left no death line on its stderr".to_owned(),
            _ if self.exit_status != Some(1) => {
                format!("is gone, but with {:?} as exit status, not 1", self.exit_status)
            }
            _ => return None,
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
    /// From the kill until the end of the watch, or until it was gone.
    #[serde(rename = "watched_for_us", serialize_with = "some_microseconds")]
    pub watched_for: Duration,
}

impl Orphan {
    /// What became of `worker`, which then answered `Health` or not.
    pub fn new(worker: &Worker, outcome: &Outcome, answers_health: bool) -> Self {
        let (survived, watched_for) = match *outcome {
            Outcome::Alive { after } => (true, after),
            Outcome::Gone { after, .. } => (false, after),
        };
        Self {
            kind: worker.kind.clone(),
            pid: worker.pid,
            port: worker.port,
            survived,
            answers_health,
            watched_for,
        }
    }

    /// Why this is not what a worker without a watcher does, and the demo therefore shows nothing.
    pub fn problem(&self) -> Option<String> {
        let what = match (self.survived, self.answers_health) {
            (true, true) => return None,
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
    /// Judges what was seen.
    pub fn new(protected: Vec<Protected>, unprotected: Vec<Orphan>, limit: Duration) -> Self {
        let problems: Vec<String> = protected
            .iter()
            .filter_map(|worker| worker.problem(limit))
            .chain(unprotected.iter().filter_map(Orphan::problem))
            .collect();
        Self { protected, unprotected, ok: problems.is_empty(), problems }
    }
}

/// Writes a time as microseconds.
fn some_microseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    microseconds(&Some(*time), serializer)
}

/// Writes a time as microseconds, its absence as null.
fn microseconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)).serialize(serializer)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const LIMIT: Duration = Duration::from_secs(1);

    pub fn protected() -> Protected {
        Protected {
            kind: "cpp".to_owned(),
            pid: 4243,
            tier: Some("event".to_owned()),
            port: 40001,
            gone_after: Some(Duration::from_micros(840)),
            port_free_after: Some(Duration::from_micros(1320)),
            exit_status: Some(1),
        }
    }

    pub fn orphan() -> Orphan {
        Orphan {
            kind: "rust".to_owned(),
            pid: 4250,
            port: 40002,
            survived: true,
            answers_health: true,
            watched_for: LIMIT,
        }
    }

    fn problems(protected: Protected, orphan: Orphan) -> String {
        let report = Report::new(vec![protected], vec![orphan], LIMIT);
        assert_eq!(report.ok, report.problems.is_empty());
        report.problems.join("\n")
    }

    #[test]
    fn judges() {
        assert_eq!(problems(protected(), orphan()), "");
        let alive = Protected { gone_after: None, port_free_after: None, ..protected() };
        assert_eq!(problems(alive, orphan()), "worker cpp 4243 was alive 1s after its supervisor");
        let late = Protected { gone_after: Some(LIMIT * 2), ..protected() };
        assert!(problems(late, orphan()).contains("ended only 2s after"));
        let held = Protected { port_free_after: None, ..protected() };
        assert!(problems(held, orphan()).contains("port 40001 cannot be listened on"));
        let silent = Protected { tier: None, ..protected() };
        assert!(problems(silent, orphan()).contains("left no death line"));
        let crashed = Protected { exit_status: None, ..protected() };
        assert!(problems(crashed, orphan()).contains("exit status"));
        let dead = Orphan { survived: false, ..orphan() };
        assert!(problems(protected(), dead).contains("proves nothing"));
        let mute = Orphan { answers_health: false, ..orphan() };
        assert!(problems(protected(), mute).contains("does not answer Health"));
    }

    #[test]
    fn writes_json() {
        let report = Report::new(vec![protected()], vec![orphan()], LIMIT);
        assert_eq!(
            serde_json::to_value(&report).unwrap(),
            serde_json::json!({
                "protected": [{
                    "kind": "cpp", "pid": 4243, "tier": "event", "port": 40001,
                    "gone_after_us": 840, "port_free_after_us": 1320, "exit_status": 1,
                }],
                "unprotected": [{
                    "kind": "rust", "pid": 4250, "port": 40002, "survived": true,
                    "answers_health": true, "watched_for_us": 1_000_000,
                }],
                "ok": true,
                "problems": [],
            })
        );
    }
}

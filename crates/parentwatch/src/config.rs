//! The contract with the environment: the variables, and the warnings about bad values.

use std::ffi::OsStr;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::duration::{parse_duration, parse_duration_or_zero};
use crate::identity::Supervisor;

/// Switches the watcher off (`false`, `0`, `no` or `off`, in any ASCII case). Every other value leaves it on. On
/// Windows the watcher is off unless the value is `true`, `1`, `yes` or `on`.
pub const ENV_PARENT_WATCH: &str = "LOCALAI_BACKEND_PARENT_WATCH";
/// The polling interval, from 10 ms to 1 h, 2 s unless set. [`parse_duration`] has the grammar.
pub const ENV_PARENT_WATCH_INTERVAL: &str = "LOCALAI_BACKEND_PARENT_WATCH_INTERVAL";
/// `tree` (the default), `group` or `process`; see [`Scope`].
pub const ENV_PARENT_WATCH_SCOPE: &str = "LOCALAI_BACKEND_PARENT_WATCH_SCOPE";
/// The time that the worker, and then its helpers, have to exit once the supervisor has died; see
/// [`Options::grace`](crate::Options::grace). A duration like the interval, from 0 to 1 h.
pub const ENV_PARENT_WATCH_GRACE: &str = "LOCALAI_BACKEND_PARENT_WATCH_GRACE";
/// Names the supervisor. The process that starts the worker sets it; see [`Supervisor`].
pub const ENV_PARENT_PID: &str = "LOCALAI_BACKEND_PARENT_PID";

/// The polling interval if none is set.
pub(crate) const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);
/// The time for a hook, and for a worker whose wrapper has died, if no grace is set.
pub(crate) const DEFAULT_GRACE: Duration = Duration::from_secs(5);
/// Below this, polling is too much load. LocalAI's own default is 2 s.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// Above this, polling protects nothing.
pub(crate) const MAX_INTERVAL: Duration = Duration::from_secs(3600);
pub(crate) const MAX_GRACE: Duration = Duration::from_secs(3600);

/// What ends when the supervisor dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "doctor", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[repr(i32)]
pub enum Scope {
    /// The worker and its process group, if the worker leads that group (LocalAI starts every worker so), or if the
    /// group's leader is proven to be a process between the supervisor and the worker. On Windows, which has no process
    /// groups, the worker alone.
    Group = 1,
    /// The worker alone.
    Process = 2,
    /// As [`Scope::Group`], and all descendants of the worker, in any process group or session. Only on Linux and
    /// Windows; elsewhere it is [`Scope::Group`].
    #[default]
    Tree = 3,
}

impl Scope {
    const ALL: [Scope; 3] = [Scope::Tree, Scope::Group, Scope::Process];

    /// Its one word: `tree`, `group` or `process`.
    pub fn word(&self) -> &'static str {
        match self {
            Scope::Tree => "tree",
            Scope::Group => "group",
            Scope::Process => "process",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The text is no scope: expected `tree`, `group` or `process`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseScopeError;

impl fmt::Display for ParseScopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {EXPECTED_SCOPE}")
    }
}

impl std::error::Error for ParseScopeError {}

impl FromStr for Scope {
    type Err = ParseScopeError;

    /// Reads the word in any ASCII case; white space around it is ignored.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let word = text.trim();
        let named = |scope: &Scope| word.eq_ignore_ascii_case(scope.word());
        Scope::ALL.into_iter().find(named).ok_or(ParseScopeError)
    }
}

/// The settings in the environment. Reading them prints nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether the watcher may start.
    pub enabled: bool,
    /// The polling interval, from 10 ms to 1 h.
    pub interval: Duration,
    /// What ends with the supervisor.
    pub scope: Scope,
    /// The time that the worker and its helpers have to exit, at most 1 h; `None` if it is not set.
    pub grace: Option<Duration>,
    /// The named supervisor. Nothing is proven about it yet.
    pub supervisor: Option<Supervisor>,
}

/// A value that is invalid or was clamped. Displayed, it is one line for the operator, without the line feed.
///
/// ```text
/// LOCALAI_BACKEND_PARENT_WATCH_SCOPE=all: expected "tree", "group" or "process"; using tree
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The environment variable.
    pub variable: &'static str,
    /// Its value: trimmed, escaped to printable ASCII and shortened.
    pub value: String,
    /// What values are valid.
    pub expected: &'static str,
    /// What is used instead.
    pub used: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Warning { variable, value, expected, used } = self;
        write!(f, "{variable}={value}: expected {expected}; using {used}")
    }
}

const EXPECTED_INTERVAL: &str = "a duration such as 500ms, 2s or 1m30s, from 10ms to 1h";
const EXPECTED_SCOPE: &str = "\"tree\", \"group\" or \"process\"";
const EXPECTED_GRACE: &str = "a duration such as 500ms, 2s or 1m30s, at most 1h";
const EXPECTED_SUPERVISOR: &str = "PID or PID@STARTTIME@PIDNS, in decimal digits";

impl Config {
    /// Reads the environment of this process. It prints nothing and never fails: an invalid value is replaced by its
    /// default.
    ///
    /// Another thread must not change the environment meanwhile (setenv(3) is not thread-safe).
    pub fn from_env() -> Config {
        Config::from_lookup(std::env::var_os).0
    }

    /// Reads the variables from any source, and returns the warnings that arming would print. `lookup` is called at
    /// most once for each variable.
    pub fn from_lookup<V: AsRef<OsStr>>(
        lookup: impl Fn(&'static str) -> Option<V>,
    ) -> (Config, Vec<Warning>) {
        Config::read(|name| Some(lookup(name)?.as_ref().as_encoded_bytes().to_vec()), cfg!(windows))
    }

    /// For `exec`, which needs no opt-in on Windows: the user asked for it.
    #[cfg(windows)]
    pub(crate) fn of_exec() -> (Config, Vec<Warning>) {
        Config::read(|name| Some(std::env::var_os(name)?.into_encoded_bytes()), false)
    }

    fn read(
        lookup: impl Fn(&'static str) -> Option<Vec<u8>>,
        opt_in: bool,
    ) -> (Config, Vec<Warning>) {
        let mut config = Config {
            enabled: enabled(Value::of(&lookup(ENV_PARENT_WATCH)), opt_in),
            interval: DEFAULT_INTERVAL,
            scope: Scope::default(),
            grace: None,
            supervisor: None,
        };
        let mut warnings = Vec::new();

        let raw = lookup(ENV_PARENT_WATCH_INTERVAL);
        if let Some(value) = Value::of(&raw) {
            let asked = value.text.and_then(parse_duration);
            config.interval =
                asked.map_or(DEFAULT_INTERVAL, |asked| asked.clamp(MIN_INTERVAL, MAX_INTERVAL));
            if asked != Some(config.interval) {
                warnings.push(Warning {
                    variable: ENV_PARENT_WATCH_INTERVAL,
                    value: value.escaped(),
                    expected: EXPECTED_INTERVAL,
                    used: humantime::format_duration(config.interval).to_string(),
                });
            }
        }

        let raw = lookup(ENV_PARENT_WATCH_SCOPE);
        if let Some(value) = Value::of(&raw) {
            match value.text.and_then(|text| text.parse().ok()) {
                Some(scope) => config.scope = scope,
                None => warnings.push(Warning {
                    variable: ENV_PARENT_WATCH_SCOPE,
                    value: value.escaped(),
                    expected: EXPECTED_SCOPE,
                    used: config.scope.to_string(),
                }),
            }
        }

        let raw = lookup(ENV_PARENT_WATCH_GRACE);
        if let Some(value) = Value::of(&raw) {
            let asked = value.text.and_then(parse_duration_or_zero);
            config.grace = asked.map(|asked| asked.min(MAX_GRACE));
            if asked.is_none() || asked != config.grace {
                warnings.push(Warning {
                    variable: ENV_PARENT_WATCH_GRACE,
                    value: value.escaped(),
                    expected: EXPECTED_GRACE,
                    used: match config.grace {
                        Some(grace) => humantime::format_duration(grace).to_string(),
                        None => "the default".to_owned(),
                    },
                });
            }
        }

        let raw = lookup(ENV_PARENT_PID);
        if let Some(value) = Value::of(&raw) {
            config.supervisor = value.text.and_then(|text| text.parse().ok());
            if config.supervisor.is_none() {
                warnings.push(Warning {
                    variable: ENV_PARENT_PID,
                    value: value.escaped(),
                    expected: EXPECTED_SUPERVISOR,
                    used: "the parent process".to_owned(),
                });
            }
        }

        // No warnings about a watcher that is switched off.
        if !config.enabled {
            warnings.clear();
        }
        (config, warnings)
    }
}

fn enabled(value: Option<Value<'_>>, opt_in: bool) -> bool {
    match (value, opt_in) {
        (None, opt_in) => !opt_in,
        (Some(value), false) => !value.is_any_of(&["false", "0", "no", "off"]),
        (Some(value), true) => value.is_any_of(&["true", "1", "yes", "on"]),
    }
}

/// A variable that is set to more than white space.
struct Value<'a> {
    bytes: &'a [u8],
    /// `None`: not UTF-8, so not valid.
    text: Option<&'a str>,
}

impl<'a> Value<'a> {
    fn of(raw: &'a Option<Vec<u8>>) -> Option<Value<'a>> {
        let bytes = raw.as_deref()?;
        let text = std::str::from_utf8(bytes).ok().map(str::trim);
        let bytes = text.map_or(bytes, str::as_bytes);
        (!bytes.is_empty()).then_some(Value { bytes, text })
    }

    fn is_any_of(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.bytes.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// Safe for a terminal or a log: it cannot end the line or move the cursor.
    fn escaped(&self) -> String {
        escaped(self.bytes)
    }
}

/// Printable ASCII, at most 64 bytes of the value.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    const SHOWN: usize = 64;
    let shown = bytes.get(..SHOWN).unwrap_or(bytes).escape_ascii();
    let cut = if bytes.len() > SHOWN { "..." } else { "" };
    format!("{shown}{cut}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::HashMap;

    #[derive(Deserialize)]
    struct Table {
        default: Row,
        vectors: Vec<Row>,
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct Row {
        #[serde(default)]
        env: HashMap<String, String>,
        #[serde(default)]
        env_hex: HashMap<String, String>,
        enabled: Option<bool>,
        interval_ns: Option<u64>,
        scope: Option<String>,
        #[serde(default, with = "double_option")]
        grace_ns: Option<Option<u64>>,
        /// Absent and null differ: the outer `None` means "not checked".
        #[serde(default, with = "double_option")]
        supervisor: Option<Option<Named>>,
        warns: Option<usize>,
    }

    mod double_option {
        use serde::{Deserialize, Deserializer};
        pub fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
            d: D,
        ) -> Result<Option<Option<T>>, D::Error> {
            Option::<T>::deserialize(d).map(Some)
        }
    }

    #[derive(Deserialize, Debug)]
    struct Named {
        pid: i32,
        start: Option<u64>,
        pidns: Option<u64>,
    }

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
            .collect()
    }

    fn table() -> Table {
        serde_json::from_str(include_str!("../tests/contract-vectors.json")).unwrap()
    }

    #[test]
    fn agrees_with_the_contract_vectors() {
        let table = table();
        assert!(table.vectors.len() >= 182, "the table was cut: {} rows", table.vectors.len());
        for (number, row) in table.vectors.iter().enumerate() {
            let mut variables: HashMap<String, Vec<u8>> =
                row.env.iter().map(|(k, v)| (k.clone(), v.clone().into_bytes())).collect();
            variables.extend(row.env_hex.iter().map(|(k, v)| (k.clone(), unhex(v))));
            let (config, warnings) = Config::read(|name| variables.get(name).cloned(), false);
            let at = format!("vector {number}: {row:?} gave {config:?} {warnings:?}");
            if let Some(enabled) = row.enabled {
                assert_eq!(config.enabled, enabled, "{at}");
            }
            if let Some(nanos) = row.interval_ns {
                assert_eq!(config.interval, Duration::from_nanos(nanos), "{at}");
            }
            if let Some(scope) = &row.scope {
                assert_eq!(&config.scope.to_string(), scope, "{at}");
            }
            if let Some(nanos) = row.grace_ns {
                assert_eq!(config.grace, nanos.map(Duration::from_nanos), "{at}");
            }
            if let Some(named) = &row.supervisor {
                let expected = named.as_ref().map(|n| (n.pid, n.start.zip(n.pidns)));
                let found =
                    config.supervisor.map(|s| (s.pid(), s.start_time().zip(s.pid_namespace())));
                assert_eq!(found, expected, "{at}");
            }
            if let Some(warns) = row.warns {
                assert_eq!(warnings.len(), warns, "{at}");
            }
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_table() {
        let default = table().default;
        let (config, _) = Config::read(|_| None, false);
        assert_eq!(Some(config.enabled), default.enabled);
        assert_eq!(config.interval.as_nanos(), u128::from(default.interval_ns.unwrap()));
        assert_eq!(Some(config.scope.to_string()), default.scope);
        assert_eq!((config.grace, default.grace_ns), (None, Some(None)));
    }

    #[test]
    fn only_a_long_value_is_shortened() {
        let shown = "x".repeat(64);
        assert_eq!(escaped(shown.as_bytes()), shown);
        assert_eq!(escaped("x".repeat(65).as_bytes()), format!("{shown}..."));
    }

    #[test]
    fn a_scope_is_read_as_it_is_written() {
        for scope in Scope::ALL {
            assert_eq!(scope.to_string().parse(), Ok(scope));
            assert_eq!(format!(" {}\n", scope.word().to_uppercase()).parse(), Ok(scope));
        }
        for text in ["", "forest", "groups", "gro up", "1"] {
            assert_eq!(text.parse::<Scope>(), Err(ParseScopeError), "{text:?}");
        }
        assert_eq!(ParseScopeError.to_string(), "expected \"tree\", \"group\" or \"process\"");
    }

    #[test]
    fn on_windows_the_watcher_is_opt_in() {
        for (value, expected) in [
            (None, false),
            (Some(""), false),
            (Some("maybe"), false),
            (Some("0"), false),
            (Some("true"), true),
            (Some(" YES "), true),
            (Some("1"), true),
            (Some("On"), true),
        ] {
            let (config, _) = Config::read(
                |name| (name == ENV_PARENT_WATCH).then(|| value.map(|v| v.as_bytes().to_vec()))?,
                true,
            );
            assert_eq!(config.enabled, expected, "{value:?}");
        }
    }

    #[test]
    fn a_warning_is_one_printable_line() {
        let value = b"tr\xffee\n\x1b[31m\xe2\x80\xa8".repeat(20);
        let (_, warnings) =
            Config::read(|name| (name == ENV_PARENT_WATCH_SCOPE).then(|| value.clone()), false);
        let text = warnings.first().unwrap().to_string();
        assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)), "{text:?}");
        assert!(text.starts_with("LOCALAI_BACKEND_PARENT_WATCH_SCOPE=tr\\xffee\\n"), "{text}");
        assert!(
            text.ends_with("...: expected \"tree\", \"group\" or \"process\"; using tree"),
            "{text}"
        );
    }

    #[test]
    fn a_clamped_interval_is_readable() {
        let (_, warnings) = Config::read(
            |name| (name == ENV_PARENT_WATCH_INTERVAL).then(|| b" 2h ".to_vec()),
            false,
        );
        assert_eq!(
            warnings.first().unwrap().to_string(),
            "LOCALAI_BACKEND_PARENT_WATCH_INTERVAL=2h: expected a duration such as 500ms, 2s or \
             1m30s, from 10ms to 1h; using 1h"
        );
    }
}

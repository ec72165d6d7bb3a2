//! Explains the environment variables.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use super::Variable;
#[cfg(target_os = "linux")]
use super::processes::{Named, named};
#[cfg(windows)]
use super::windows::{Named, named};
use crate::config::{
    Config, ENV_PARENT_PID, ENV_PARENT_WATCH, ENV_PARENT_WATCH_GRACE, ENV_PARENT_WATCH_INTERVAL,
    ENV_PARENT_WATCH_SCOPE, Scope, escaped,
};

pub(super) fn explain<V: AsRef<OsStr>>(
    lookup: impl Fn(&'static str) -> Option<V>,
) -> Vec<Variable> {
    let lookup = |name| lookup(name).map(|value| OsString::from(value.as_ref()));
    let enabled = Config::from_lookup(lookup).0.enabled;
    // A watcher that is off gives no warnings. The report shows them all.
    let as_if_on = |name| match name {
        ENV_PARENT_WATCH => Some(OsString::from("on")),
        name => lookup(name),
    };
    let (config, warnings) = Config::from_lookup(as_if_on);
    let variable = |name: &'static str, meaning: String| {
        let value = lookup(name).map(|value| escaped(value.as_encoded_bytes()));
        let warning = warnings.iter().find(|warning| warning.variable == name);
        let problem =
            warning.map(|warning| format!("expected {}; using {}", warning.expected, warning.used));
        Variable { name, value, meaning, problem }
    };
    vec![
        variable(
            ENV_PARENT_WATCH,
            match enabled {
                true => "on; false, 0, no and off switch it off".to_owned(),
                false if cfg!(windows) => "off; true, 1, yes and on switch it on".to_owned(),
                false => "off: workers outlive their supervisor".to_owned(),
            },
        ),
        variable(ENV_PARENT_PID, supervisor(&config)),
        variable(
            ENV_PARENT_WATCH_SCOPE,
            match config.scope {
                Scope::Tree if cfg!(windows) => "the worker ends with all its descendants",
                Scope::Group if cfg!(windows) => {
                    "only the worker ends: there are no process groups"
                }
                Scope::Tree => "the worker ends with its process group and all its descendants",
                Scope::Group => "the worker ends with the process group that it leads",
                Scope::Process => "only the worker ends",
            }
            .to_owned(),
        ),
        variable(ENV_PARENT_WATCH_GRACE, grace(config.grace)),
        variable(
            ENV_PARENT_WATCH_INTERVAL,
            format!("the poll tier polls every {}", humantime::format_duration(config.interval)),
        ),
    ]
}

fn grace(grace: Option<Duration>) -> String {
    match grace {
        None if cfg!(windows) => "a hook has 5s".to_owned(),
        Some(Duration::ZERO) if cfg!(windows) => "a hook does not run".to_owned(),
        Some(grace) if cfg!(windows) => {
            format!("a hook has {}", humantime::format_duration(grace))
        }
        None => "a hook has 5s, helpers have 1s to exit".to_owned(),
        Some(Duration::ZERO) => "no process has time to exit".to_owned(),
        Some(grace) => format!(
            "the worker, and then its helpers, have {} to exit",
            humantime::format_duration(grace)
        ),
    }
}

fn supervisor(config: &Config) -> String {
    let Some(supervisor) = config.supervisor else {
        return "the supervisor is the parent process".to_owned();
    };
    let pid = supervisor.pid();
    match named(supervisor, None) {
        Named::Alive => format!("the supervisor is process {pid}, which is alive"),
        Named::Gone => {
            format!("process {pid} is dead: a process that is started here is an orphan")
        }
        Named::Unknown(why) => {
            format!("process {pid}, whose state is unknown: {why}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_value_is_explained_even_when_the_watcher_is_off() {
        let values = |name| match name {
            ENV_PARENT_WATCH => Some("off"),
            ENV_PARENT_WATCH_SCOPE => Some("all"),
            ENV_PARENT_WATCH_GRACE => Some("0"),
            _ => None,
        };
        let explained = explain(values);
        let of = |name| explained.iter().find(|variable| variable.name == name).unwrap();
        assert!(of(ENV_PARENT_WATCH).meaning.starts_with("off"));
        let scope = of(ENV_PARENT_WATCH_SCOPE);
        assert_eq!(scope.value.as_deref(), Some("all"));
        assert_eq!(
            scope.problem.as_deref(),
            Some("expected \"tree\", \"group\" or \"process\"; using tree")
        );
        let grace = of(ENV_PARENT_WATCH_GRACE);
        assert_eq!(
            (grace.problem.as_deref(), &*grace.meaning),
            (
                None,
                if cfg!(windows) { "a hook does not run" } else { "no process has time to exit" }
            )
        );
        assert_eq!(explained.len(), 5);
    }
}

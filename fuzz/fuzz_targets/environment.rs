//! Passes arbitrary bytes in each variable. The settings must be within their limits, and each warning must be one
//! printable line.

#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use parentwatch::{
    Config, ENV_PARENT_PID, ENV_PARENT_WATCH, ENV_PARENT_WATCH_INTERVAL, ENV_PARENT_WATCH_SCOPE,
    Supervisor,
};

const VARIABLES: [&str; 4] =
    [ENV_PARENT_WATCH, ENV_PARENT_WATCH_INTERVAL, ENV_PARENT_WATCH_SCOPE, ENV_PARENT_PID];

fuzz_target!(|values: [Option<&[u8]>; 4]| {
    let lookup = |name: &'static str| {
        let index = VARIABLES.iter().position(|variable| *variable == name)?;
        values[index].map(OsStr::from_bytes)
    };
    let (config, warnings) = Config::from_lookup(lookup);
    let limits = Duration::from_millis(10)..=Duration::from_secs(3600);
    assert!(limits.contains(&config.interval), "{config:?}");
    assert!(warnings.len() <= 3 && (config.enabled || warnings.is_empty()), "{warnings:?}");
    for warning in &warnings {
        let line = warning.to_string();
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
        assert!(line.len() < 512, "{line:?}");
        assert!(
            values[VARIABLES.iter().position(|name| *name == warning.variable).unwrap()].is_some()
        );
    }
    if let Some(supervisor) = config.supervisor {
        assert!(supervisor.pid() > 0);
        let read: Supervisor = supervisor.to_string().parse().unwrap();
        assert_eq!(read, supervisor);
    }
    assert_eq!(Config::from_lookup(lookup).0, config, "the same input gives the same settings");
});

//! `localai-parentwatch exec`: the core's `Exec`, with the options of the command line.

use std::ffi::{CStr, CString, OsString};

use parentwatch::Options;

use crate::cli::Exec;
use crate::say;

/// Executes the program. Returns the exit status if that fails.
pub fn run(asked: Exec) -> u8 {
    let mut options = Options::new();
    if let Some(grace) = asked.grace {
        options = options.grace(grace);
    }
    if let Some(scope) = asked.scope {
        options = options.scope(scope);
    }
    if let Some(parent) = asked.parent {
        options = options.parent(parent);
    }
    // Arguments have no NUL: they came as C strings.
    let c_string = |argument: OsString| CString::new(argument.into_encoded_bytes()).ok();
    let command: Vec<CString> = asked.command.into_iter().filter_map(c_string).collect();
    let command: Vec<&CStr> = command.iter().map(CString::as_c_str).collect();
    let exec = parentwatch::Exec::new(options).cgroup(asked.cgroup).verbose(asked.verbose);
    let error = exec.run(&command, None);
    let name = command.first().map(|name| name.to_string_lossy()).unwrap_or_default();
    say(format_args!("{name}: {error}"));
    error.exit_status()
}

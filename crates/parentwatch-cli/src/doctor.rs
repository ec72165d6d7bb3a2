//! `localai-parentwatch doctor`: prints what the core finds.

use std::io::Write;

use crate::cli::Doctor;
use crate::say;

/// Returns the exit status.
pub fn run(asked: &Doctor) -> u8 {
    let outcome = match parentwatch::doctor::run(std::env::var_os, asked.json, &asked.end) {
        Ok((text, status)) => {
            // Colour only on a terminal, as clap does; NO_COLOR is respected.
            let written = anstream::stdout().write_all(text.as_bytes());
            written.map(|()| status).map_err(|error| format!("doctor: {error}"))
        }
        Err(line) => Err(line),
    };
    outcome.unwrap_or_else(|line| {
        say(format_args!("{line}"));
        2
    })
}

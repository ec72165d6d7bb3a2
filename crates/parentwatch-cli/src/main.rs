//! `localai-parentwatch`: what the library does, seen from a shell.
//!
//! `localai-parentwatch demo` kills a supervisor of real gRPC workers and shows what they do.

#![forbid(unsafe_code)]

mod demo;
mod signals;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Workers that end with their supervisor.
#[derive(Debug, Parser)]
#[command(name = "localai-parentwatch", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Options),
}

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    let outcome = match command {
        Command::Demo(options) => demo::run(&options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let interrupted = error.downcast_ref::<signals::Interrupted>();
            // Nothing is left to be done when even this cannot be written.
            let _ = match interrupted {
                // What it was doing at that moment is of no interest.
                Some(interrupted) => writeln!(io::stderr(), "localai-parentwatch: {interrupted}"),
                None => writeln!(io::stderr(), "localai-parentwatch: {error:#}"),
            };
            interrupted
                .map_or(ExitCode::FAILURE, |interrupted| ExitCode::from(interrupted.exit_status()))
        }
    }
}

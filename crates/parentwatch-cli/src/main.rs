//! `localai-parentwatch`: the library for the shell.

#![cfg_attr(all(not(test), unix), no_main)]
#![deny(unsafe_code)]

mod cli;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
#[cfg(all(not(test), unix))]
mod entry;
mod exec;
#[cfg(feature = "pages")]
mod pages;
#[cfg(feature = "demo")]
mod signals;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use cli::{Cli, Command};

#[cfg(all(not(test), not(unix)))]
fn main() -> std::process::ExitCode {
    run(std::env::args_os()).into()
}

/// Returns the exit status.
pub fn run(arguments: impl Iterator<Item = OsString>) -> u8 {
    let arguments: Vec<OsString> = arguments.collect();
    let command = match Cli::try_parse_from(&arguments) {
        Ok(Cli { command }) => command,
        Err(error) => return mistaken(&error, arguments.get(1)),
    };
    match command {
        Command::Exec(asked) => exec::run(asked),
        Command::Doctor(asked) => doctor::run(&asked),
        #[cfg(feature = "demo")]
        Command::Demo(options) => demo::main(&options),
        #[cfg(feature = "pages")]
        Command::Generate { folder } => pages::run(&folder),
    }
}

/// Prints one line to stderr. An error is ignored: there is no other place to report it.
fn say(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "localai-parentwatch: {text}");
}

/// Prints help and version as clap has them, and a usage error in one line.
fn mistaken(error: &clap::Error, asked: Option<&OsString>) -> u8 {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return u8::try_from(error.exit_code()).unwrap_or(2);
    }
    let text = error.to_string();
    let what = text.split("\n\n").next().unwrap_or_default();
    let what = what.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let mut program = Cli::command();
    program.build();
    let usage = match asked.and_then(|name| program.find_subcommand_mut(name)) {
        Some(command) => command.render_usage(),
        None => program.render_usage(),
    };
    let usage = usage.to_string().replacen("Usage:", "usage:", 1);
    say(format_args!("{}; {usage}", what.strip_prefix("error: ").unwrap_or(&what)));
    2
}

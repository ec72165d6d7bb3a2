//! `localai-parentwatch`: what the library does, for the shell.

#![cfg_attr(not(test), no_main)]
#![deny(unsafe_code)]

mod cli;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
#[cfg(not(test))]
mod entry;
mod exec;
#[cfg(feature = "pages")]
mod pages;
#[cfg(feature = "demo")]
mod signals;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};

use clap::Parser;
use clap::error::ErrorKind;

use cli::{Cli, Command};

/// The exit status.
pub fn run(arguments: impl Iterator<Item = OsString>) -> u8 {
    let command = match Cli::try_parse_from(arguments) {
        Ok(Cli { command }) => command,
        Err(error) => return mistaken(&error),
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

/// One line on stderr. Nothing is left to be done when even this cannot be written.
fn say(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "localai-parentwatch: {text}");
}

/// Help and version as they come; a mistake in one line, with the usage.
fn mistaken(error: &clap::Error) -> u8 {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return u8::try_from(error.exit_code()).unwrap_or(2);
    }
    let text = error.to_string();
    let mut paragraphs = text.split("\n\n").map(|part| {
        part.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
    });
    let what = paragraphs.next().unwrap_or_default();
    let what = what.strip_prefix("error: ").unwrap_or(&what);
    let usage = paragraphs
        .find(|part| part.starts_with("Usage:"))
        .unwrap_or_else(|| "see localai-parentwatch --help".to_owned());
    say(format_args!("{what}; {}", usage.replacen("Usage:", "usage:", 1)));
    2
}

//! `localai-parentwatch generate`: writes the man pages and shell completions from the definition of the command line.
//! The results are in `pages/`.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::say;

/// Writes them into the folder. Returns the exit status.
pub fn run(folder: &Path) -> u8 {
    match write(folder) {
        Ok(()) => 0,
        Err(error) => {
            say(format_args!("{}: {error}", folder.display()));
            1
        }
    }
}

fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Cli::command(), folder)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "localai-parentwatch", folder)?;
    }
    Ok(())
}

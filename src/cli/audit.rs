//! `moat audit`: verifies the log, and shows what is in it.
pub(in crate::cli) mod show;
mod verify;

#[cfg(test)]
mod tests;

use anyhow::Result;
use std::io;
use std::process::ExitCode;

/// `moat audit …`
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Check that no entry was changed, removed, added or moved
    ///
    /// Follows the hash chain through all segments and checks every signed head. Exit code 0 when all is as it was
    /// written, 1 with the first entry that is not. A running gateway is not disturbed.
    Verify(verify::Args),
    /// Print entries, one line each
    Show(show::Args),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Runs one of them.
pub fn run(command: Command) -> Result<ExitCode> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match command {
        Command::Verify(args) => verify::run(&args, &mut out),
        Command::Show(args) => show::run(&args, &mut out),
    }
}

//! `moat upgrade`: have the running gateway replaced by the program that is installed now.
use crate::cli::check;
use crate::config::Purpose;
use crate::serve::handover;
use anyhow::{Context, Result};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// `moat upgrade`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration of the running gateway
    #[arg(long, short, value_name = "FILE", default_value = "gateway.yaml", env = "MOAT_CONFIG")]
    config: PathBuf,
}

/// Runs `moat upgrade`. The bundle is compiled here first, by what is most likely the new program: problems are shown
/// where they were asked for, and the running gateway is left alone.
pub fn run(args: Args) -> Result<ExitCode> {
    let loaded = match check::load(&args.config, Purpose::Check) {
        Ok(loaded) => loaded,
        Err(problems) => return check::report(&problems, check::Format::Text),
    };
    let pid = handover::ask_for_upgrade(&loaded.snapshot.server.state_dir).context("not upgraded")?;
    writeln!(std::io::stdout().lock(), "process {pid} serves now; the one before drains")?;
    Ok(ExitCode::SUCCESS)
}

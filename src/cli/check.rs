//! `moat check`: every problem of a bundle at once, and the policy tests.
use crate::cli::EXIT_PROBLEM;
use crate::config::problem::Problems;
use crate::config::settings::{Snapshot, Tls};
use crate::config::units::Size;
use crate::config::{Complaint, Loaded, Purpose, World, process_env};
use crate::serve::certificates::CertStore;
use crate::serve::memory;
use anyhow::Result;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// `moat check`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration
    #[arg(long, default_value = "gateway.yaml", env = "MOAT_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// How problems are printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Warns where the limits admit more memory than this, e.g. `512MiB`, instead of what the control group has
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<Size>,
}

fn size(text: &str) -> Result<Size, String> {
    Size::read(text).ok_or_else(|| "not a size; write `512MiB` or `2GiB`".to_owned())
}

/// How problems are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people: place, line, caret, hint
    Text,
    /// For programs: a list of objects
    Json,
}

/// Runs `moat check`.
pub fn run(args: Args) -> Result<ExitCode> {
    match load(&args.config, Purpose::Check) {
        Ok(loaded) => {
            let mut out = std::io::stdout().lock();
            match args.format {
                Format::Text => writeln!(out, "{}: ok   {}", args.config.display(), summary(&loaded))?,
                Format::Json => writeln!(out, "[]")?,
            }
            if let Some(doubt) =
                memory::doubt(&loaded.snapshot, args.memory.map(|size| size.0).or_else(memory::allowed))
            {
                writeln!(std::io::stderr().lock(), "warning: {doubt}")?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => report(&problems, args.format),
    }
}

/// Loads a bundle as the gateway itself would, certificates included.
pub fn load(config: &Path, purpose: Purpose) -> Result<Loaded, Problems> {
    Snapshot::load(config, &World { env: &process_env, certificates: &certificates, purpose })
}

/// Prints problems where they belong and gives the exit code for them.
pub fn report(problems: &Problems, format: Format) -> Result<ExitCode> {
    match format {
        Format::Text => write!(std::io::stderr().lock(), "{}", problems.text())?,
        Format::Json => writeln!(std::io::stdout().lock(), "{}", problems.json())?,
    }
    Ok(ExitCode::from(EXIT_PROBLEM))
}

/// Tries the certificates of a folder out, as the listener would.
pub fn certificates(tls: &Tls) -> Result<(), Vec<Complaint>> {
    match CertStore::load(&tls.certificates, tls.default_certificate.as_deref()) {
        Ok(_) => Ok(()),
        Err(problems) => Err(problems
            .into_iter()
            .map(|p| Complaint { message: format!("`{}`: {}", p.file.display(), p.message), hint: p.hint })
            .collect()),
    }
}

fn summary(loaded: &Loaded) -> String {
    let rules = &loaded.snapshot.rules;
    let count = |n: usize, one: &str, many: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {many}") };
    let parts = [
        count(rules.routes.len(), "route", "routes"),
        count(rules.tenants.len(), "tenant", "tenants"),
        format!("{} passed", count(loaded.tests, "policy test", "policy tests")),
    ];
    parts.join(", ")
}

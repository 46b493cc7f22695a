//! `moat config`: the configuration in force, its schema and its reference.
use crate::cli::check::{self, Format};
use crate::config::{Purpose, reference, show};
use anyhow::{Context, Result, anyhow};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// `moat config …`
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print the configuration in force: defaults filled in, variables replaced
    Show(Show),
    /// Print the JSON schema of gateway.yaml, for editors
    Schema,
    /// Write the reference of all keys and codes
    #[command(hide = true)]
    Reference(Reference),
}

/// `moat config show`
#[derive(Debug, clap::Args)]
pub struct Show {
    /// The configuration
    #[arg(long, short, default_value = "gateway.yaml", env = "MOAT_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Say after each value where it comes from
    #[arg(long)]
    origin: bool,
}

/// `moat config reference`
#[derive(Debug, clap::Args)]
pub struct Reference {
    /// Folder to write to
    dir: PathBuf,
}

/// Runs `moat config …`.
pub fn run(command: Command) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match command {
        Command::Show(args) => match check::load(&args.config, Purpose::Check) {
            Ok(loaded) => write!(out, "{}", show::show(&loaded, args.origin).map_err(|e| anyhow!(e))?)?,
            Err(problems) => return check::report(&problems, Format::Text),
        },
        Command::Schema => writeln!(out, "{:#}", reference::schema())?,
        Command::Reference(args) => {
            std::fs::create_dir_all(&args.dir)?;
            for (name, text) in [("gateway.md", reference::gateway()), ("codes.md", reference::codes())] {
                let path = args.dir.join(name);
                std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

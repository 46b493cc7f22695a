//! `moat factors`: how the second factor of a user stands, and takes it away.
use crate::cli::desk::EXIT_ABSENT;
use crate::cli::sessions::User;
use crate::serve::admin::factors::{Demand, Standing};
use anyhow::{Context, Result};
use std::io::Write;
use std::process::ExitCode;

const AFTER_HELP: &str = "\
Exit codes:
  0  done: durable, and in force at all replicas within 5 seconds
  1  failed, or there was none; the reason is on stderr
  4  no gateway answers there";

/// `moat factors`
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Say whether a user has an authenticator app, and how many recovery codes are left
    Show(User),
    /// Take the authenticator app of a user away, with its recovery codes
    ///
    /// For users who lost both. Sessions that a code has made stronger are as strong as the sign-in left them. The user sets
    /// up another app after the next sign-in: so can whoever has their password, hence make sure who asks.
    #[command(after_help = AFTER_HELP)]
    Remove(Remove),
}

/// `moat factors remove`
#[derive(Debug, clap::Args)]
pub struct Remove {
    #[command(flatten)]
    user: User,
    /// Who gives the order, for the audit log
    #[arg(long, env = "USER", value_name = "NAME")]
    actor: Option<String>,
}

/// Runs it.
pub fn run(command: Command) -> Result<ExitCode> {
    let (user, remove, actor) = match command {
        Command::Show(user) => (user, false, None),
        Command::Remove(Remove { user, actor }) => (user, true, actor),
    };
    let demand = serde_json::to_string(&Demand { whose: user.whose(), remove, actor })?;
    let Some(body) = user.desk.ask("/factors", &demand)? else {
        return Ok(ExitCode::from(EXIT_ABSENT));
    };
    let standing: Standing = serde_json::from_str(&body).context("the gateway answers in another version's words")?;
    let mut out = std::io::stdout().lock();
    if user.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&standing)?)?;
    } else if !remove {
        writeln!(out, "{}, {} recovery codes left", standing.factor, standing.recovery_codes_left)?;
    } else if standing.removed {
        writeln!(out, "removed; {} sessions lost what it had added", standing.weakened)?;
    }
    if remove && !standing.removed {
        eprintln!("error: this user has no second factor here\n  hint: tenant and issuer count: `moat factors show`");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

//! `moat health`: asks the admin listener of a running gateway, for supervisors that can only run a command.
use crate::cli::desk;
use anyhow::{Result, anyhow, bail};
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// More than an answer of the admin listener ever has.
const MOST_BYTES: usize = 64 << 10;

/// `moat health`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whether it can serve now, not only whether it is alive
    ///
    /// While connections drain it is alive and not ready.
    #[arg(long)]
    ready: bool,
    /// The admin listener
    #[arg(long, default_value = "127.0.0.1:9901", env = "MOAT_ADMIN", value_name = "ADDRESS")]
    admin: SocketAddr,
    /// Path to ask for, where `admin.health` names another than `/livez` or `/readyz`
    #[arg(long, value_name = "PATH", value_parser = path)]
    path: Option<String>,
    /// Seconds for the whole answer
    #[arg(long, default_value_t = 3, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=300))]
    timeout: u64,
}

/// Runs `moat health`. What is wrong goes to stderr; the exit code is 1.
pub fn run(args: Args) -> Result<ExitCode> {
    let path = args.path.as_deref().unwrap_or(if args.ready { "/readyz" } else { "/livez" });
    let until = Instant::now() + Duration::from_secs(args.timeout);
    // As text only: a connection that breaks is a failure here, whatever it is on the way to a terminal.
    let answer = desk::get(args.admin, path, until, MOST_BYTES)
        .map_err(|error| anyhow!("http://{}{path}: {error:#}", args.admin));
    let (status, body) = answer?;
    if status == 200 {
        write!(std::io::stdout().lock(), "{body}")?;
        return Ok(ExitCode::SUCCESS);
    }
    bail!("http://{}{path}: answered {status}: {}", args.admin, body.trim_end());
}

/// A path that can stand in a request line as it is.
fn path(text: &str) -> Result<String, String> {
    let plain = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic());
    plain.then(|| text.to_owned()).ok_or_else(|| "not a path: it begins with `/` and has no spaces".to_owned())
}

//! `moat health`: asks the admin listener of a running gateway, for supervisors that can only run a command.
use anyhow::{Context, Result, anyhow, bail};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
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
    let answer = ask(args.admin, path, until).map_err(|error| anyhow!("http://{}{path}: {error:#}", args.admin));
    let (status, body) = answer?;
    if status == 200 {
        write!(std::io::stdout().lock(), "{body}")?;
        return Ok(ExitCode::SUCCESS);
    }
    bail!("http://{}{path}: answered {status}: {}", args.admin, body.trim_end());
}

/// One request on a connection of its own; status and body of the answer.
fn ask(address: SocketAddr, path: &str, until: Instant) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, left(until)?)?;
    stream.set_write_timeout(Some(left(until)?))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(&mut part)? {
            0 => break,
            read => answer.extend_from_slice(part.get(..read).unwrap_or_default()),
        }
        if answer.len() > MOST_BYTES {
            bail!("this is not the admin listener: its answer does not end");
        }
    }
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").context("this is not the admin listener: no HTTP answer")?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    Ok((status.context("this is not the admin listener: no HTTP answer")?, body.to_owned()))
}

/// Time that is left, never zero: the system takes zero for "no limit".
fn left(until: Instant) -> Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { bail!("no answer in time") } else { Ok(left) }
}

/// A path that can stand in a request line as it is.
fn path(text: &str) -> Result<String, String> {
    let plain = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic());
    plain.then(|| text.to_owned()).ok_or_else(|| "not a path: it begins with `/` and has no spaces".to_owned())
}

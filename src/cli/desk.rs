//! Asks the admin listener of a running gateway: one request on a connection of its own.
use anyhow::{Context, Result, bail};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// No gateway answers at the address.
pub(super) const EXIT_ABSENT: u8 = 4;
/// More than an answer to an order ever has; a list of 100,000 API keys has less.
const MOST_BYTES: usize = 64 << 20;

/// Which gateway is asked, and how long it has.
#[derive(Debug, clap::Args)]
pub(super) struct Desk {
    /// The admin listener
    #[arg(long, default_value = "127.0.0.1:9901", env = "MOAT_ADMIN", value_name = "ADDRESS")]
    admin: SocketAddr,
    /// Seconds for the whole answer
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

impl Desk {
    /// The answer to an order; `None` where nobody is there, which has been said.
    pub(super) fn ask(&self, path: &str, body: &str) -> Result<Option<String>> {
        let Desk { admin, timeout } = self;
        let timeout = Duration::from_secs(*timeout);
        let until = Instant::now() + timeout;
        let stream = match TcpStream::connect_timeout(admin, timeout) {
            Ok(stream) => stream,
            Err(error) => {
                eprintln!(
                    "error: no gateway answers at {admin}: {error}\n  hint: name its admin listener with `--admin`"
                );
                return Ok(None);
            }
        };
        let answer = order_with(stream, path, body, until, MOST_BYTES);
        let (status, body) = answer.with_context(|| format!("http://{admin}{path}"))?;
        if status == 200 {
            return Ok(Some(body));
        }
        let problem: Option<serde_json::Value> = serde_json::from_str(&body).ok();
        match problem.as_ref().and_then(|problem| problem.get("detail")?.as_str()) {
            Some(detail) => bail!("{detail}"),
            None => bail!("http://{admin}{path} answered {status}"),
        }
    }
}

/// Sends GET; status and body of the answer, which may have `most_bytes` in all.
pub(super) fn get(address: SocketAddr, path: &str, until: Instant, most_bytes: usize) -> Result<(u16, String)> {
    let stream = TcpStream::connect_timeout(&address, left(until)?)?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    exchange(stream, &head, until, most_bytes)
}

/// Sends POST with the header that says that no web page did, on a connection that was made before.
pub(super) fn order(stream: TcpStream, path: &str, until: Instant, most_bytes: usize) -> Result<(u16, String)> {
    let address = stream.peer_addr()?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nx-moat-admin: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    exchange(stream, &head, until, most_bytes)
}

/// The same with a body of JSON.
fn order_with(stream: TcpStream, path: &str, body: &str, until: Instant, most_bytes: usize) -> Result<(u16, String)> {
    let (address, length) = (stream.peer_addr()?, body.len());
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nx-moat-admin: 1\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    exchange(stream, &head, until, most_bytes)
}

fn exchange(mut stream: TcpStream, head: &str, until: Instant, most_bytes: usize) -> Result<(u16, String)> {
    stream.set_write_timeout(Some(left(until)?))?;
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(part.get(..read).unwrap_or_default()),
            // The system's word for its time being over; `left` has ours.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if answer.len() > most_bytes {
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

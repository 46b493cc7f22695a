//! `moat status`: what the status page says, on one screen of a terminal.
use crate::cli::desk;
use crate::config::{glance, process_env};
use crate::serve::status::document::{Document, Finding, Severity, Upstream};
use crate::serve::status::words::{ago, counts, figure, quantile, span};
use crate::visible::visible;
use anyhow::{Context, Result, anyhow, bail};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// More than the document ever has.
const MOST_BYTES: usize = 16 << 20;
/// Rows of each table.
const ROWS: usize = 10;

/// `moat status`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The admin listener. Default: `admin.address` of the configuration
    #[arg(long, env = "MOAT_ADMIN", value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// The configuration; only the address is read, so it may have problems
    #[arg(long, short, value_name = "FILE", default_value = "gateway.yaml", env = "MOAT_CONFIG")]
    config: PathBuf,
    /// The document itself, as `/status.json` has it
    #[arg(long)]
    json: bool,
    /// Seconds for the whole answer
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=300))]
    timeout: u64,
}

/// Runs `moat status`. The exit code is 1 where something is wrong now, or where no gateway answers.
pub fn run(args: Args) -> Result<ExitCode> {
    let admin = match args.admin {
        Some(admin) => admin,
        None => {
            let hint = "name the admin listener with `--admin`";
            glance::glance(&args.config, &process_env).map_err(|message| anyhow!("{message}\nhint: {hint}"))?.admin
        }
    };
    let until = Instant::now() + Duration::from_secs(args.timeout);
    // As text only: a connection that breaks is a failure here, whatever it is on the way to a terminal.
    let answer = desk::get(admin, "/status.json", until, MOST_BYTES);
    let (status, body) = answer.map_err(|error| anyhow!("http://{admin}/status.json: {error:#}"))?;
    match status {
        200 => {}
        404 => bail!("http://{admin}/status.json: not there; is `admin.status_page` off?"),
        other => bail!("http://{admin}/status.json: answered {other}"),
    }
    let document: Document = serde_json::from_str(&body).context("the gateway's answer is not understood")?;
    let mut out = std::io::stdout().lock();
    match args.json {
        true => out.write_all(body.as_bytes())?,
        false => out.write_all(screen(&document).as_bytes())?,
    }
    Ok(if document.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The document on one screen. Names of hosts and paths come from strangers: they are made visible.
fn screen(document: &Document) -> String {
    let mut out = String::new();
    let (process, traffic) = (&document.gateway, &document.traffic);
    let verdict = if document.ok { "ok" } else { "PROBLEMS" };
    let _ = writeln!(out, "moat {}  {}  {verdict}", process.version, process.instance);
    let _ = writeln!(out, "up {}, configuration {}", span(process.uptime_s), short(&process.snapshot));
    for Finding { severity, id, what, advice } in &document.findings {
        let word = match severity {
            Severity::Problem => "PROBLEM",
            Severity::Warning => "warning",
        };
        let _ = writeln!(out, "\n{word} {id}\n  {what}\n  -> {advice}");
    }
    traffic_lines(&mut out, document);
    let rows = document.routes.shown.iter().take(ROWS).map(|route| {
        let of = |class: &str| route.classes.get(class).copied().unwrap_or_default().to_string();
        let (p50, p99) = (quantile(route.p50), quantile(route.p99));
        vec![route.name.clone(), figure(route.rate), p50, p99, of("4xx"), of("5xx"), counts(&route.refused)]
    });
    table(&mut out, &["route", "/s", "p50", "p99", "4xx", "5xx", "refused"], rows.collect());
    let endpoints = document.upstreams.shown.iter().take(ROWS).flat_map(|Upstream { name, endpoints, .. }| {
        endpoints.iter().map(|e| {
            let error = e.last_error.clone().unwrap_or_default();
            vec![name.clone(), e.address.clone(), e.state.clone(), e.in_flight.to_string(), error]
        })
    });
    table(&mut out, &["upstream", "endpoint", "state", "in flight", "last error"], endpoints.collect());
    let pairs = document.certificates.shown.iter().take(ROWS).map(|pair| {
        vec![pair.name.clone(), pair.state.clone(), pair.days_left.to_string(), pair.key.clone(), pair.names.join(" ")]
    });
    table(&mut out, &["certificate", "state", "days left", "key", "names"], pairs.collect());
    let refusals = document.refusals.iter().take(ROWS).map(|refusal| {
        let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let path = refusal.path.clone().unwrap_or_default();
        let request = format!("{} {}{path}", dash(&refusal.method), dash(&refusal.host));
        vec![refusal.at.clone(), refusal.status.to_string(), refusal.code.clone(), request, refusal.id.clone()]
    });
    table(&mut out, &["refused at", "", "code", "request", "id"], refusals.collect());
    if traffic.classes.is_empty() {
        out.push_str("\nno request in the last minute\n");
    }
    out.lines().fold(String::with_capacity(out.len()), |all, line| all + &visible(line) + "\n")
}

fn traffic_lines(out: &mut String, document: &Document) {
    let traffic = &document.traffic;
    let of = |class: &str| traffic.classes.get(class).copied().unwrap_or_default();
    let _ = writeln!(
        out,
        "\nlast {:.0} s: {} requests/s, p50 {}, p99 {}, 4xx {}, 5xx {}; under way {}, WebSockets {}",
        document.window_s,
        figure(traffic.rate),
        quantile(traffic.p50),
        quantile(traffic.p99),
        of("4xx"),
        of("5xx"),
        traffic.under_way,
        traffic.tunnels
    );
    for listener in &document.listeners {
        let (rejected, failed) = (counts(&listener.rejected), counts(&listener.handshakes_failed));
        let _ = writeln!(
            out,
            "listener {} {} {}: {} open, {} accepted, rejected {rejected}, handshakes failed {failed}",
            listener.name, listener.kind, listener.address, listener.open, listener.accepted
        );
    }
    for issuer in &document.issuers {
        let state = if issuer.usable { "usable" } else { "DARK" };
        let error = issuer.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        let age = issuer.age_s.map_or_else(|| "never".to_owned(), |age| format!("{age} s ago"));
        let _ = writeln!(out, "keys {} {state}, {} keys, obtained {age}{error}", issuer.name, issuer.keys);
    }
    let audit = &document.audit;
    let state = audit.failing_since.as_ref().map_or_else(|| "writing".to_owned(), |at| format!("FAILING since {at}"));
    let head = audit.last_head.as_deref().unwrap_or("none yet");
    let _ = writeln!(
        out,
        "audit {state}, entry {}, {} waiting, {} write errors, last signed head {head}",
        audit.last_seq, audit.backlog, audit.write_errors
    );
    if let Some(reload) = &document.reload {
        let when = ago(&document.at, &reload.at);
        let _ = writeln!(out, "configuration {} by {}, {when}", reload.outcome, reload.trigger);
        reload.text.lines().for_each(|line| out.extend(["  ", line, "\n"]));
    }
}

/// The first digits of a digest.
fn short(digest: &str) -> &str {
    digest.get(..16).unwrap_or(digest)
}

/// Columns as wide as their widest cell; nothing where there are no rows.
fn table(out: &mut String, heads: &[&str], rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(|row| row.iter().map(|cell| visible(cell)).collect()).collect();
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let width = |column: usize| {
        let cells = std::iter::once(&heads).chain(&rows).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    out.push('\n');
    for row in std::iter::once(&heads).chain(&rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

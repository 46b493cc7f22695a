//! `moat sessions`: ends sessions of a running gateway and of its replicas.
use crate::cli::desk;
use crate::serve::admin::sessions::{Demand, Receipt, What};
use anyhow::{Context, Result, bail};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// No gateway answers at the address.
const EXIT_ABSENT: u8 = 4;
/// It would end many sessions, and nobody said that it should.
const EXIT_UNSURE: u8 = 5;
/// More than a receipt ever has.
const MOST_BYTES: usize = 64 << 10;

const AFTER_HELP: &str = "\
Exit codes:
  0  done: durable, in force here, and told to all replicas
  1  failed; the reason is on stderr
  4  no gateway answers there
  5  it would end all sessions of a tenant or issuer: say so with `--yes`";

/// `moat sessions`
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// End sessions before their time, on all replicas
    ///
    /// Names one thing: a session, a user, a tenant, a token, a signing key, or an issuer with all that it signed. Users,
    /// tenants and issuers are signed out as of now: who signs in later stays in. Open WebSockets and streams of what is
    /// ended are closed.
    #[command(after_help = AFTER_HELP)]
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
struct Revoke {
    /// A session by its id: of ours, or with `--issuer` the `sid` of one of theirs
    #[arg(long, value_name = "ID", group = "what")]
    session: Option<String>,
    /// All sessions of a user; with `--tenant` only those in it
    #[arg(long, value_name = "SUBJECT", group = "what")]
    subject: Option<String>,
    /// A token by its `jti`
    #[arg(long, value_name = "ID", group = "what")]
    token_id: Option<String>,
    /// All tokens that a key signed, by its `kid`, for ever: for a key that was stolen
    #[arg(long, value_name = "ID", group = "what")]
    key: Option<String>,
    /// All sessions of a tenant, or with `--subject` those of a user in it
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// All sessions of an issuer, by its name in `gateway.yaml`; or whose session, user, token or key it is. Need not be
    /// said where there is one issuer
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Yes, all sessions of the tenant or issuer
    #[arg(long)]
    yes: bool,
    /// Only count what would end
    #[arg(long)]
    dry_run: bool,
    /// Who gives the order, for the audit log
    #[arg(long, env = "USER", value_name = "NAME")]
    actor: Option<String>,
    /// Print the receipt as JSON
    #[arg(long)]
    json: bool,
    /// The admin listener
    #[arg(long, default_value = "127.0.0.1:9901", env = "MOAT_ADMIN", value_name = "ADDRESS")]
    admin: SocketAddr,
    /// Seconds for the whole answer
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

/// Runs `moat sessions`.
pub fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Revoke(revoke) => end(revoke),
    }
}

fn end(args: Revoke) -> Result<ExitCode> {
    let what = what(&args)?;
    let many = matches!(what, What::Tenant { .. } | What::Issuer { .. } | What::Key { .. });
    let unsure = many && !args.yes && !args.dry_run;
    let demand = Demand { what, dry_run: args.dry_run || unsure, actor: args.actor.clone() };
    let until = Instant::now() + Duration::from_secs(args.timeout);
    let stream = match TcpStream::connect_timeout(&args.admin, Duration::from_secs(args.timeout)) {
        Ok(stream) => stream,
        Err(error) => {
            eprintln!(
                "error: no gateway answers at {}: {error}\n  hint: name its admin listener with `--admin`",
                args.admin
            );
            return Ok(ExitCode::from(EXIT_ABSENT));
        }
    };
    let path = "/sessions/revoke";
    let answer = desk::order_with(stream, path, &serde_json::to_string(&demand)?, until, MOST_BYTES);
    let (status, body) = answer.with_context(|| format!("http://{}{path}", args.admin))?;
    if status != 200 {
        let detail: Option<String> = serde_json::from_str(&body)
            .ok()
            .and_then(|problem: serde_json::Value| Some(problem.get("detail")?.as_str()?.to_owned()));
        match detail {
            Some(detail) => bail!("{detail}"),
            None => bail!("http://{}{path} answered {status}", args.admin),
        }
    }
    let receipt: Receipt = serde_json::from_str(&body).context("the gateway answers in another version's words")?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&receipt)?)?;
    } else {
        let verb = if receipt.ended { "ended" } else { "would end" };
        writeln!(
            out,
            "{verb}: {} tokens seen here lately, {} requests and streams open here",
            receipt.tokens, receipt.running
        )?;
        writeln!(out, "mark: {}", receipt.handle)?;
    }
    if unsure {
        eprintln!(
            "error: nothing was ended: this is everybody of a tenant, issuer or key\n  hint: say so with `--yes`"
        );
        return Ok(ExitCode::from(EXIT_UNSURE));
    }
    Ok(ExitCode::SUCCESS)
}

fn what(args: &Revoke) -> Result<What> {
    let issuer = args.issuer.clone();
    if args.tenant.is_some() && (args.session.is_some() || args.token_id.is_some() || args.key.is_some()) {
        bail!("`--tenant` goes alone or with `--subject`");
    }
    Ok(match (&args.session, &args.subject, &args.token_id, &args.key, &args.tenant, &args.issuer) {
        (Some(id), ..) => What::Session { issuer, id: id.clone() },
        (None, Some(subject), _, _, tenant, _) => {
            What::Subject { issuer, subject: subject.clone(), tenant: tenant.clone() }
        }
        (None, None, Some(id), ..) => What::Token { issuer, id: id.clone() },
        (None, None, None, Some(id), ..) => What::Key { issuer, id: id.clone() },
        (None, None, None, None, Some(_), Some(_)) => {
            bail!("a tenant ends with all its sessions, of whichever issuer: leave `--issuer` out")
        }
        (None, None, None, None, Some(id), None) => What::Tenant { id: id.clone() },
        (None, None, None, None, None, Some(name)) => What::Issuer { name: name.clone() },
        (None, None, None, None, None, None) => {
            bail!("nothing is named\n  hint: `--session`, `--subject`, `--tenant`, `--token-id`, `--key` or `--issuer`")
        }
    })
}

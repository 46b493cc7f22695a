//! `moat sessions`: lists and ends sessions of a running gateway and of its replicas.
use crate::cli::desk::{Desk, EXIT_ABSENT};
use crate::serve::admin::sessions::{Demand, Receipt, What, Whose};
use anyhow::{Context, Result, bail};
use std::io::Write;
use std::process::ExitCode;

/// It would end many sessions, and nobody said that it should.
const EXIT_UNSURE: u8 = 5;

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
    /// List the sessions that the gateway holds for a user: of browsers, and of clients with refresh tokens
    ///
    /// Sessions that only a token of an issuer knows are not listed: nobody has a list of them. `revoke --subject` ends both.
    List(User),
}

/// A user, and where to ask about them.
#[derive(Debug, clap::Args)]
pub struct User {
    /// The user
    #[arg(long, value_name = "SUBJECT")]
    subject: String,
    /// In which tenant
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Whose user, by the name in `gateway.yaml` of who vouches for them: an issuer, a service, an application. Need not be said
    /// where there is only one
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Print what the gateway answers
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) desk: Desk,
}

impl User {
    /// Whom an order is about.
    pub(super) fn whose(&self) -> Whose {
        Whose { issuer: self.issuer.clone(), subject: self.subject.clone(), tenant: self.tenant.clone() }
    }
}

#[derive(Debug, clap::Args)]
struct Revoke {
    /// A session by its id: of ours as `list` has it, or with `--issuer` the `sid` of one of theirs
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
    /// said where only one can be meant: services and applications that vouch for people count, and `moat` for a token or key
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
    #[command(flatten)]
    desk: Desk,
}

/// Runs `moat sessions`.
pub fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Revoke(revoke) => end(revoke),
        Command::List(args) => list(args),
    }
}

fn end(args: Revoke) -> Result<ExitCode> {
    let what = what(&args)?;
    let many = matches!(what, What::Tenant { .. } | What::Issuer { .. } | What::Key { .. });
    let unsure = many && !args.yes && !args.dry_run;
    let demand = Demand { what, dry_run: args.dry_run || unsure, actor: args.actor.clone() };
    let Some(body) = args.desk.ask("/sessions/revoke", &serde_json::to_string(&demand)?)? else {
        return Ok(ExitCode::from(EXIT_ABSENT));
    };
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

fn list(args: User) -> Result<ExitCode> {
    let Some(body) = args.desk.ask("/sessions/list", &serde_json::to_string(&args.whose())?)? else {
        return Ok(ExitCode::from(EXIT_ABSENT));
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{body}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let answer: serde_json::Value =
        serde_json::from_str(&body).context("the gateway answers in another version's words")?;
    let rows = answer.get("sessions").and_then(serde_json::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        writeln!(out, "no sessions")?;
    }
    for row in rows {
        let text = |name: &str| row.get(name).and_then(serde_json::Value::as_str).unwrap_or("-").to_owned();
        let time = |name: &str| {
            let at_s = row.get(name).and_then(serde_json::Value::as_u64).unwrap_or_default();
            decide::record::time::format(at_s.saturating_mul(1000))
        };
        let (id, kind, client) = (text("id"), text("kind"), text("client"));
        writeln!(out, "{id}  {kind:<7}  opened {}  used {}  from {client}", time("opened_at"), time("last_used_at"))?;
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

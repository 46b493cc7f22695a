//! `moat keys list`: each key, whose it is, its state, and when it was last used. No key and no hash is shown.
use super::{Place, Where, read, text};
use crate::config::keys::KeyFile;
use crate::config::options::ApiKeyOptions;
use crate::serve::admin::keys::Row;
use crate::serve::api_keys::recall;
use anyhow::Result;
use std::io::Write;
use std::process::ExitCode;

/// `moat keys list`
#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    place: Where,
    /// How it is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// How keys are printed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// For people: a table
    Text,
    /// For programs: a list of objects
    Json,
}

/// Lists.
pub(super) fn run(args: List) -> Result<ExitCode> {
    let rows = match args.place.find()? {
        Place::File(file) => rows(&file)?,
        Place::Set(set) => match args.place.rows(&set)? {
            Ok(rows) => rows,
            Err(code) => return Ok(code),
        },
    };
    let mut out = std::io::stdout().lock();
    match args.format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?,
        Format::Text => {
            writeln!(out, "{:<12} {:<8} {:<14} {:<21} {:<21} NAME", "ID", "STATE", "TENANT", "EXPIRES", "LAST USED")?;
            for Row { id, name, state, tenant, expires, last_used, scopes, .. } in &rows {
                let tenant = tenant.as_deref().unwrap_or("-");
                let only = scopes.as_ref().map(|scopes| format!(" (only {})", scopes.join(", "))).unwrap_or_default();
                let [expires, last] = [expires, last_used].map(|at| at.as_deref().unwrap_or("never"));
                writeln!(out, "{id:<12} {state:<8} {tenant:<14} {expires:<21} {last:<21} {name}{only}")?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(file: &KeyFile) -> Result<Vec<Row>> {
    let content = read(file)?;
    let used = recall(&file.pepper.state_dir);
    let now = jiff::Timestamp::now();
    let last = |id: &str| {
        let at = used.of(&file.name, id).and_then(|at| i64::try_from(at).ok())?;
        jiff::Timestamp::from_second(at).ok().map(text)
    };
    let rows = content.file.keys.iter().map(|(id, key)| Row {
        id: id.value.clone(),
        name: key.name.clone(),
        subject: key.subject.clone(),
        tenant: key.tenant.as_ref().map(|tenant| tenant.value.clone()),
        roles: key.roles.iter().map(|role| role.value.clone()).collect(),
        scopes: key.scopes.as_ref().map(|scopes| scopes.iter().map(|scope| scope.value.clone()).collect()),
        state: state(key, now).to_owned(),
        created: key.created.value.clone(),
        expires: key.expires.as_ref().map(|at| at.value.clone()),
        revoked: key.revoked.as_ref().map(|at| at.value.clone()),
        successor: key.successor.as_ref().map(|id| id.value.clone()),
        last_used: last(id),
    });
    Ok(rows.collect())
}

fn state(key: &ApiKeyOptions, now: jiff::Timestamp) -> &'static str {
    let over = |at: &str| at.parse::<jiff::Timestamp>().is_ok_and(|at| at <= now);
    match (&key.revoked, &key.expires) {
        (Some(_), _) => "revoked",
        (None, Some(at)) if over(at) => "expired",
        (None, _) => "active",
    }
}

//! `moat keys list`: each key, whose it is, its state, and when it was last used. No key and no hash is shown.
use super::{Where, read, text};
use crate::config::options::ApiKeyOptions;
use crate::serve::api_keys::recall;
use anyhow::Result;
use serde_json::json;
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
    let file = args.place.file()?;
    let content = read(&file)?;
    let used = recall(&file.state_dir);
    let now = jiff::Timestamp::now();
    let last = |id: &str| {
        let at = used.of(&file.name, id).and_then(|at| i64::try_from(at).ok())?;
        jiff::Timestamp::from_second(at).ok().map(text)
    };
    let mut out = std::io::stdout().lock();
    match args.format {
        Format::Json => {
            let rows = content.file.keys.iter().map(|(id, key)| {
                json!({
                    "id": id.value,
                    "name": key.name,
                    "subject": key.subject,
                    "tenant": key.tenant.as_ref().map(|tenant| &tenant.value),
                    "roles": key.roles.iter().map(|role| &role.value).collect::<Vec<_>>(),
                    "state": state(key, now),
                    "created": key.created.value,
                    "expires": key.expires.as_ref().map(|at| &at.value),
                    "revoked": key.revoked.as_ref().map(|at| &at.value),
                    "successor": key.successor.as_ref().map(|id| &id.value),
                    "last_used": last(id),
                })
            });
            let rows: Vec<_> = rows.collect();
            writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
        }
        Format::Text => {
            writeln!(out, "{:<12} {:<8} {:<14} {:<21} {:<21} NAME", "ID", "STATE", "TENANT", "EXPIRES", "LAST USED")?;
            for (id, key) in content.file.keys.iter() {
                let tenant = key.tenant.as_ref().map_or("-", |tenant| tenant.as_str());
                let expires = key.expires.as_ref().map_or("never", |at| at.as_str());
                let last = last(id).unwrap_or_else(|| "never".to_owned());
                let state = state(key, now);
                writeln!(out, "{:<12} {state:<8} {tenant:<14} {expires:<21} {last:<21} {}", id.value, key.name)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn state(key: &ApiKeyOptions, now: jiff::Timestamp) -> &'static str {
    let over = |at: &str| at.parse::<jiff::Timestamp>().is_ok_and(|at| at <= now);
    match (&key.revoked, &key.expires) {
        (Some(_), _) => "revoked",
        (None, Some(at)) if over(at) => "expired",
        (None, _) => "active",
    }
}

//! `moat keys`: API keys made, listed, rotated, revoked and imported, in the file or set that the configuration names.
mod set;
mod show;

use crate::cli::check;
use crate::cli::desk::Desk;
use crate::config::keys::{Content, KeyFile, KeySetPlace, find};
use crate::config::options::ApiKeyOptions;
use crate::config::read::Spanned;
use crate::config::units::Period;
use crate::config::{Purpose, process_env};
use crate::serve::admin::keys::Wish;
use crate::serve::api_keys::draw;
use anyhow::{Context, Result, anyhow, bail};
use decide::api_key;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

/// `moat keys`
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a key, and print it once: it is kept nowhere
    New(New),
    /// List keys, and when each was last used
    List(show::List),
    /// Make a successor of a key; the old one works for a while longer
    Rotate(Rotate),
    /// Revoke a key. Of a file, it is refused from the next reload on, which happens by itself; of a set, at once and everywhere
    Revoke(Revoke),
    /// Take over a key that another program made, by its bcrypt hash
    Import(Import),
}

/// Where the keys are.
#[derive(Debug, clap::Args)]
pub struct Where {
    /// The configuration
    #[arg(long, short, value_name = "FILE", default_value = "gateway.yaml", env = "MOAT_CONFIG")]
    config: PathBuf,
    /// The file of keys, as routes name it; needed where they name several places
    #[arg(long, value_name = "FILE")]
    keys: Option<String>,
    /// The set of keys in the state engine, as routes name it; needed where they name several places
    #[arg(long, value_name = "NAME", conflicts_with = "keys")]
    set: Option<String>,
    /// Who gives the order, for the audit log. For sets
    #[arg(long, env = "USER", value_name = "NAME")]
    actor: Option<String>,
    #[command(flatten)]
    desk: Desk,
}

/// Which of both it is.
enum Place {
    File(KeyFile),
    Set(KeySetPlace),
}

/// Who a key is.
#[derive(Debug, clap::Args)]
pub struct Who {
    /// What it is for, in words
    #[arg(long)]
    name: String,
    /// The tenant that it belongs to
    #[arg(long)]
    tenant: Option<String>,
    /// A role that it has; may be repeated
    #[arg(long = "role", value_name = "ROLE", value_delimiter = ',')]
    roles: Vec<String>,
    /// A permission that it is good for, of those that its roles grant; may be repeated [default: all of them]
    #[arg(long = "scope", value_name = "PERMISSION", value_delimiter = ',')]
    scopes: Vec<String>,
    /// Whom the application is told of [default: `key:` and the id]
    #[arg(long)]
    subject: Option<String>,
    /// How long it works, e.g. `90d` [default: until it is revoked]
    #[arg(long, value_name = "DURATION")]
    expires: Option<String>,
}

/// `moat keys new`
#[derive(Debug, clap::Args)]
pub struct New {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    who: Who,
}

/// `moat keys rotate`
#[derive(Debug, clap::Args)]
pub struct Rotate {
    #[command(flatten)]
    place: Where,
    /// Id of the key: the ten characters behind its prefix
    id: String,
    /// How long the old key works beside the new one
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    overlap: String,
}

/// `moat keys revoke`
#[derive(Debug, clap::Args)]
pub struct Revoke {
    #[command(flatten)]
    place: Where,
    /// Id of the key: the ten characters behind its prefix
    id: String,
}

/// `moat keys import`
#[derive(Debug, clap::Args)]
pub struct Import {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    who: Who,
    /// What the key begins with, long enough to be no other's: by it the key is found
    #[arg(long, value_name = "TEXT")]
    id: String,
    /// The bcrypt hash [default: a line on standard input]
    #[arg(long, value_name = "HASH")]
    hash: Option<String>,
}

/// Runs it.
pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::New(args) => new(args),
        Command::List(args) => show::run(args),
        Command::Rotate(args) => rotate(args),
        Command::Revoke(args) => revoke(args),
        Command::Import(args) => import(args),
    }
}

fn new(args: New) -> Result<ExitCode> {
    let file = match args.place.find()? {
        Place::File(file) => file,
        Place::Set(set) => return args.place.change(&set, Wish::New(args.who.wished()?)),
    };
    let _lock = file.lock().with_context(|| format!("`{}`", file.name))?;
    let mut content = read(&file)?;
    let (id, key) = make(&file.prefix)?;
    let hash = hash(&file, &key)?;
    content.add(&id, args.who.entry(hash)?);
    if let Some(code) = keep(&args.place, &file, &content)? {
        return Ok(code);
    }
    println!("{key}");
    eprintln!("This key is shown once. Its id is `{id}`; `{}` holds its hash.", file.name);
    Ok(ExitCode::SUCCESS)
}

fn rotate(args: Rotate) -> Result<ExitCode> {
    let overlap = period(&args.overlap)?;
    let file = match args.place.find()? {
        Place::File(file) => file,
        Place::Set(set) => {
            return args.place.change(&set, Wish::Rotate { id: args.id, overlap_s: overlap.seconds() });
        }
    };
    let _lock = file.lock().with_context(|| format!("`{}`", file.name))?;
    let mut content = read(&file)?;
    let (id, key) = make(&file.prefix)?;
    let hash = hash(&file, &key)?;
    let now = jiff::Timestamp::now();
    let old = content.entry(&args.id).ok_or_else(|| unknown(&args.id, &file))?;
    if old.revoked.is_some() {
        bail!("`{}` was revoked: make a new key", args.id);
    }
    if let Some(successor) = &old.successor {
        bail!("`{}` has a successor already: `{}`", args.id, successor.value);
    }
    let expires = old.expires.as_ref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
    let until = later(now, overlap)?;
    let until = text(expires.map_or(until, |at| at.min(until)));
    let mut successor = old.clone();
    // Who the application knows stays the same, though the id does not.
    successor.subject = Some(old.subject.clone().unwrap_or_else(|| format!("key:{}", args.id)));
    successor.hash = hash.into();
    successor.created = text(now).into();
    // It lives as long as the old one was made for.
    let made = old.created.parse::<jiff::Timestamp>().ok();
    successor.expires = match (expires, made) {
        (Some(expires), Some(made)) => Some(text(now.checked_add(expires.duration_since(made))?).into()),
        _ => None,
    };
    old.successor = Some(Spanned::from(id.clone()));
    old.expires = Some(until.clone().into());
    content.add(&id, successor);
    if let Some(code) = keep(&args.place, &file, &content)? {
        return Ok(code);
    }
    println!("{key}");
    eprintln!("This key is shown once. Its id is `{id}`; `{}` works until {until}.", args.id);
    Ok(ExitCode::SUCCESS)
}

fn revoke(args: Revoke) -> Result<ExitCode> {
    let file = match args.place.find()? {
        Place::File(file) => file,
        Place::Set(set) => return args.place.change(&set, Wish::Revoke { id: args.id }),
    };
    let _lock = file.lock().with_context(|| format!("`{}`", file.name))?;
    let mut content = read(&file)?;
    let entry = content.entry(&args.id).ok_or_else(|| unknown(&args.id, &file))?;
    if entry.revoked.is_some() {
        bail!("`{}` was revoked already", args.id);
    }
    entry.revoked = Some(text(jiff::Timestamp::now()).into());
    file.write(&content).with_context(|| format!("`{}`", file.name))?;
    println!("`{}` is revoked", args.id);
    // It is revoked whatever else is wrong; but a gateway that cannot load its files goes on with the old ones.
    match check::load(&args.place.config, Purpose::Check) {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(problems) => {
            eprintln!("warning: the configuration has problems, so a running gateway will not take this over:");
            check::report(&problems, check::Format::Text)
        }
    }
}

fn import(args: Import) -> Result<ExitCode> {
    let place = args.place.find()?;
    let hash = match args.hash {
        Some(hash) => hash,
        None => {
            let mut text = String::new();
            std::io::stdin().take(4096).read_to_string(&mut text).context("standard input")?;
            text
        }
    };
    let file = match place {
        Place::File(file) => file,
        Place::Set(set) => {
            let (hash, who) = (hash.trim().to_owned(), args.who.wished()?);
            return args.place.change(&set, Wish::Import { id: args.id, hash, who });
        }
    };
    let _lock = file.lock().with_context(|| format!("`{}`", file.name))?;
    let mut content = read(&file)?;
    if !content.add(&args.id, args.who.entry(format!("bcrypt:{}", hash.trim()))?) {
        bail!("there is a key `{}` already", args.id);
    }
    if let Some(code) = keep(&args.place, &file, &content)? {
        return Ok(code);
    }
    imported(&args.id);
    Ok(ExitCode::SUCCESS)
}

fn imported(id: &str) {
    println!("`{id}` is imported; `moat keys rotate {id}` makes a key of ours for its holder");
}

impl Where {
    fn find(&self) -> Result<Place> {
        let all = find(&self.config, &process_env).map_err(|problems| anyhow!("{}", problems.text().trim_end()))?;
        let files = || all.files.iter().map(|file| format!("`{}`", file.name)).collect::<Vec<_>>().join(", ");
        let sets = || all.sets.iter().map(|set| format!("`{}`", set.name)).collect::<Vec<_>>().join(", ");
        match (&self.keys, &self.set, all.files.as_slice(), all.sets.as_slice()) {
            (None, None, [], []) => {
                let hint = "write `auth: {api_key: {prefix: …, keys: {file: …}}}`, or `keys: {state: …}`";
                bail!("no route accepts API keys\nhint: {hint}")
            }
            (None, None, [one], []) => Ok(Place::File(one.clone())),
            (None, None, [], [one]) => Ok(Place::Set(one.clone())),
            (None, None, _, []) => bail!("routes name several files of keys: choose one with `--keys`: {}", files()),
            (None, None, [], _) => bail!("routes name several sets of keys: choose one with `--set`: {}", sets()),
            (None, None, _, _) => {
                bail!(
                    "routes name several places of keys: choose one with `--keys`: {}, or `--set`: {}",
                    files(),
                    sets()
                )
            }
            (Some(name), _, known, _) => match known.iter().find(|file| file.name == *name) {
                Some(file) => Ok(Place::File(file.clone())),
                None => bail!("no route names `{name}`; they name {}", files()),
            },
            (None, Some(name), _, known) => match known.iter().find(|set| set.name == *name) {
                Some(set) => Ok(Place::Set(set.clone())),
                None => bail!("no route names the set `{name}`; they name {}", sets()),
            },
        }
    }
}

impl Who {
    fn entry(&self, hash: String) -> Result<ApiKeyOptions> {
        if [Some(&self.name), self.subject.as_ref()].into_iter().flatten().any(|text| text.contains("${")) {
            bail!("`${{` stands for a variable in files, so it cannot be in a name");
        }
        let now = jiff::Timestamp::now();
        let expires = match &self.expires {
            Some(after) => Some(text(later(now, period(after)?)?).into()),
            None => None,
        };
        Ok(ApiKeyOptions {
            name: self.name.clone(),
            subject: self.subject.clone(),
            tenant: self.tenant.clone().map(Spanned::from),
            roles: self.roles.iter().cloned().map(Spanned::from).collect(),
            scopes: (!self.scopes.is_empty())
                .then(|| Spanned::from(self.scopes.iter().cloned().map(Spanned::from).collect::<Vec<_>>())),
            hash: hash.into(),
            created: text(now).into(),
            expires,
            revoked: None,
            successor: None,
        })
    }
}

/// Writes the file, unless the configuration would not hold with it; then everything is as before, and the problems are
/// told.
fn keep(place: &Where, file: &KeyFile, content: &Content) -> Result<Option<ExitCode>> {
    file.write(content).with_context(|| format!("`{}`", file.name))?;
    match check::load(&place.config, Purpose::Check) {
        Ok(_) => Ok(None),
        Err(problems) => {
            file.restore(content).with_context(|| format!("`{}` could not be put back", file.name))?;
            check::report(&problems, check::Format::Text).map(Some)
        }
    }
}

fn read(file: &KeyFile) -> Result<Content> {
    file.read().map_err(|problems| anyhow!("{}", problems.text().trim_end()))
}

fn hash(file: &KeyFile, key: &str) -> Result<String> {
    file.hash(key, &process_env).map_err(|message| anyhow!(message))
}

fn unknown(id: &str, file: &KeyFile) -> anyhow::Error {
    anyhow!("`{}` has no key `{id}`\nhint: `moat keys list` shows all", file.name)
}

/// A new key with its id.
fn make(prefix: &str) -> Result<(String, String)> {
    if !api_key::is_prefix(prefix) {
        bail!("`{prefix}` cannot be the prefix of keys");
    }
    draw(prefix, |random| api_key::make(prefix, random)).ok_or_else(|| anyhow!("no random bytes"))
}

fn period(text: &str) -> Result<Period> {
    let period = Period::read(text).filter(|period| period.seconds() > 0);
    period.ok_or_else(|| anyhow!("`{text}` is no duration\nhint: write `90d`, `24h`, `30m`"))
}

fn later(now: jiff::Timestamp, after: Period) -> Result<jiff::Timestamp> {
    let seconds = i64::try_from(after.seconds()).unwrap_or(i64::MAX);
    now.checked_add(jiff::SignedDuration::from_secs(seconds)).map_err(|_| anyhow!("that is too long"))
}

/// RFC 3339 in whole seconds.
fn text(at: jiff::Timestamp) -> String {
    at.round(jiff::Unit::Second).unwrap_or(at).to_string()
}

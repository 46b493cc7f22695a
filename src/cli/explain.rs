//! `moat explain METHOD URL`: the production engine on a made-up request, and where in the files each rule stands.
mod certificate;

use crate::cli::check;
use crate::config::cases::{Judged, ToUs, judge, to_us};
use crate::config::options::{CarrierOption, CaseCaller, CaseRequest, CaseSite};
use crate::config::problem::At;
use crate::config::read::{Entries, Spanned};
use crate::config::units::Period;
use crate::config::{Loaded, Purpose};
use crate::serve::own::Own;
use anyhow::{Result, anyhow, bail};
use clap::ValueEnum;
use decide::cors::{Cors, Origins};
use decide::deliberation::Verdict;
use decide::rules::{Accept, Access, Csrf, Found, Isolation};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `moat explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The request's method
    method: String,
    /// The request's URL, `https://host/path`
    url: String,
    /// The configuration
    #[arg(long, short, value_name = "FILE", default_value = "gateway.yaml", env = "MOAT_CONFIG")]
    config: PathBuf,
    /// A role of the caller; may be repeated
    #[arg(long, value_name = "ROLE", value_delimiter = ',')]
    role: Vec<String>,
    /// A permission that the caller's API key is good for; may be repeated
    #[arg(long, value_name = "PERMISSION", value_delimiter = ',')]
    scope: Vec<String>,
    /// The tenant of the caller's session
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// The caller's subject
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// How long ago the caller authenticated, e.g. `20m`
    #[arg(long, value_name = "AGE")]
    auth_age: Option<String>,
    /// The class of the authentication (`acr`)
    #[arg(long, value_name = "CLASS")]
    acr: Option<String>,
    /// A method of the authentication (`amr`); may be repeated
    #[arg(long, value_name = "METHOD", value_delimiter = ',')]
    amr: Vec<String>,
    /// How the session is carried
    #[arg(long, value_name = "HOW")]
    by: Option<By>,
    /// PEM file with the certificate that the client shows, and those behind it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["role", "scope", "tenant", "subject", "auth_age", "acr", "amr", "by"])]
    certificate: Option<PathBuf>,
    /// The client's address
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// The media type of the body
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// A field of the body; may be repeated
    #[arg(long = "field", value_name = "NAME=VALUE")]
    fields: Vec<String>,
    /// The request comes from another site, as browsers tell it
    #[arg(long)]
    cross_site: bool,
    /// The browser does not say where the request comes from
    #[arg(long, conflicts_with_all = ["cross_site", "origin"])]
    unsaid: bool,
    /// The request shows a double-submit token (`csrf: token`)
    #[arg(long)]
    csrf_token: bool,
    /// The other origin whose page sends it by script, e.g. `https://app.example.com`
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    /// Explain the browser's question ahead of the request (CORS preflight) instead
    #[arg(long, requires = "origin")]
    preflight: bool,
}

/// How a session is carried.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    Bearer,
    Cookie,
    ApiKey,
    ExtAuth,
    Dpop,
    Certificate,
}

/// Explains. Exits with 0 for a permit, 1 for a refusal, 78 where the bundle has problems.
pub fn run(args: Args) -> Result<ExitCode> {
    let loaded = match check::load(&args.config, Purpose::Check) {
        Ok(loaded) => loaded,
        Err(problems) => return check::report(&problems, check::Format::Text),
    };
    let mut request = args.request()?;
    if let Some(to_us) = to_us(&loaded.snapshot, &request).map_err(|message| anyhow!(message))? {
        return Ok(own(&mut io::stdout().lock(), &loaded, &request, &to_us)?);
    }
    if let Some(file) = &args.certificate {
        let shown = certificate::read(file)?;
        certificate::tell(&mut io::stdout().lock(), &loaded.snapshot, &shown, &mut request)?;
    }
    let judged = match judge(&loaded.snapshot, &request) {
        Ok(judged) => judged,
        Err(message) => bail!(message),
    };
    explain(&mut io::stdout().lock(), &loaded, &request, &judged)?;
    Ok(if judged.refusal.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Args {
    fn request(&self) -> Result<CaseRequest> {
        let spanned = |value: &str| Spanned { value: value.to_owned(), at: At::default() };
        let anybody = !self.role.is_empty()
            || !self.scope.is_empty()
            || self.tenant.is_some()
            || self.subject.is_some()
            || self.auth_age.is_some()
            || self.acr.is_some()
            || !self.amr.is_empty()
            || self.by.is_some();
        let caller = CaseCaller {
            roles: self.role.iter().map(|role| spanned(role)).collect(),
            scopes: (!self.scope.is_empty()).then(|| self.scope.iter().map(|scope| spanned(scope)).collect()),
            tenant: self.tenant.clone(),
            auth_age: self.auth_age.as_deref().map(period).transpose()?,
            subject: self.subject.clone(),
            acr: self.acr.clone(),
            amr: (!self.amr.is_empty()).then(|| self.amr.clone()),
            by: self.by.map(|by| match by {
                By::Bearer => CarrierOption::Bearer,
                By::Cookie => CarrierOption::Cookie,
                By::ApiKey => CarrierOption::ApiKey,
                By::ExtAuth => CarrierOption::ExtAuth,
                By::Dpop => CarrierOption::Dpop,
                By::Certificate => CarrierOption::Certificate,
            }),
            ..CaseCaller::default()
        };
        Ok(CaseRequest {
            method: spanned(&self.method),
            url: spanned(&self.url),
            caller: anybody.then_some(caller),
            from: self.from,
            content_type: self.content_type.clone(),
            fields: (!self.fields.is_empty()).then(|| self.written_fields(spanned)).transpose()?,
            site: match (self.cross_site, self.unsaid) {
                (true, _) => Some(CaseSite::CrossSite),
                (false, true) => Some(CaseSite::Unsaid),
                (false, false) => None,
            },
            csrf_token: self.csrf_token,
            origin: self.origin.clone(),
            preflight: self.preflight,
        })
    }
}

impl Args {
    fn written_fields(&self, spanned: impl Fn(&str) -> Spanned<String>) -> Result<Entries<String>> {
        let pair = |field: &String| match field.split_once('=') {
            Some((name, value)) => Ok((spanned(name), value.to_owned())),
            None => bail!("`{field}` is not a field such as `username=ann`"),
        };
        Ok(Entries(self.fields.iter().map(pair).collect::<Result<_>>()?))
    }
}

fn period(text: &str) -> Result<Period> {
    match Period::read(text) {
        Some(period) => Ok(period),
        None => bail!("`{text}` is not a duration such as `20m`"),
    }
}

/// Explains a request to one of the gateway's own resources: no route decides, and what it says depends on what it is sent.
fn own(out: &mut impl Write, loaded: &Loaded, request: &CaseRequest, to_us: &ToUs) -> io::Result<ExitCode> {
    writeln!(out, "{} {}", *request.method, *request.url)?;
    let ToUs { request, facts, name } = to_us;
    let mut page = Page { out, loaded };
    let place = if *request.path == format!("/.moat/{name}") { "" } else { "sessions.tokens" };
    page.rule("resource", &format!("/.moat/{name} of the gateway itself; no route decides"), place)?;
    let before = Own::find(name, request.method).and_then(|own| own.before(&loaded.snapshot.rules, request, facts));
    let seat = match before {
        Ok(seat) => seat,
        Err(refusal) => {
            writeln!(page.out, "=> {} {}: {}", refusal.code.status(), refusal.code.id(), refusal.cause)?;
            return Ok(ExitCode::FAILURE);
        }
    };
    if let Some(seat) = seat {
        page.rule("tenant", &format!("{} by {}", seat.id, seat.source), &format!("tenants.{}", seat.id))?;
    }
    for limit in &loaded.snapshot.sessions.limits {
        page.rule("limit", &limit.name, &format!("limits.{}", limit.name))?;
    }
    writeln!(page.out, "=> answered by the gateway, by what the request carries")?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what was decided and why.
fn explain(out: &mut impl Write, loaded: &Loaded, request: &CaseRequest, judged: &Judged) -> io::Result<()> {
    writeln!(out, "{} {}", *request.method, *request.url)?;
    if let Some(found) = &judged.found {
        rules(&mut Page { out, loaded }, found, judged)?;
    }
    let mut page = Page { out, loaded };
    for (guard, verdict) in judged.trail.iter() {
        let said = match verdict {
            Verdict::Pass => "pass".to_owned(),
            Verdict::Skip => "-".to_owned(),
            Verdict::Shadow(code) => format!("would refuse with {} (shadow)", code.id()),
            Verdict::Refuse(code) => format!("refuse with {}", code.id()),
        };
        page.line(guard.name(), &said, None)?;
    }
    match (&judged.refusal, &judged.upstream) {
        (Some(refusal), _) => {
            writeln!(out, "=> {} {}: {}", refusal.code.status(), refusal.code.id(), refusal.cause)
        }
        (None, Some(upstream)) => writeln!(out, "=> permit, to upstream `{upstream}`"),
        (None, None) if request.preflight => writeln!(out, "=> granted, to be answered by the gateway"),
        (None, None) => writeln!(out, "=> permit"),
    }
}

/// Lines of a name, a text and the place of the rule.
struct Page<'a, W> {
    out: &'a mut W,
    loaded: &'a Loaded,
}

impl<W: Write> Page<'_, W> {
    fn line(&mut self, name: &str, text: &str, place: Option<&str>) -> io::Result<()> {
        match place {
            Some(place) => writeln!(self.out, "  {name:<14} {text}  ({place})"),
            None => writeln!(self.out, "  {name:<14} {text}"),
        }
    }

    /// A line about something that stands under this key in one of the files.
    fn rule(&mut self, name: &str, text: &str, key: &str) -> io::Result<()> {
        let place = self.loaded.place(key);
        self.line(name, text, place.as_deref())
    }
}

/// The rules that the route's guards apply, each with its place.
fn rules<W: Write>(page: &mut Page<'_, W>, found: &Found, judged: &Judged) -> io::Result<()> {
    let route = &found.route;
    page.line("route", &format!("{}  {}", route.name, found.template), Some(&route.origin))?;
    match judged.findings.seat.as_ref().or(found.seat.as_ref()) {
        Some(seat) => {
            page.rule("tenant", &format!("{} by {}", seat.id, seat.source), &format!("tenants.{}", seat.id))?;
        }
        None => page.line("tenant", "none", None)?,
    }
    match &route.access {
        Access::Public { reason } => page.line("public", reason, None)?,
        Access::Session(session) => {
            for accept in &session.accept {
                let (text, place) = match accept {
                    Accept::Bearer { issuer } => {
                        (format!("bearer token of `{issuer}`"), Some(format!("issuers.{issuer}")))
                    }
                    Accept::Cookie { name, issuer } => {
                        (format!("cookie `{name}` with a token of `{issuer}`"), Some(format!("issuers.{issuer}")))
                    }
                    Accept::Session { cookie } => {
                        let text = format!("session of the gateway, by cookie `{cookie}`");
                        (text, Some("sessions.browser".to_owned()))
                    }
                    Accept::Dpop { issuer } => {
                        (format!("token of `{issuer}` with proof of its key (DPoP)"), Some(format!("issuers.{issuer}")))
                    }
                    Accept::ApiKey { header, keys } => (format!("API key of `{keys}` in `{header}`"), None),
                    Accept::Certificate { name } => {
                        (format!("certificate of `{name}`"), Some(format!("client_certificates.{name}")))
                    }
                    Accept::AppSession { cookie, name } => (
                        format!("session that `{name}` keeps, of cookie `{cookie}`"),
                        Some(format!("app_sessions.{name}")),
                    ),
                    Accept::ExtAuth { name, .. } => (format!("whom `{name}` knows"), Some(format!("ext_auth.{name}"))),
                };
                match place {
                    Some(place) => page.rule("accepts", &text, &place)?,
                    None => page.line("accepts", &text, None)?,
                }
            }
            match (&session.permission, &judged.findings.granted_by) {
                (Some(permission), Some(role)) => {
                    let text = format!("{}, granted by role `{role}`", permission.name);
                    page.rule("requires", &text, &format!("roles.{role}"))?;
                }
                (Some(permission), None) => {
                    let area = permission.name.split('.').next().unwrap_or_default();
                    page.rule("requires", &permission.name, &format!("permissions.{area}"))?;
                }
                (None, _) => page.line("requires", "any session", None)?,
            }
            if let Some(step_up) = &session.step_up {
                let age = step_up.max_age_s.map(|s| format!(", at most {s} s old")).unwrap_or_default();
                page.rule("step-up", &format!("{}{age}", step_up.name), &format!("sessions.step_up.{}", step_up.name))?;
            }
            if let Some(condition) = &session.when {
                page.line("when", condition.source(), None)?;
            }
        }
    }
    for limit in &route.limits {
        let mode = if limit.shadow { " (shadow)" } else { "" };
        page.rule("limit", &format!("{}{mode}", limit.name), &format!("limits.{}", limit.name))?;
    }
    let isolation = match route.isolation {
        Isolation::Off => None,
        Isolation::SameSite => Some("pages of the same site"),
        Isolation::SameOrigin => Some("pages of the same origin"),
    };
    if let Some(text) = isolation {
        page.line("read by", text, None)?;
    }
    match &route.csrf {
        Csrf::Strict | Csrf::Off => {}
        Csrf::Token(submit) => {
            let places = [
                submit.header.as_ref().map(|name| format!("header `{name}`")),
                submit.field.as_ref().map(|name| format!("field `{name}`")),
            ];
            let places = places.into_iter().flatten().collect::<Vec<_>>().join(" or ");
            page.line("token", &format!("cookie `{}` and {places}", submit.cookie), None)?;
        }
    }
    match &route.cors {
        Cors::Closed => {}
        Cors::Application => page.line("cors", "left to the application", None)?,
        Cors::Shared(sharing) => {
            let text = match &sharing.origins {
                Origins::Any => "everybody".to_owned(),
                Origins::Listed(list) => list.join(", "),
                Origins::Tenant => "embed_origins of the tenant".to_owned(),
            };
            let cookies = if sharing.credentials { ", with cookies" } else { "" };
            page.line("cors", &format!("{text}{cookies}"), None)?;
        }
    }
    if let Some(profile) = page.loaded.snapshot.profiles.get(route.headers) {
        page.rule("headers", profile.name(), &format!("profiles.{}", profile.name()))?;
    }
    Ok(())
}

//! A header profile as the machine runs it: inheritance resolved, checked, and rendered to header values at load.
use super::cookies::{CookieCounts, CookieRules};
use super::csp::{Csp, Framing, Policy};
use super::hsts::Hsts;
use super::known::{self, Merge, Wrong};
use super::options::{
    AltSvcOption, CacheOptions, CookieOptions, CspOptions, HeadersFile, HstsOptions, PermissionsOptions, ProfileOptions,
};
use super::permissions::Permissions;
use super::problems::{Problems, ProfileProblem};
use super::{DressContext, Fields};
use http::StatusCode;
use http::header::{
    ALT_SVC, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY, X_FRAME_OPTIONS,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

static PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
static REPORTING_ENDPOINTS: HeaderName = HeaderName::from_static("reporting-endpoints");
/// Caches in front of us obey these rather than `Cache-Control` (RFC 9213 and its forerunner).
static CDN_CACHE: [HeaderName; 3] = [
    HeaderName::from_static("cdn-cache-control"),
    HeaderName::from_static("surrogate-control"),
    HeaderName::from_static("cloudflare-cdn-cache-control"),
];

/// A compiled profile. Immutable; shared by all responses of its routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    name: Arc<str>,
    remove: Box<[HeaderName]>,
    hsts: Option<Hsts>,
    set: Box<[(HeaderName, HeaderValue, Merge)]>,
    permissions: Option<Permissions>,
    csp: Vec<Policy>,
    endpoints: Option<HeaderValue>,
    add: Box<[(HeaderName, HeaderValue)]>,
    cookies: Option<CookieRules>,
    authenticated: Option<(HeaderValue, usize)>,
    /// Whether the application's `Alt-Svc` passes.
    alt_svc: bool,
    framed_by_others: bool,
}

impl Profile {
    /// A profile that asks for nothing; it still keeps HSTS off plaintext.
    pub fn empty(name: &str) -> Profile {
        Profile {
            name: name.into(),
            remove: Box::default(),
            hsts: None,
            set: Box::default(),
            permissions: None,
            csp: Vec::new(),
            endpoints: None,
            add: Box::default(),
            cookies: None,
            authenticated: None,
            alt_svc: false,
            framed_by_others: false,
        }
    }

    /// Compiles all profiles of a file, or reports every problem in it, once each, in the order of their paths.
    pub fn compile_all(file: &HeadersFile) -> Result<BTreeMap<Arc<str>, Arc<Profile>>, Vec<ProfileProblem>> {
        let mut compiled = BTreeMap::new();
        let mut problems = BTreeSet::new();
        if file.version != 1 {
            problems.insert(ProfileProblem {
                path: "version".to_owned(),
                message: format!("version {} of the grammar is not known", file.version),
                hint: Some("write `version: 1`".to_owned()),
            });
        }
        for name in file.profiles.keys() {
            match Profile::compile(name, &file.profiles) {
                Ok(profile) => drop(compiled.insert(Arc::clone(&profile.name), Arc::new(profile))),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() { Ok(compiled) } else { Err(problems.into_iter().collect()) }
    }

    /// Compiles one profile with what it extends; a problem in a parent is reported at the parent.
    pub fn compile(name: &str, profiles: &BTreeMap<String, ProfileOptions>) -> Result<Profile, Vec<ProfileProblem>> {
        let mut problems = Problems::default();
        let profile = match Resolved::of(name, profiles, &mut problems) {
            Some(resolved) => resolved.compile(name, &mut problems),
            None => Profile::empty(name),
        };
        if problems.0.is_empty() { Ok(profile) } else { Err(problems.0) }
    }

    /// Its name in the file.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether responses want a nonce, and requests `x-csp-nonce`.
    pub fn needs_nonce(&self) -> bool {
        self.csp.iter().any(Policy::needs_nonce)
    }

    /// Whether pages of other origins may frame what it dresses.
    pub fn framed_by_others(&self) -> bool {
        self.framed_by_others
    }

    pub(super) fn apply(&self, fields: &mut impl Fields, cx: &DressContext<'_>) -> CookieCounts {
        for name in &self.remove {
            fields.remove(name);
        }
        if !self.alt_svc {
            fields.remove(&ALT_SVC);
        }
        match (&self.hsts, cx.tls) {
            (Some(hsts), true) => fields.set(&STRICT_TRANSPORT_SECURITY, hsts.at(cx.now_s).clone()),
            (None, true) => {}
            (Some(_) | None, false) => fields.remove(&STRICT_TRANSPORT_SECURITY),
        }
        for (name, value, merge) in &self.set {
            match merge {
                Merge::Replace => fields.set(name, value.clone()),
                Merge::Ladder(ladder, rank) => {
                    let value = ladder.stricter(*rank, fields.values(name)).unwrap_or_else(|| value.clone());
                    fields.set(name, value);
                }
                Merge::Cache(strength) => known::tighten_cache(fields, value, *strength),
            }
        }
        if let Some(permissions) = &self.permissions {
            let value = match fields.value(&PERMISSIONS_POLICY) {
                None => permissions.value.clone(),
                Some(_) => permissions.merge(fields.values(&PERMISSIONS_POLICY)),
            };
            fields.set(&PERMISSIONS_POLICY, value);
        }
        for policy in &self.csp {
            append_once(fields, &policy.name, policy.render(cx.nonce, cx.embed_origins));
        }
        if let Some(endpoints) = &self.endpoints {
            append_once(fields, &REPORTING_ENDPOINTS, endpoints.clone());
        }
        for (name, value) in &self.add {
            if fields.value(name).is_none() {
                fields.set(name, value.clone());
            }
        }
        self.keep_from_caches(fields, cx);
        self.cookies.as_ref().map(|rules| rules.apply(fields, cx.now_s)).unwrap_or_default()
    }

    fn keep_from_caches(&self, fields: &mut impl Fields, cx: &DressContext<'_>) {
        match &self.authenticated {
            Some((value, strength)) if cx.authenticated => {
                known::tighten_cache(fields, value, *strength);
                CDN_CACHE.iter().for_each(|name| fields.remove(name));
            }
            Some(_) | None => {}
        }
        // A stored page would come back with yesterday's nonce. A 304 has no page, and must not make caches drop
        // the script or picture that it confirms.
        if cx.nonce.is_some() && cx.status != StatusCode::NOT_MODIFIED && self.needs_nonce() && may_be_page(fields) {
            known::tighten_cache(fields, &HeaderValue::from_static("no-store"), 2);
            CDN_CACHE.iter().for_each(|name| fields.remove(name));
        }
    }
}

/// Keeps an answer from caches that serve others, whatever the application says.
pub fn keep_private(fields: &mut impl Fields) {
    if known::cache_strength(fields.values(&CACHE_CONTROL)) == 0 {
        fields.set(&CACHE_CONTROL, HeaderValue::from_static("private"));
    }
    CDN_CACHE.iter().for_each(|name| fields.remove(name));
}

/// Adds a line to those of the application, which browsers read together; a second dressing adds nothing.
fn append_once(fields: &mut impl Fields, name: &HeaderName, value: HeaderValue) {
    if fields.value(name).is_none() {
        fields.set(name, value);
    } else if !fields.values(name).any(|line| *line == value) {
        fields.append(name, value);
    }
}

/// Whether a browser could run the response as a document; without a type it might.
fn may_be_page(fields: &impl Fields) -> bool {
    let Some(value) = fields.value(&CONTENT_TYPE) else { return true };
    let essence = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    // text/html, application/xhtml+xml, image/svg+xml, text/xml
    [b"html".as_slice(), b"xml"].iter().any(|end| {
        let tail = essence.len().checked_sub(end.len()).and_then(|at| essence.get(at..));
        tail.is_some_and(|tail| tail.eq_ignore_ascii_case(end))
    })
}

/// A value, and the path of the key that it stands at.
type At<T> = (String, T);

/// A profile with everything that it inherits.
#[derive(Default)]
struct Resolved<'a> {
    hsts: Option<At<&'a HstsOptions>>,
    csp: Option<At<&'a CspOptions>>,
    permissions: Option<At<&'a PermissionsOptions>>,
    plain: BTreeMap<String, At<&'a str>>,
    add: BTreeMap<String, At<&'a str>>,
    remove: BTreeMap<String, At<()>>,
    cookies: Option<At<&'a CookieOptions>>,
    cache: Option<At<&'a CacheOptions>>,
    alt_svc: Option<AltSvcOption>,
}

impl<'a> Resolved<'a> {
    fn of(name: &str, profiles: &'a BTreeMap<String, ProfileOptions>, problems: &mut Problems) -> Option<Resolved<'a>> {
        let mut chain: Vec<(&str, &ProfileOptions)> = Vec::new();
        let mut at = format!("profiles.{name}");
        let mut next = Some(name);
        while let Some(wanted) = next {
            let Some((key, options)) = profiles.get_key_value(wanted) else {
                let known: Vec<&str> = profiles.keys().map(String::as_str).collect();
                problems.hinted(
                    &at,
                    format!("unknown profile `{wanted}`"),
                    format!("the file has: {}", known.join(", ")),
                );
                return None;
            };
            if chain.iter().any(|(seen, _)| seen == key) {
                problems.hinted(&at, format!("profile `{key}` extends itself"), "drop one `extends` of the circle");
                return None;
            }
            chain.push((key, options));
            at = format!("profiles.{key}.extends");
            next = options.extends.as_deref();
        }
        let mut all = Resolved::default();
        for (key, options) in chain.into_iter().rev() {
            all.overlay(&format!("profiles.{key}"), options);
        }
        Some(all)
    }

    fn overlay(&mut self, at: &str, options: &'a ProfileOptions) {
        if let Some(hsts) = &options.set.hsts {
            self.hsts = Some((format!("{at}.set.strict-transport-security"), hsts));
        }
        if let Some(csp) = &options.set.csp {
            self.csp = Some((format!("{at}.set.content-security-policy"), csp));
        }
        if let Some(permissions) = &options.set.permissions {
            self.permissions = Some((format!("{at}.set.permissions-policy"), permissions));
        }
        for (name, value) in &options.set.plain {
            self.plain.insert(name.to_ascii_lowercase(), (format!("{at}.set.{name}"), value));
        }
        for (name, value) in &options.add_if_missing {
            self.add.insert(name.to_ascii_lowercase(), (format!("{at}.add_if_missing.{name}"), value));
        }
        for (i, name) in options.remove.iter().enumerate() {
            self.remove.insert(name.to_ascii_lowercase(), (format!("{at}.remove[{i}]"), ()));
        }
        if let Some(cookies) = &options.cookies {
            self.cookies = Some((format!("{at}.cookies"), cookies));
        }
        if let Some(cache) = &options.cache {
            self.cache = Some((format!("{at}.cache"), cache));
        }
        self.alt_svc = options.alt_svc.or(self.alt_svc);
    }

    fn compile(self, name: &str, problems: &mut Problems) -> Profile {
        let hsts = self.hsts.as_ref().and_then(|(at, options)| Hsts::compile(options, at, problems));
        let csp = self.csp.as_ref().and_then(|(at, options)| Csp::compile(options, at, problems));
        let permissions =
            self.permissions.as_ref().and_then(|(at, options)| Permissions::compile(options, at, problems));
        let mut set = Vec::new();
        let mut add = Vec::new();
        let mut remove = Vec::new();
        for (name, (at, value)) in &self.plain {
            let checked = field(name, value).and_then(|(n, v)| Ok((n, v, known::check_set(name, value)?)));
            set.extend(noted(checked, at, problems));
        }
        for (name, (at, value)) in &self.add {
            let checked = field(name, value).and_then(|line| known::check_add(name, value).map(|()| line));
            add.extend(noted(checked, at, problems));
            if self.sets(name) {
                problems.hinted(at, format!("`{name}` is also under `set`"), "keep one of the two");
            }
        }
        for (name, (at, ())) in &self.remove {
            let checked = known::name(name).and_then(|n| known::check_remove(name).map(|()| n));
            remove.extend(noted(checked, at, problems));
            if self.sets(name) || self.add.contains_key(name) {
                problems.hinted(at, format!("`{name}` is both written and removed"), "keep one of the two");
            }
        }
        if let Some(csp) = &csp {
            self.frame_options(csp.framing, &mut set, problems);
        }
        let cookies = self.cookies.as_ref().map(|(at, options)| CookieRules::compile(options, at, problems));
        let authenticated = self.cache.as_ref().and_then(|(at, options)| authenticated(options, at, problems));
        let framed_by_others = csp.as_ref().is_some_and(|csp| csp.framing == Framing::Others);
        let (policies, endpoints) = csp.map(|csp| (csp.policies, csp.endpoints)).unwrap_or_default();
        Profile {
            name: name.into(),
            remove: remove.into(),
            hsts,
            set: set.into(),
            permissions,
            csp: policies,
            endpoints,
            add: add.into(),
            cookies,
            authenticated,
            framed_by_others,
            alt_svc: self.alt_svc == Some(AltSvcOption::Pass),
        }
    }

    fn sets(&self, name: &str) -> bool {
        match name {
            "strict-transport-security" => self.hsts.is_some(),
            "content-security-policy" | "content-security-policy-report-only" => self.csp.is_some(),
            "permissions-policy" => self.permissions.is_some(),
            _ => self.plain.contains_key(name),
        }
    }

    /// `X-Frame-Options` says to old browsers what `frame-ancestors` says to new ones: derived where absent, and a
    /// problem where it says something else.
    fn frame_options(
        &self,
        framing: Framing,
        set: &mut Vec<(HeaderName, HeaderValue, Merge)>,
        problems: &mut Problems,
    ) {
        let wanted = match framing {
            Framing::Unsaid => return,
            Framing::Deny => Some("DENY"),
            Framing::SameOrigin => Some("SAMEORIGIN"),
            Framing::Others => None,
        };
        match (self.plain.get("x-frame-options"), wanted) {
            (None, None) => {}
            (None, Some(wanted)) => {
                let checked = known::check_set("x-frame-options", wanted);
                set.extend(checked.ok().map(|merge| (X_FRAME_OPTIONS, HeaderValue::from_static(wanted), merge)));
            }
            (Some((_, written)), Some(wanted)) if written.eq_ignore_ascii_case(wanted) => {}
            (Some((at, written)), wanted) => {
                let hint = match wanted {
                    Some(wanted) => format!("write `{wanted}`, or leave it out: it follows from `frame-ancestors`"),
                    None => "leave it out: it has no word for a list of hosts".to_owned(),
                };
                problems.hinted(at, format!("`{written}` disagrees with `frame-ancestors`"), hint);
            }
        }
    }
}

fn field(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), Wrong> {
    let graphic = value.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    let value = HeaderValue::from_str(value).ok().filter(|_| graphic && !value.is_empty() && value.trim() == value);
    let value =
        value.ok_or((format!("the value of `{name}` is not printable ASCII"), "write plain text on one line"))?;
    Ok((known::name(name)?, value))
}

fn noted<T>(checked: Result<T, Wrong>, at: &str, problems: &mut Problems) -> Option<T> {
    checked.map_err(|(message, hint)| problems.hinted(at, message, hint)).ok()
}

fn authenticated(options: &CacheOptions, at: &str, problems: &mut Problems) -> Option<(HeaderValue, usize)> {
    let text = options.authenticated.as_deref()?;
    let at = format!("{at}.authenticated");
    let (_, value) = noted(field(CACHE_CONTROL.as_str(), text), &at, problems)?;
    match known::cache_strength(std::iter::once(&value)) {
        0 => {
            let hint = "write `no-store`, or `private` where the browser itself may keep a copy";
            problems.hinted(&at, format!("`{text}` lets shared caches keep one user's page for another"), hint);
            None
        }
        strength => Some((value, strength)),
    }
}

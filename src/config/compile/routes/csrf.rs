//! `csrf`: what a state-changing request must show, and where its tokens stand.
use crate::config::compile::Compiler;
use crate::config::options::{CsrfOption, TokenOptions};
use crate::config::problem::At;
use crate::config::read::Spanned;
use crate::config::settings::{SealingKeys, Server};
use crate::config::units::{Size, seconds};
use crate::config::{Purpose, pepper};
use decide::csrf::{Keys, Submit};
use decide::request::Method;
use decide::rules::{Accept, Access, Csrf, Route, Rules};
use http::HeaderName;
use std::sync::Arc;

impl Compiler<'_> {
    /// `csrf`, with the default of the route's kind.
    pub(super) fn csrf(&self, written: Option<&Spanned<CsrfOption>>, access: &Access, grants: bool) -> Csrf {
        match (written.map(|written| (&written.value, written.at)), access) {
            (Some((CsrfOption::Strict, _)), _) | (None, Access::Session(_)) => Csrf::Strict,
            // Who is signed in by a page of another site is signed in as somebody else.
            (None, Access::Public { .. }) if grants => Csrf::Strict,
            (Some((CsrfOption::Off, _)), _) | (None, Access::Public { .. }) => Csrf::Off,
            (Some((CsrfOption::Token(token), at)), _) => self.submit(token, at, access),
        }
    }

    /// `csrf: token`: names that can be what they are.
    fn submit(&self, options: &TokenOptions, at: At, access: &Access) -> Csrf {
        let (accepted, usual) = match access {
            Access::Public { .. } => (Vec::new(), "__Host-csrf-visitor"),
            Access::Session(session) => {
                let cookies = session.accept.iter().filter_map(|accept| match accept {
                    Accept::Cookie { name, .. }
                    | Accept::Session { cookie: name }
                    | Accept::AppSession { cookie: name, .. } => Some(&**name),
                    Accept::Bearer { .. }
                    | Accept::Dpop { .. }
                    | Accept::ApiKey { .. }
                    | Accept::ExtAuth { .. }
                    | Accept::Certificate { .. } => None,
                });
                (cookies.collect::<Vec<_>>(), "__Host-csrf")
            }
        };
        let shown = |accept: &Accept| matches!(accept, Accept::Certificate { .. });
        if matches!(access, Access::Session(session) if accepted.is_empty() && !session.accept.iter().any(shown)) {
            let hint = "a page cannot make a browser send a bearer token; leave `csrf` out";
            self.report.hinted(at, "the route accepts no cookie, so no token is ever asked for", Some(hint));
        }
        let cookie = options.cookie.as_ref().map_or(usual, |name| {
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            let rest = name.strip_prefix("__Host-").unwrap_or_default();
            if rest.is_empty() || !rest.bytes().all(token) || name.len() > 64 {
                let message = format!("`{}` cannot be the cookie of a token", name.value);
                let hint = "begin it with `__Host-`: then no sibling host and nobody without TLS can set it";
                self.report.hinted(name.at, message, Some(hint));
            }
            if accepted.contains(&name.as_str()) {
                let hint = "scripts may read a token, and must not read a session";
                self.report.hinted(name.at, format!("`{}` is the cookie of a session", name.value), Some(hint));
            }
            name.as_str()
        });
        let header = match (&options.header, &options.field) {
            (None, None) => Some(HeaderName::from_static("x-csrf-token")),
            (None, Some(_)) => None,
            (Some(name), _) => {
                let read = HeaderName::from_bytes(name.as_bytes()).ok().filter(|read| read.as_str().starts_with("x-"));
                if read.is_none() {
                    let hint = "a header of its own such as `x-csrf-token`, which no form can send";
                    self.report.hinted(
                        name.at,
                        format!("`{}` cannot be the header of a token", name.value),
                        Some(hint),
                    );
                }
                read
            }
        };
        let field = match (&options.field, &options.header) {
            (None, None) => Some("csrf_token"),
            (None, Some(_)) => None,
            (Some(name), _) => {
                if name.is_empty() || name.len() > 64 || !name.bytes().all(|b| b.is_ascii_graphic()) {
                    self.report.problem(name.at, format!("`{}` cannot be the field of a token", name.value));
                }
                Some(name.as_str())
            }
        };
        let max_age = self.within(&options.max_age, seconds(600), seconds(30 * 86_400));
        let inspect = self.within(&options.inspect, Size(128), Size(32 << 10));
        Csrf::Token(Box::new(Submit {
            cookie: cookie.into(),
            header,
            field: field.map(Box::from),
            max_age_s: u32::try_from(max_age.seconds()).unwrap_or(u32::MAX),
            inspect: usize::try_from(inspect.0).unwrap_or(usize::MAX),
        }))
    }

    /// Reports tokens that nobody can get, and cookies that hold two kinds of token.
    pub(super) fn tokens(&self, routes: &[Arc<Route>]) {
        let written = |route: &Route| self.options.routes.iter().find(|(name, _)| name.value == *route.name);
        for route in routes {
            let Csrf::Token(submit) = &route.csrf else { continue };
            let Some(at) = written(route).and_then(|(_, options)| options.csrf.as_ref()).map(|csrf| csrf.at) else {
                continue;
            };
            let others = || {
                let same =
                    |other: &&Arc<Route>| matches!(&other.csrf, Csrf::Token(theirs) if theirs.cookie == submit.cookie);
                routes.iter().filter(same)
            };
            if !others().any(|other| other.methods.contains(Method::Get)) {
                let hint = "say `csrf: token` also of the route that serves the page with the form";
                let message = format!("no page sets the cookie `{}`: no route with it serves GET", submit.cookie);
                self.report.hinted(at, message, Some(hint));
            }
            let public = |route: &Route| matches!(route.access, Access::Public { .. });
            if let Some(other) = others().find(|other| public(route) && !public(other)) {
                let message = format!("the tokens of route `{}` in the same cookie are bound to a session", other.name);
                self.report.hinted(at, message, Some("name another `cookie` for public routes"));
            }
        }
    }

    /// The keys of tokens, where any route has some: those that are written, those that `sealing` is done with where the
    /// operator has written these, or one made once in the state folder.
    pub(in crate::config::compile) fn csrf_keys(
        &self,
        rules: &Rules,
        server: &Server,
        sealing: &SealingKeys,
    ) -> Arc<Keys> {
        let sessions = &self.options.sessions;
        if !rules.routes.iter().any(|route| matches!(route.csrf, Csrf::Token(_))) {
            if let Some(place) = &sessions.csrf_keys {
                let hint = "write `csrf: token` at a route, or remove it";
                self.report.hinted(place.at, "keys of tokens that no route asks for", Some(hint));
            }
            return Arc::new(Keys::derive([]));
        }
        let keys = match (&sessions.csrf_keys, &sessions.keys) {
            (Some(place), _) => self.read_keys(place),
            (None, Some(_)) => sealing.clone(),
            (None, None) => SealingKeys::new(vec![self.made_csrf_key(server)]),
        };
        Arc::new(Keys::derive(keys.iter().map(<[u8; 32]>::as_slice)))
    }

    fn made_csrf_key(&self, server: &Server) -> [u8; 32] {
        match self.world.purpose {
            Purpose::Check => [0; 32],
            Purpose::Run => pepper::read_or_make(&server.state_dir, "csrf-key").unwrap_or_else(|error| {
                self.report.problem(At::file(0), format!("`server.state_dir` cannot be used: {error}").to_lowercase());
                [0; 32]
            }),
        }
    }
}

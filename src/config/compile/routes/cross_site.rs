//! What other origins and other sites may fetch and read: `isolation` and `cors`.
use crate::config::compile::Compiler;
use crate::config::options::{CorsOptions, CorsRules, IsolationOption, RouteOptions};
use crate::config::read::Spanned;
use decide::cors::{Cors, Origins, Sharing, check_origin};
use decide::headers::Profile;
use decide::request::{Method, Methods};
use decide::rules::{Accept, Access, Isolation, RouteTenant, Rules};
use http::{HeaderName, HeaderValue};
use std::collections::HashSet;

impl Compiler<'_> {
    /// Reports a text that is not an origin as browsers write it.
    pub(in crate::config::compile) fn origin(&self, origin: &Spanned<String>) {
        if let Err(wrong) = check_origin(origin) {
            let message = format!("`{}` is not an origin: {}", origin.value, wrong.message);
            self.report.hinted(origin.at, message, Some(wrong.hint));
        }
    }

    /// `cors`; `methods` are those of the route.
    pub(super) fn cors(
        &self,
        options: &RouteOptions,
        methods: Methods,
        tenant: &RouteTenant,
        rules: &Rules,
    ) -> Option<Cors> {
        let Some(cors) = &options.cors else { return Some(Cors::Closed) };
        let written = match &cors.value {
            CorsOptions::Application => return Some(Cors::Application),
            CorsOptions::Rules(written) => written,
        };
        let sharing = Sharing {
            origins: self.shared_with(cors, written, options, tenant, rules)?,
            methods: self.open_methods(&written.methods, methods),
            headers: self.names_of_headers(&written.headers).iter().map(|name| Box::from(name.as_str())).collect(),
            expose: self.exposed(&written.expose),
            credentials: written.credentials,
            max_age_s: u32::try_from(written.max_age.value.seconds()).unwrap_or(u32::MAX),
            private_network: written.private_network,
        };
        if !(1..=86_400).contains(&sharing.max_age_s) {
            let hint = "anything from `1s` to `1d` will do";
            self.report.hinted(written.max_age.at, "browsers remember a preflight for a second to a day", Some(hint));
        }
        Some(Cors::Shared(Box::new(sharing)))
    }

    fn shared_with(
        &self,
        cors: &Spanned<CorsOptions>,
        written: &CorsRules,
        options: &RouteOptions,
        tenant: &RouteTenant,
        rules: &Rules,
    ) -> Option<Origins> {
        match (written.origins.as_slice(), &written.origins_from) {
            ([], None) | ([_, ..], Some(_)) => {
                let hint = "write `origins: [\"https://app.example.com\"]`, or `origins_from: tenant.embed_origins`";
                self.report.hinted(cors.at, "`cors` has exactly one of `origins` and `origins_from`", Some(hint));
                None
            }
            ([], Some(from)) => {
                // A preflight carries no session.
                let unknown = match tenant {
                    RouteTenant::None | RouteTenant::Session => true,
                    RouteTenant::Resolve => rules.resolve.is_empty(),
                    RouteTenant::Param { .. } => false,
                };
                if unknown {
                    let hint = "list the origins, or let host or path name the tenant";
                    self.report.hinted(from.at, "no request of this route names its tenant", Some(hint));
                }
                Some(Origins::Tenant)
            }
            ([any], None) if any.value == "*" => {
                if written.credentials || options.public.is_none() {
                    let hint = "list the origins; `*` is for public routes without `credentials`";
                    self.report.hinted(any.at, "everybody could read what a user may see", Some(hint));
                }
                Some(Origins::Any)
            }
            (origins, None) => {
                let mut seen = HashSet::new();
                for origin in origins {
                    self.origin(origin);
                    if !seen.insert(&origin.value) {
                        self.report.problem(origin.at, format!("`{}` stands twice", origin.value));
                    }
                }
                Some(Origins::Listed(origins.iter().map(|origin| Box::from(origin.as_str())).collect()))
            }
        }
    }

    fn open_methods(&self, written: &[Spanned<String>], of_route: Methods) -> Methods {
        if written.is_empty() {
            return of_route;
        }
        let known = written.iter().filter_map(|text| {
            let method = Method::parse(text).filter(|method| of_route.contains(*method));
            if method.is_none() {
                self.report.problem(text.at, format!("the route does not serve `{}`", text.value));
            }
            method
        });
        known.fold(Methods::default(), Methods::with)
    }

    fn names_of_headers(&self, written: &[Spanned<String>]) -> Vec<HeaderName> {
        let names = written.iter().filter_map(|text| {
            let name = HeaderName::from_bytes(text.as_bytes()).ok().filter(|_| text.value != "*");
            if name.is_none() {
                let hint = "names one by one; `*` would let credentials through that you have not thought of";
                self.report.hinted(text.at, format!("`{}` is not the name of a header", text.value), Some(hint));
            }
            name
        });
        names.collect()
    }

    fn exposed(&self, written: &[Spanned<String>]) -> Option<HeaderValue> {
        let names = self.names_of_headers(written);
        let line = names.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(", ");
        HeaderValue::try_from(line).ok().filter(|line| !line.is_empty())
    }
}

/// `isolation`, with the default of the route's kind.
pub(super) fn isolation(written: Option<IsolationOption>, access: &Access, profile: Option<&Profile>) -> Isolation {
    match written {
        Some(IsolationOption::None) => return Isolation::Off,
        Some(IsolationOption::SameSite) => return Isolation::SameSite,
        Some(IsolationOption::SameOrigin) => return Isolation::SameOrigin,
        None => {}
    }
    let Access::Session(session) = access else { return Isolation::Off };
    let ambient = session.accept.iter().any(Accept::is_ambient);
    let framed = profile.is_some_and(Profile::framed_by_others);
    if ambient && !framed { Isolation::SameSite } else { Isolation::Off }
}

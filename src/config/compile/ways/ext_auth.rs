//! `ext_auth` and the routes that ask it.
use crate::config::compile::traces::is_loopback;
use crate::config::compile::{Compiler, Noun};
use crate::config::options::ExtAuthOptions;
use crate::config::read::Spanned;
use crate::config::settings::ExtAuth;
use crate::config::units::{Period, seconds};
use decide::rules::{API_KEY, Accept};
use http::{HeaderName, Uri, header};
use std::sync::Arc;
use std::time::Duration;

/// Headers that frame a message, or that we write ourselves: none of them is a credential.
const OURS: [HeaderName; 9] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
    header::FORWARDED,
];

impl Compiler<'_> {
    /// All services, in the order of the file.
    pub(in crate::config::compile) fn ext_auths(&self) -> Vec<Arc<ExtAuth>> {
        self.options.ext_auth.iter().filter_map(|(name, options)| self.ext_auth(name, options).map(Arc::new)).collect()
    }

    /// What a route accepts that names one.
    pub(in crate::config::compile) fn asks(&self, name: &Spanned<String>) -> Accept {
        self.refer(Noun::ExtAuth, name, self.names("ext_auth").into_iter());
        let options = self.options.ext_auth.find(name);
        let cookie = |options: &ExtAuthOptions| options.send.iter().any(|name| name.eq_ignore_ascii_case("cookie"));
        Accept::ExtAuth { name: Arc::from(name.as_str()), ambient: options.is_none_or(cookie) }
    }

    fn ext_auth(&self, name: &Spanned<String>, options: &ExtAuthOptions) -> Option<ExtAuth> {
        if name.value == API_KEY || self.names("issuers").contains(&name.as_str()) {
            let message = format!("`{}` is the name of somebody else who vouches for users", name.value);
            self.report.hinted(name.at, message, Some("choose another name"));
        }
        let url = self.service_url(&options.url, options.plaintext.as_ref());
        if options.send.is_empty() {
            let hint = "write what it decides by: `send: [cookie]`";
            self.report.hinted(
                options.send.at,
                "a service that is told nothing cannot say who somebody is",
                Some(hint),
            );
        }
        let send: Vec<HeaderName> = options.send.iter().filter_map(|name| self.credential_header(name)).collect();
        let said = &options.identity;
        let timeout = Period(Duration::from_millis(10));
        self.within(&options.timeout, timeout, seconds(10));
        self.within(&options.max_age, seconds(1), seconds(86_400));
        Some(ExtAuth {
            name: Arc::from(name.as_str()),
            ca: options.ca.as_ref().map(|ca| {
                self.exists(ca);
                let path = self.files.folder.join(&ca.value);
                self.files.watch(path.clone());
                path
            }),
            send,
            subject: self.credential_header(&said.subject)?,
            tenant: said.tenant.as_ref().and_then(|name| self.credential_header(name)),
            roles: said.roles.as_ref().and_then(|name| self.credential_header(name)),
            timeout: options.timeout.0,
            max_age_s: options.max_age.seconds(),
            max_in_flight: self.within(&options.max_in_flight, 1, 100_000),
            url: url?,
        })
    }

    fn credential_header(&self, name: &Spanned<String>) -> Option<HeaderName> {
        let header = HeaderName::from_bytes(name.as_bytes()).ok().filter(|header| {
            let ours = header.as_str().starts_with("x-original-") || header.as_str().starts_with("x-forwarded-");
            !OURS.contains(header) && !ours
        });
        if header.is_none() {
            self.report.problem(name.at, format!("`{}` cannot be a header that says who somebody is", name.value));
        }
        header
    }

    fn service_url(&self, url: &Spanned<String>, plaintext: Option<&Spanned<String>>) -> Option<Uri> {
        let read = url.parse::<Uri>().ok().filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
                && !url.contains('#')
        });
        let Some(uri) = read else {
            self.report.problem(url.at, format!("`{}` is no http or https URL", url.value));
            return None;
        };
        let clear = uri.scheme_str() == Some("http") && !is_loopback(uri.host().unwrap_or_default());
        match plaintext {
            None if clear => {
                let hint = "write `https://`, or say why not: `plaintext: \"<reason>\"`";
                self.report.hinted(url.at, "credentials would cross the network in the clear", Some(hint));
            }
            Some(reason) if reason.trim().is_empty() => self.report.problem(reason.at, "plaintext needs a reason"),
            Some(reason) if !clear => {
                self.report.problem(reason.at, "`plaintext` is for http to other machines");
            }
            Some(_) | None => {}
        }
        Some(uri)
    }
}

//! `client_certificates`, and the listeners and routes that name them.
use crate::config::compile::{Compiler, Noun, list};
use crate::config::options::{
    AskedCertificates, CertificateSubject, CertificateTenant, ClientCertificateOptions, ForwardCertificate,
    ListenerOptions, MapFile,
};
use crate::config::read::Spanned;
use crate::config::settings::{AskedOfClients, ClientAuthority, ClientCertificates, ListenerKind};
use aws_lc_rs::digest::{Context, SHA256};
use decide::certificate::{Holders, Pattern, Subject, Tenant, Told, WrongPattern};
use decide::policy::nearest;
use decide::rules::{API_KEY, Accept, Rules};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Authorities by the name of their entry.
pub(in crate::config::compile) type Authorities = BTreeMap<String, Arc<ClientAuthority>>;

/// What is known of a revocation list.
struct List {
    der: CertificateRevocationListDer<'static>,
    /// Whose it is: the name of an authority, in DER.
    issuer: Vec<u8>,
    next_update_s: u64,
}

/// SHA-256 over all of them, each with its length before it.
fn digest<'d>(parts: impl Iterator<Item = &'d [u8]>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

impl Compiler<'_> {
    /// The authorities of all entries.
    pub(in crate::config::compile) fn client_authorities(&self) -> Authorities {
        let entries = self.options.client_certificates.iter();
        entries
            .filter_map(|(name, options)| Some((name.value.clone(), Arc::new(self.client_authority(name, options)?))))
            .collect()
    }

    fn client_authority(&self, name: &Spanned<String>, options: &ClientCertificateOptions) -> Option<ClientAuthority> {
        let taken = |section: &str| self.names(section).contains(&name.as_str());
        if name.value == API_KEY || taken("issuers") || taken("ext_auth") {
            let message = format!("`{}` is the name of somebody else who vouches for users", name.value);
            self.report.hinted(name.at, message, Some("choose another name"));
        }
        let authorities = self.authorities(&options.ca);
        let lists: Vec<Option<List>> = options.crl.iter().map(|file| self.revocation_list(file)).collect();
        let (authorities, lists) = (authorities?, lists.into_iter().collect::<Option<Vec<List>>>()?);
        if !lists.is_empty() {
            self.all_listed(&options.ca, &authorities, &lists);
        }
        let build = |enforce: bool| {
            let mut roots = RootCertStore::empty();
            for authority in &authorities {
                roots.add(authority.clone()).map_err(|error| error.to_string())?;
            }
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let builder = builder.with_crls(lists.iter().map(|list| list.der.clone()));
            let builder = if enforce { builder.enforce_revocation_expiration() } else { builder };
            builder.build().map_err(|error| error.to_string())
        };
        let (strict, late) = match (build(true), build(false)) {
            (Ok(strict), Ok(late)) => (strict, late),
            (Err(error), _) | (_, Err(error)) => {
                let hint = "lists must be of version 2, with the extensions that RFC 5280, 5.2 asks for";
                let message = format!("`client_certificates.{}` cannot be used: {error}", name.value);
                self.report.hinted(options.ca.at, message, Some(hint));
                return None;
            }
        };
        let next_update_s = lists.iter().map(|list| list.next_update_s).min();
        Some(ClientAuthority {
            name: Arc::from(name.as_str()),
            roots: digest(authorities.iter().map(|der| der.as_ref())),
            lists: digest(lists.iter().map(|list| list.der.as_ref())),
            next_update_s,
            strict,
            late,
        })
    }

    /// One list, PEM or DER.
    fn revocation_list(&self, file: &Spanned<String>) -> Option<List> {
        let bytes = self.pem(&self.files.folder.join(&file.value), &file.value, file.at)?;
        let der = match CertificateRevocationListDer::from_pem_slice(&bytes) {
            Ok(list) => list,
            Err(_) => CertificateRevocationListDer::from(bytes),
        };
        let read = x509_parser::parse_x509_crl(&der).ok().map(|(_, list)| {
            let next = list.next_update().map(|at| u64::try_from(at.timestamp()).unwrap_or_default());
            (list.issuer().as_raw().to_vec(), next)
        });
        let Some((issuer, next)) = read else {
            let hint = "expected is one X509 CRL, PEM or DER";
            self.report.hinted(file.at, format!("`{}` holds no revocation list", file.value), Some(hint));
            return None;
        };
        let Some(next_update_s) = next else {
            let hint = "make it anew with `nextUpdate` (openssl: `-crldays`)";
            self.report.hinted(file.at, format!("`{}` does not say when it is out of date", file.value), Some(hint));
            return None;
        };
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        // What was good when it was kept must be good to start from: requests with such certificates are refused.
        if next_update_s <= now_s && !self.files.is_kept() {
            let hint = "fetch the authority's newest list";
            self.report.hinted(file.at, format!("`{}` is out of date", file.value), Some(hint));
        }
        Some(List { der, issuer, next_update_s })
    }

    /// An authority without list could vouch for nobody, once there are lists.
    fn all_listed(&self, ca: &Spanned<String>, authorities: &[CertificateDer<'_>], lists: &[List]) {
        for authority in authorities {
            let Ok((_, parsed)) = x509_parser::parse_x509_certificate(authority) else { continue };
            if !lists.iter().any(|list| *list.issuer == *parsed.subject().as_raw()) {
                let message = format!("there is no revocation list of `{}` in `crl`", parsed.subject());
                let hint = "add its list, or take it out of `ca`: none of its certificates would be accepted";
                self.report.hinted(ca.at, message, Some(hint));
            }
        }
    }

    /// What a listener asks of its clients.
    pub(in crate::config::compile) fn asked_of_clients(
        &self,
        asked: &Spanned<AskedCertificates>,
        kind: &ListenerKind,
        edge: bool,
        known: &Authorities,
    ) -> Option<Arc<AskedOfClients>> {
        match kind {
            ListenerKind::Tls { .. } => {}
            ListenerKind::Redirect { .. } | ListenerKind::Plaintext => {
                let hint = "only a listener with TLS can ask for a certificate";
                self.report.hinted(asked.at, "`client_certificates` on a listener without TLS", Some(hint));
            }
        }
        if edge {
            let hint = "a connection shows one certificate: that of the CDN; write a second listener";
            let message = "`client_certificates` beside `client_ip.edge.client_certificate`";
            self.report.hinted(asked.at, message, Some(hint));
        }
        if asked.accept.is_empty() {
            self.report.problem(asked.accept.at, "`accept` is empty: nobody's certificate would be good");
        }
        let mut authorities: Vec<Arc<ClientAuthority>> = Vec::new();
        for name in asked.accept.iter() {
            self.refer(Noun::ClientCertificates, name, self.names("client_certificates").into_iter());
            if authorities.iter().any(|one| *one.name == *name.value) {
                self.report.problem(name.at, format!("`{}` stands twice", name.value));
            }
            authorities.extend(known.get(name.as_str()).cloned());
        }
        Some(Arc::new(AskedOfClients { authorities, required: asked.required }))
    }

    /// Authorities and holders together.
    pub(in crate::config::compile) fn client_certificates(
        &self,
        authorities: Authorities,
        rules: &Rules,
    ) -> BTreeMap<Arc<str>, ClientCertificates> {
        let entries = self.options.client_certificates.iter().filter_map(|(name, options)| {
            let authority = authorities.get(name.as_str());
            let holders = self.holders(name, options, rules).map(Arc::new);
            Some((Arc::from(name.as_str()), ClientCertificates { authority: authority?.clone(), holders }))
        });
        entries.collect()
    }

    fn holders(&self, name: &Spanned<String>, options: &ClientCertificateOptions, rules: &Rules) -> Option<Holders> {
        self.known_roles(&options.roles, rules);
        let tenant = options.tenant.as_ref().map(|tenant| (self.certificate_tenant(tenant, rules), tenant.at));
        let Some(matches) = &options.matches else {
            if !options.roles.is_empty() || tenant.is_some() {
                let hint = "write which names are meant: `match: {dns: [\"*.partner.example\"]}`";
                self.report.hinted(name.at, "`tenant` and `roles` of nobody: there is no `match`", Some(hint));
            }
            return None;
        };
        let mut patterns = Vec::new();
        let mut read = |names: &[Spanned<String>], parse: fn(&str) -> Result<Pattern, WrongPattern>| {
            for name in names {
                match parse(name) {
                    Ok(pattern) => patterns.push((pattern, name.at)),
                    Err(wrong) => {
                        let message = format!("`{}` matches no name: {wrong}", name.value);
                        self.report.hinted(name.at, message, Some(wrong.hint));
                    }
                }
            }
        };
        read(&matches.spiffe, Pattern::spiffe);
        read(&matches.dns, Pattern::dns);
        read(&matches.email, Pattern::email);
        if matches.spiffe.is_empty() && matches.dns.is_empty() && matches.email.is_empty() {
            self.report.problem(matches.at, "`match` names nobody");
        }
        let naming = patterns.iter().any(|(pattern, _)| pattern.names_tenant());
        let tenant = match tenant {
            Some((_, at)) if naming => {
                self.report.problem(at, "`tenant` and `{tenant}` in `match`: one of them says whose the holder is");
                return None;
            }
            Some((tenant, _)) => tenant?,
            None if naming => {
                for (pattern, at) in patterns.iter().filter(|(pattern, _)| !pattern.names_tenant()) {
                    let hint = "write `{tenant}` in each of them, or in none";
                    self.report.hinted(*at, format!("`{pattern}` names no tenant, and others do"), Some(hint));
                }
                Tenant::Caught
            }
            None => Tenant::None,
        };
        Some(Holders {
            name: Arc::from(name.as_str()),
            patterns: patterns.into_iter().map(|(pattern, _)| pattern).collect(),
            subject: match options.subject {
                CertificateSubject::Name => Subject::Name,
                CertificateSubject::Fingerprint => Subject::Fingerprint,
            },
            tenant,
            roles: options.roles.iter().map(|role| Arc::from(role.as_str())).collect(),
        })
    }

    fn certificate_tenant(&self, tenant: &Spanned<CertificateTenant>, rules: &Rules) -> Option<Tenant> {
        match &tenant.value {
            CertificateTenant::Fixed(id) => {
                let id = Spanned { value: id.clone(), at: tenant.at };
                self.known_tenant(&id, &rules.tenants).map(Tenant::Fixed)
            }
            CertificateTenant::Map(file) => {
                let file = self.files.load::<MapFile>(&file.map, file.map.at)?;
                let pairs = file
                    .map
                    .iter()
                    .filter_map(|(name, id)| Some((Box::from(name.as_str()), self.known_tenant(id, &rules.tenants)?)));
                Some(Tenant::Map(pairs.collect()))
            }
        }
    }

    /// Reports roles that do not exist.
    pub(in crate::config::compile) fn known_roles(&self, roles: &[Spanned<String>], rules: &Rules) {
        for role in roles {
            if !rules.policy.roles().any(|(known, _)| **known == *role.value) {
                let known: Vec<&str> = rules.policy.roles().map(|(name, _)| &**name).collect();
                let hint = nearest(&role.value, known.iter().copied()).or_else(|| list(known.into_iter()));
                self.report.hinted(role.at, format!("unknown role `{}`", role.value), hint);
            }
        }
    }

    /// What a route accepts that names an entry.
    pub(in crate::config::compile) fn certificate(&self, name: &Spanned<String>) -> Accept {
        let known = self.refer(Noun::ClientCertificates, name, self.names("client_certificates").into_iter());
        let entry = self.options.client_certificates.find(name);
        if entry.is_some_and(|entry| entry.matches.is_none()) {
            let hint = "write which names are meant: `match: {dns: [\"*.partner.example\"]}`";
            self.report.hinted(name.at, format!("`client_certificates.{}` has no `match`", name.value), Some(hint));
        }
        if known && !self.asked_for(name) {
            let hint = format!("write `client_certificates: {{accept: [{}]}}` at a listener", name.value);
            self.report.hinted(name.at, format!("no listener accepts certificates of `{}`", name.value), Some(hint));
        }
        Accept::Certificate { name: Arc::from(name.as_str()) }
    }

    /// What a route tells its application of certificates.
    pub(in crate::config::compile) fn told(&self, written: &Spanned<ForwardCertificate>) -> Told {
        let told = match written.value {
            ForwardCertificate::None => return Told::Nothing,
            ForwardCertificate::Leaf => Told::Leaf,
            ForwardCertificate::Chain => Told::Chain,
        };
        let asks = |options: &ListenerOptions| options.client_certificates.is_some();
        let read = self.names("listeners").len() == self.options.listeners.0.len();
        if read && !self.options.listeners.iter().any(|(_, options)| asks(options)) {
            let hint = "write `client_certificates: {accept: [NAME]}` at a listener, or leave it out";
            self.report.hinted(written.at, "no listener asks for certificates to forward", Some(hint));
        }
        told
    }

    /// Whether some listener accepts certificates of this entry; those that could not be read may.
    fn asked_for(&self, name: &str) -> bool {
        let read = self.names("listeners").len() == self.options.listeners.0.len();
        !read
            || self.options.listeners.iter().any(|(listener, options)| {
                let accepts = |asked: &Spanned<AskedCertificates>| asked.accept.iter().any(|one| one.value == name);
                options.client_certificates.as_ref().is_some_and(accepts) || self.report.is_tainted(listener.at)
            })
    }
}

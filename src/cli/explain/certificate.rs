//! `moat explain --certificate FILE`: whom a certificate is taken for.
use crate::config::cases::judge;
use crate::config::options::{CarrierOption, CaseCaller, CaseRequest};
use crate::config::problem::At;
use crate::config::read::Spanned;
use crate::config::settings::{Snapshot, Standing};
use crate::serve::client_certificates;
use anyhow::{Context, Result};
use decide::certificate::Shown;
use decide::facts::{Carrier, Identity};
use decide::rules::{Accept, Access};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// A chain, and what its first certificate says.
pub(super) struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    shown: Shown,
}

/// Reads the certificates of a PEM file.
pub(super) fn read(file: &Path) -> Result<Chain> {
    let of = || format!("`{}`", file.display());
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect).with_context(of)?;
    let (shown, _) = client_certificates::read(&certificates).with_context(of)?;
    Ok(Chain { certificates, shown })
}

/// Says what each entry makes of a certificate, and has the request come from whom the route takes its holder for.
pub(super) fn tell(
    out: &mut impl Write,
    snapshot: &Snapshot,
    chain: &Chain,
    request: &mut CaseRequest,
) -> io::Result<()> {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    writeln!(out, "certificate {}", chain.shown.fingerprint)?;
    let mut known = Vec::new();
    for (name, entry) in &snapshot.client_certificates {
        let worth = match entry.authority.judge(&chain.certificates, now_s) {
            Standing::Good => match entry.holders.as_ref().map(|holders| holders.identify(&chain.shown)) {
                Some(Ok(identity)) => Ok(identity),
                Some(Err(cause)) => Err(cause.to_owned()),
                None => Err("good, and nobody: there is no `match`".to_owned()),
            },
            Standing::Expired => Err("expired".to_owned()),
            Standing::Revoked => Err("revoked".to_owned()),
            Standing::Strange(cause) => Err(format!("not vouched for: {cause}")),
            Standing::Unclear => Err("a revocation list is out of date, or missing".to_owned()),
        };
        let text = match &worth {
            Ok(identity) => {
                let of = identity.tenant.as_ref().map(|tenant| format!(" of tenant {tenant}")).unwrap_or_default();
                format!("{}{of}", identity.subject.0)
            }
            Err(cause) => cause.clone(),
        };
        writeln!(out, "  {name:<14} {text}")?;
        known.extend(worth);
    }
    let found = judge(snapshot, request).ok().and_then(|judged| judged.found);
    let accept = match found.as_ref().map(|found| &found.route.access) {
        Some(Access::Session(rules)) => rules.accept.as_slice(),
        Some(Access::Public { .. }) | None => &[],
    };
    let fits = |accept: &Accept| known.iter().find(|one| accept.fits(&one.issuer, Carrier::Certificate));
    request.caller = accept.iter().find_map(fits).map(caller);
    Ok(())
}

fn caller(identity: &Identity) -> CaseCaller {
    let spanned = |text: &str| Spanned { value: text.to_owned(), at: At::default() };
    CaseCaller {
        subject: Some(identity.subject.0.to_string()),
        tenant: identity.tenant.as_ref().map(ToString::to_string),
        roles: identity.roles.iter().map(|role| spanned(role)).collect(),
        issuer: Some(spanned(&identity.issuer)),
        by: Some(CarrierOption::Certificate),
        amr: Some(Vec::new()),
        ..CaseCaller::default()
    }
}

//! `upstreams.X.tls` → the authorities and the certificate themselves: their files are part of the bundle.
use crate::config::compile::Compiler;
use crate::config::files::reason;
use crate::config::options::{ClientCertificate, UpstreamTlsOptions};
use crate::config::problem::At;
use crate::config::read::Spanned;
use crate::config::settings::{ClientPair, UpstreamTls};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Greatest size of a file: all public authorities together have a quarter of it.
const MAX_PEM: u64 = 1 << 20;

impl Compiler<'_> {
    pub(super) fn upstream_tls(&self, options: &Spanned<UpstreamTlsOptions>) -> Option<UpstreamTls> {
        let name = &options.server_name;
        let server_name = ServerName::try_from(name.value.clone()).ok();
        if server_name.is_none() {
            let hint = "it is what the application's certificate must hold, without scheme and port";
            self.report.hinted(name.at, format!("`{}` is no host name and no address", name.value), Some(hint));
        }
        let authorities = options.ca.as_ref().map(|ca| self.authorities(ca));
        let client = options.client_certificate.as_ref().map(|client| self.client(client));
        // What is wrong with one does not hide what is wrong with the other.
        Some(UpstreamTls {
            server_name: server_name?,
            authorities: authorities.map_or(Some(None), |list| list.map(Some))?,
            client: client.map_or(Some(None), |pair| pair.map(Some))?,
        })
    }

    pub(in crate::config::compile) fn authorities(
        &self,
        name: &Spanned<String>,
    ) -> Option<Vec<CertificateDer<'static>>> {
        let chain = self.certificates(&self.files.folder.join(&name.value), &name.value, name.at)?;
        let mut roots = rustls::RootCertStore::empty();
        let bad = chain.iter().find(|certificate| roots.add((*certificate).clone()).is_err());
        if bad.is_some() {
            self.report.problem(name.at, format!("`{}` holds a certificate that cannot be an authority", name.value));
            return None;
        }
        Some(chain)
    }

    fn client(&self, option: &Spanned<ClientCertificate>) -> Option<ClientPair> {
        let at = option.at;
        let (certificate, key) = match &option.value {
            ClientCertificate::Files(files) => (files.certificate.clone(), files.key.clone()),
            ClientCertificate::Pair(name) => {
                let Some(tls) = &self.options.tls else {
                    let hint = "write `{certificate: FILE, key: FILE}`";
                    self.report.hinted(at, "there is no `tls.certificates` to take a pair from", Some(hint));
                    return None;
                };
                if name.is_empty() || name.contains('/') {
                    let hint = "write NAME of NAME.crt and NAME.key in `tls.certificates`";
                    self.report.hinted(at, format!("`{name}` cannot be the NAME of a pair"), Some(hint));
                    return None;
                }
                let folder = PathBuf::from(&tls.certificates.value);
                let file =
                    |end: &str| Spanned { value: folder.join(format!("{name}.{end}")).display().to_string(), at };
                (file("crt"), file("key"))
            }
        };
        let chain = self.certificates(&self.files.folder.join(&certificate.value), &certificate.value, certificate.at);
        let pem = self.pem(&self.files.folder.join(&key.value), &key.value, key.at);
        let (chain, pem) = (chain?, pem?);
        let Ok(private) = PrivateKeyDer::from_pem_slice(&pem) else {
            self.report.problem(key.at, format!("`{}` holds no private key", key.value));
            return None;
        };
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let Ok(signer) = provider.key_provider.load_private_key(private.clone_key()) else {
            let hint = "use ECDSA P-256 or P-384, Ed25519, or RSA from 2048 bits";
            self.report.hinted(key.at, format!("`{}` holds a key that cannot be used", key.value), Some(hint));
            return None;
        };
        if rustls::sign::CertifiedKey::new(chain.clone(), signer).keys_match().is_err() {
            let message =
                format!("the key in `{}` does not belong to the certificate in `{}`", key.value, certificate.value);
            self.report.hinted(at, message, Some("replace both files together; the leaf comes first in the chain"));
            return None;
        }
        Some(ClientPair { chain, key: private })
    }

    /// At least one certificate, each of them whole.
    fn certificates(&self, path: &Path, name: &str, at: At) -> Option<Vec<CertificateDer<'static>>> {
        let pem = self.pem(path, name, at)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let whole = |der: &CertificateDer<'_>| x509_parser::parse_x509_certificate(der).is_ok();
        match chain {
            Ok(chain) if !chain.is_empty() && chain.iter().all(whole) => Some(chain),
            Ok(_) | Err(_) => {
                let hint = "expected is a PEM file with CERTIFICATE blocks";
                self.report.hinted(at, format!("`{name}` holds no certificates"), Some(hint));
                None
            }
        }
    }

    /// A file of the bundle: a change of it is a change of the bundle.
    pub(in crate::config::compile) fn pem(&self, path: &Path, name: &str, at: At) -> Option<Vec<u8>> {
        self.files.watch(path.to_owned());
        let mut pem = Vec::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(MAX_PEM + 1).read_to_end(&mut pem));
        match read {
            Ok(size) if size as u64 <= MAX_PEM => Some(pem),
            Ok(_) => {
                self.report.problem(at, format!("`{name}` is larger than 1 MiB"));
                None
            }
            Err(error) => {
                self.report.problem(at, format!("`{name}` {}", reason(&error)));
                None
            }
        }
    }
}

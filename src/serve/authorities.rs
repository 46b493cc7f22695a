//! Whom the gateway believes when it is the client: TLS settings for what it fetches and sends by itself.
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;
use std::sync::Arc;

/// TLS 1.2 or 1.3 under the file's authorities and no others, or under the system's. Reads files: call it off the async
/// threads. The error is for the operator.
pub fn client_tls(ca: Option<&Path>) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    match ca {
        Some(path) => {
            let shown = path.display();
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| format!("`{shown}`: {error}"))? {
                let certificate = certificate.map_err(|error| format!("`{shown}`: {error}"))?;
                roots.add(certificate).map_err(|error| format!("`{shown}`: {error}"))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err("no certificate authority to trust".to_owned());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// An error with its causes: hyper alone says only `client error`.
pub fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

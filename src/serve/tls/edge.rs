//! The certificate that a delivery network must show in the handshake, and its names.
use super::provider;
use crate::config::settings::EdgeCertificate;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;

/// Makes a handshake without this certificate fail.
pub(super) fn verifier(wanted: &EdgeCertificate) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    let fail = |error: &dyn std::fmt::Display| format!("the authorities of the edge cannot be used: {error}");
    for authority in &wanted.authorities {
        roots.add(authority.clone()).map_err(|error| fail(&error))?;
    }
    let authorities = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    let authorities = authorities.map_err(|error| fail(&error))?;
    Ok(Arc::new(OfEdge { authorities, names: wanted.names.clone() }))
}

/// Verifies the chain, then the name.
#[derive(Debug)]
struct OfEdge {
    authorities: Arc<dyn ClientCertVerifier>,
    names: Vec<ServerName<'static>>,
}

impl ClientCertVerifier for OfEdge {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authorities.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.authorities.verify_client_cert(leaf, between, now)?;
        let parsed = ParsedCertificate::try_from(leaf)?;
        let named = self.names.is_empty() || self.names.iter().any(|name| verify_server_name(&parsed, name).is_ok());
        if named { Ok(verified) } else { Err(Error::InvalidCertificate(CertificateError::NotValidForName)) }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

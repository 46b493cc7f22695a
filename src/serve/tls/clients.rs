//! The certificates that a listener asks its clients for, in the handshake.
use super::provider;
use crate::config::settings::AskedOfClients;
use crate::serve::client_certificates;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::sync::Arc;

/// Makes a handshake fail in which a client shows a certificate that is not good, or, where there must be one, none.
pub(super) fn verifier(asked: &Arc<AskedOfClients>) -> Arc<dyn ClientCertVerifier> {
    let mut hints: Vec<DistinguishedName> = Vec::new();
    for hint in asked.authorities.iter().flat_map(|authority| authority.hints()) {
        if !hints.iter().any(|known| known.as_ref() == hint.as_ref()) {
            hints.push(hint.clone());
        }
    }
    Arc::new(OfClients { asked: asked.clone(), hints })
}

#[derive(Debug)]
struct OfClients {
    asked: Arc<AskedOfClients>,
    hints: Vec<DistinguishedName>,
}

impl ClientCertVerifier for OfClients {
    fn client_auth_mandatory(&self) -> bool {
        self.asked.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<CertificateDer<'_>> = [leaf].into_iter().chain(between).cloned().collect();
        client_certificates::read(&chain).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let mut worst = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for authority in &self.asked.authorities {
            match authority.admit(&chain, now.as_secs()) {
                Ok(()) => return Ok(ClientCertVerified::assertion()),
                // That another one does not know it says less than what its own says of it.
                Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {}
                Err(error) => worst = error,
            }
        }
        Err(worst)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signature, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

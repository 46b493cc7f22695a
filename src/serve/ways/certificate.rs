//! The certificate that the client showed in the handshake.
use super::Way;
use crate::serve::client_certificates::{Worth, objection};
use decide::facts::Answer;

/// Judges the certificate of the connection as one of `client_certificates.NAME`; `None` where it has none.
pub(super) fn verify(way: Way<'_>, name: &str) -> Option<Worth> {
    let presented = way.conn.client_certificate.as_deref()?;
    Some(match way.active.snapshot.client_certificates.get(name) {
        Some(certificates) => presented.worth(certificates, way.facts.at_s()),
        None => Worth::Other("there are no such certificates".to_owned()),
    })
}

/// What stands against the connection's holding the certificate with this thumbprint, to which a token is bound (RFC 8705,
/// 3); `None` where it holds it.
pub(super) fn unheld(way: Way<'_>, thumbprint: &str) -> Option<Answer> {
    let door = way.active.door(&way.conn.listener);
    let settings = door.map_or(&way.conn.settings, |door| &door.settings);
    let asked = settings.client_certificates.as_deref();
    objection(asked, way.conn.client_certificate.as_deref(), thumbprint, way.facts.at_s())
}

//! Options of client certificates: who vouches for them, and whom they are taken for.
use crate::config::read::Spanned;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Certificates of clients under authorities of your choice. Listeners ask for them (`listeners.X.client_certificates`), and
/// routes take their holders for somebody (`auth: {certificate: NAME}`).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificateOptions {
    /// PEM file with the authorities that vouch for them. A change takes effect without a restart. Danger: whoever these
    /// authorities sign a fitting name for is that somebody; public authorities sign for everybody.
    pub ca: Spanned<String>,
    /// Files with certificate revocation lists (CRL), PEM or DER: one of each authority, and of each authority between it and
    /// the client's certificate. A change takes effect without a restart, on open connections too. From its `nextUpdate` on,
    /// no certificate of that authority is accepted (`gateway.unavailable`) until a newer list is there. Default: none.
    /// Danger of none: a stolen certificate is good until it expires.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crl: Vec<Spanned<String>>,
    /// Names of which a certificate must hold one; exactly one of its names may match. Default: no route can accept these
    /// certificates as somebody; tokens may be bound to them.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<Spanned<CertificateMatchOptions>>,
    /// What the holder is called: `name`, the name that matched, or `fingerprint`, the SHA-256 of the certificate in hex.
    #[serde(default)]
    pub subject: CertificateSubject,
    /// Whose the holder is: a tenant's id, or `{map: FILE}` with the tenant of each name (`map: {NAME: TENANT}`). Default:
    /// what stands in the place of `{tenant}` in `match`, or nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Spanned<CertificateTenant>>,
    /// Roles of `policies.roles`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Spanned<String>>,
}

/// Names of a certificate (subjectAltName). The common name is not read.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CertificateMatchOptions {
    /// SPIFFE IDs, `spiffe://example.org/ns/*/sa/*`: the trust domain in full, `*` for one segment, `{tenant}` for one that
    /// names the tenant, `/**` at the end for any that follow. A certificate with more than one URI is refused. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spiffe: Vec<Spanned<String>>,
    /// Host names, `api.partner.example`; the first label may be `*` or `{tenant}`. Names with a star in the certificate match
    /// nothing. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Spanned<String>>,
    /// Mail addresses, `ops@partner.example` or `*@partner.example`. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub email: Vec<Spanned<String>>,
}

/// `client_certificates.X.subject`
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CertificateSubject {
    /// The name that matched.
    #[default]
    Name,
    /// SHA-256 of the certificate, in hex.
    Fingerprint,
}

/// `client_certificates.X.tenant`
#[derive(Clone, Debug)]
pub enum CertificateTenant {
    /// This tenant.
    Fixed(String),
    /// As a file says.
    Map(CertificateTenants),
}

/// Tenants of names of certificates.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateTenants {
    /// File with the tenant of each name. A name that is not in it is refused.
    pub map: Spanned<String>,
}

impl<'de> Deserialize<'de> for CertificateTenant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = CertificateTenant;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a tenant's id or `{map: FILE}`")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<CertificateTenant, E> {
                Ok(CertificateTenant::Fixed(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CertificateTenant, A::Error> {
                CertificateTenants::deserialize(MapAccessDeserializer::new(map)).map(CertificateTenant::Map)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Serialize for CertificateTenant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            CertificateTenant::Fixed(id) => serializer.serialize_str(id),
            CertificateTenant::Map(map) => map.serialize(serializer),
        }
    }
}

impl JsonSchema for CertificateTenant {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CertificateTenant".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<CertificateTenants>();
        json_schema!({ "anyOf": [{ "type": "string", "title": "a tenant's id" }, map] })
    }
}

/// `listeners.X.client_certificates`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AskedCertificates {
    /// Names under `client_certificates`: whose certificates are good here. At least one.
    pub accept: Spanned<Vec<Spanned<String>>>,
    /// Whether a connection without such a certificate is closed in the handshake. Otherwise it goes on, and routes decide; one
    /// that is not good is refused either way.
    #[serde(default)]
    pub required: bool,
}

/// `forward_certificate`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ForwardCertificate {
    /// Nothing.
    #[default]
    None,
    /// The client's certificate, in `Client-Cert`.
    Leaf,
    /// And what it showed with it, in `Client-Cert-Chain`.
    Chain,
}

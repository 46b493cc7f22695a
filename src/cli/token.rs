//! `moat token`: a short-lived token of the development identity provider, to try a gateway with.
use super::certs::Files;
use anyhow::{Context, Result, bail};
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Issuer of development tokens, as the repository's `gateway.yaml` has it: where `moat demo` runs its provider.
pub const DEV_ISSUER: &str = "https://127.0.0.1:9443/";

/// Audience of development tokens.
pub const DEV_AUDIENCE: &str = "northlane-api";

/// Longest life of a development token.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// `moat token`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Roles, separated by commas
    #[arg(long = "as", value_name = "ROLES", value_delimiter = ',')]
    roles: Vec<String>,
    /// The tenant that the session belongs to
    #[arg(long)]
    tenant: Option<String>,
    /// The user
    #[arg(long, default_value = "dev-user")]
    sub: String,
    /// How long ago the user signed in
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    auth_age: Duration,
    /// How long the token lives
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    lifetime: Duration,
    /// Authentication context class
    #[arg(long)]
    acr: Option<String>,
    /// `iss`
    #[arg(long, value_name = "URL", default_value = DEV_ISSUER)]
    issuer_url: String,
    /// `aud`
    #[arg(long, default_value = DEV_AUDIENCE)]
    audience: String,
    /// Name of the claim that holds the tenant
    #[arg(long, value_name = "NAME", default_value = "org_id")]
    tenant_claim: String,
    /// Name of the claim that holds the roles
    #[arg(long, value_name = "NAME", default_value = "roles")]
    roles_claim: String,
    /// Signing key, ECDSA P-256 in PKCS#8 PEM [default: certs/dev/idp.key]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// What a token says.
#[derive(Clone, Debug)]
pub struct Grant {
    /// `iss`
    pub issuer: String,
    /// `aud`
    pub audience: String,
    /// `sub`
    pub subject: String,
    /// The tenant, and the name of its claim.
    pub tenant: Option<String>,
    /// Name of the tenant's claim.
    pub tenant_claim: String,
    /// Roles.
    pub roles: Vec<String>,
    /// Name of the roles' claim.
    pub roles_claim: String,
    /// Time since the user signed in.
    pub auth_age: Duration,
    /// `exp` - `iat`, at most a day.
    pub lifetime: Duration,
    /// `acr`
    pub acr: Option<String>,
}

impl Default for Grant {
    /// A user without tenant and roles, signed in now, for ten minutes.
    fn default() -> Grant {
        Grant {
            issuer: DEV_ISSUER.to_owned(),
            audience: DEV_AUDIENCE.to_owned(),
            subject: "dev-user".to_owned(),
            tenant: None,
            tenant_claim: "org_id".to_owned(),
            roles: Vec::new(),
            roles_claim: "roles".to_owned(),
            auth_age: Duration::ZERO,
            lifetime: Duration::from_secs(600),
            acr: None,
        }
    }
}

/// The signing key of the development identity provider: ECDSA P-256, tokens say ES256.
pub struct DevKey {
    private: EncodingKey,
    public: Jwk,
    kid: String,
}

impl DevKey {
    /// Reads a key that `moat certs dev` made.
    pub fn load(path: &Path) -> Result<DevKey> {
        let pem =
            std::fs::read(path).with_context(|| format!("`{}`\nhint: `moat certs dev` makes a key", path.display()))?;
        DevKey::from_pem(&pem).with_context(|| format!("`{}`", path.display()))
    }

    /// Reads PKCS#8 PEM.
    pub fn from_pem(pem: &[u8]) -> Result<DevKey> {
        let private = EncodingKey::from_ec_pem(pem).context("not an ECDSA key in PKCS#8 PEM")?;
        let mut public = Jwk::from_encoding_key(&private, Algorithm::ES256).context("not an ECDSA P-256 key")?;
        if !matches!(public.algorithm, AlgorithmParameters::EllipticCurve(_)) {
            bail!("not an ECDSA P-256 key");
        }
        let kid = public.thumbprint(ThumbprintHash::SHA256)?;
        public.common.key_id = Some(kid.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(DevKey { private, public, kid })
    }

    /// Its id: the RFC 7638 thumbprint.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The key set (RFC 7517) with its public half.
    pub fn jwks(&self) -> Result<String> {
        Ok(serde_json::to_string(&JwkSet { keys: vec![self.public.clone()] })?)
    }
}

/// Signs a token (RFC 9068) that begins at `now_s`, seconds since the epoch.
pub fn mint(key: &DevKey, grant: &Grant, now_s: u64) -> Result<String> {
    if grant.lifetime.is_zero() || grant.lifetime > MAX_LIFETIME {
        bail!("a development token lives between a second and a day");
    }
    let mut claims = json!({
        "iss": grant.issuer,
        "aud": grant.audience,
        "sub": grant.subject,
        "client_id": "moat-dev",
        "jti": uuid::Uuid::now_v7().to_string(),
        "sid": uuid::Uuid::now_v7().to_string(),
        "iat": now_s,
        "exp": now_s.saturating_add(grant.lifetime.as_secs()),
        "auth_time": now_s.saturating_sub(grant.auth_age.as_secs()),
    });
    let mut set = |name: &str, value: Option<Value>| -> Result<()> {
        let (Some(value), Some(claims)) = (value, claims.as_object_mut()) else { return Ok(()) };
        match claims.insert(name.to_owned(), value) {
            None => Ok(()),
            Some(_) => bail!("`{name}` names another claim already"),
        }
    };
    set(&grant.tenant_claim, grant.tenant.clone().map(Value::from))?;
    set(&grant.roles_claim, Some(json!(grant.roles)))?;
    set("acr", grant.acr.clone().map(Value::from))?;
    let mut header = Header::new(Algorithm::ES256);
    header.typ = Some("at+jwt".to_owned());
    header.kid = Some(key.kid.clone());
    Ok(jsonwebtoken::encode(&header, &claims, &key.private)?)
}

/// Runs `moat token …`: the token, and nothing else, on stdout.
pub fn run(args: Args) -> Result<ExitCode> {
    let path = args.key.unwrap_or_else(|| Files::below(Path::new("certs")).idp_key);
    let grant = Grant {
        issuer: args.issuer_url,
        audience: args.audience,
        subject: args.sub,
        tenant: args.tenant,
        tenant_claim: args.tenant_claim,
        roles: args.roles,
        roles_claim: args.roles_claim,
        auth_age: args.auth_age,
        lifetime: args.lifetime,
        acr: args.acr,
    };
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let token = mint(&DevKey::load(&path)?, &grant, now_s)?;
    writeln!(std::io::stdout().lock(), "{token}")?;
    Ok(ExitCode::SUCCESS)
}

/// `90s`, `5m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let unit = |suffix: &str, seconds: u64| {
        let number = text.strip_suffix(suffix)?.parse::<u64>().ok()?;
        number.checked_mul(seconds).map(Duration::from_secs)
    };
    unit("s", 1)
        .or_else(|| unit("m", 60))
        .or_else(|| unit("h", 3600))
        .ok_or_else(|| "not a duration such as `90s`, `5m` or `1h`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use decide::token::{ClaimName, ClaimNames, IssuerRules, KeySet, verify};

    const NOW: u64 = 1_800_000_000;

    fn key() -> DevKey {
        DevKey::from_pem(rcgen::KeyPair::generate().unwrap().serialize_pem().as_bytes()).unwrap()
    }

    #[test]
    fn a_minted_token_passes_the_gateways_own_verification() {
        let key = key();
        let (keys, skipped) = KeySet::parse(key.jwks().unwrap().as_bytes()).unwrap();
        assert!(skipped.is_empty(), "{skipped:?}");
        assert_eq!(keys.key_ids(), [key.kid()]);
        let rules = IssuerRules {
            name: "dev".into(),
            issuer: DEV_ISSUER.into(),
            audiences: vec![DEV_AUDIENCE.into()],
            algorithms: vec![decide::token::Algorithm::Es256],
            token_types: vec!["at+jwt".into()],
            clock_skew_s: 0,
            max_lifetime_s: Some(600),
            claims: ClaimNames { tenant: ClaimName::new("org_id"), ..ClaimNames::default() },
            firebase: false,
            ours: false,
            session_pepper: [0; 32],
        };
        let grant = Grant {
            tenant: Some("acme".into()),
            roles: vec!["cashier".into()],
            auth_age: Duration::from_secs(300),
            acr: Some("mfa".into()),
            ..Grant::default()
        };
        let identity = verify(&mint(&key, &grant, NOW).unwrap(), &rules, &keys, NOW).unwrap();
        assert_eq!((&*identity.subject.0, identity.tenant.as_deref()), ("dev-user", Some("acme")));
        assert_eq!(identity.roles, vec!["cashier".into()] as Vec<std::sync::Arc<str>>);
        assert_eq!((identity.auth_time, identity.expires_at), (Some(NOW - 300), NOW + 600));
        assert_eq!(identity.acr.as_deref(), Some("mfa"));
        assert!(identity.session.is_some());
    }

    /// RFC 7638, 3.1 fixes members and order; the same digest made by hand.
    #[test]
    fn the_key_id_is_the_thumbprint() {
        use base64::Engine as _;
        let key = key();
        let jwks: Value = serde_json::from_str(&key.jwks().unwrap()).unwrap();
        let jwk = &jwks["keys"][0];
        let text = format!("{{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":{},\"y\":{}}}", jwk["x"], jwk["y"]);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        assert_eq!(key.kid(), base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest));
        assert!(jwk.get("d").is_none());
    }

    #[test]
    fn what_cannot_be_minted() {
        let key = key();
        for grant in [
            Grant { lifetime: Duration::ZERO, ..Grant::default() },
            Grant { lifetime: Duration::from_secs(24 * 3600 + 1), ..Grant::default() },
            Grant { tenant: Some("acme".into()), tenant_claim: "sub".into(), ..Grant::default() },
            Grant { roles_claim: "exp".into(), ..Grant::default() },
        ] {
            assert!(mint(&key, &grant, NOW).is_err(), "{grant:?}");
        }
        assert!(DevKey::from_pem(b"").is_err());
        let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        assert!(DevKey::from_pem(ed25519.serialize_pem().as_bytes()).is_err());
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert!(DevKey::from_pem(p384.serialize_pem().as_bytes()).is_err());
    }

    #[test]
    fn durations_carry_units() {
        for (text, seconds) in
            [("90s", Some(90)), ("5m", Some(300)), ("1h", Some(3600)), ("5", None), ("-1s", None), ("s", None)]
        {
            assert_eq!(duration(text).ok(), seconds.map(Duration::from_secs), "{text}");
        }
    }
}

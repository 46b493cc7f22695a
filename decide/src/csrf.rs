//! Signed double-submit tokens: evidence of a page of our own, for those who do not say where they ask from.
//!
//! A page is given a token in a cookie, and sends it a second time in a header or in a field of its form. A page of another
//! origin can do neither: it cannot read the cookie, and a browser that knows the prefix `__Host-` lets no sibling host and
//! nobody without TLS set it. Where one could be set all the same, it would have to be a token of ours for the very session
//! that the request is made in: a token holds a message authentication code over host, tenant and session.
//!
//! A token is `base64url(nonce ‖ time ‖ code)`, 75 characters. A younger token of the same nonce is the same token: a page
//! that has been open for hours still holds a good one when the cookie was renewed meanwhile.
#[cfg(test)]
mod tests;

use crate::cookie;
use crate::facts::Identity;
use crate::refusal::{Code, Refusal};
use aws_lc_rs::{constant_time, hkdf, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, HeaderValue};

const NONCE: usize = 16;
const TIME: usize = 8;
const CODE: usize = 32;
/// Characters of a token.
pub const LENGTH: usize = (NONCE + TIME + CODE) * 4 / 3 + 1;
/// How far the clock of the replica that made a token may be ahead, seconds.
const SKEW_S: u64 = 60;

/// `csrf: token` of a route: where its tokens stand, and how long they are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submit {
    /// The cookie. Its name begins with `__Host-`.
    pub cookie: Box<str>,
    /// The header that a script sends it in. Without one, scripts cannot read the cookie.
    pub header: Option<HeaderName>,
    /// The field that a form sends it in.
    pub field: Option<Box<str>>,
    /// How long a token is good, seconds.
    pub max_age_s: u32,
    /// The longest form that is looked into, bytes.
    pub inspect: usize,
}

/// Whom a token is for. A visitor without a session has a token of this host and tenant only: with such a one, all hangs
/// on the cookie being the visitor's own.
#[derive(Clone, Copy, Debug)]
pub struct Holder<'a> {
    /// The host of the request, in its canonical form.
    pub host: &'a str,
    /// The tenant's id.
    pub tenant: Option<&'a str>,
    /// Who has signed in.
    pub identity: Option<&'a Identity>,
}

/// The keys of the codes: the first signs, all verify.
pub struct Keys(Vec<hmac::Key>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    /// Keys of their own, derived from these secrets.
    pub fn derive<'s>(secrets: impl IntoIterator<Item = &'s [u8]>) -> Keys {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"moat csrf token");
        let key = |secret: &[u8]| {
            let derived = salt.extract(secret);
            derived.expand(&[b"v1"], hmac::HMAC_SHA256).ok().map(hmac::Key::from)
        };
        // Of a fixed length within the bounds of HKDF, so none is lost. Were one, its tokens would not verify.
        Keys(secrets.into_iter().filter_map(key).collect())
    }
}

/// A token that verified, or is about to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token {
    nonce: [u8; NONCE],
    issued_s: u64,
}

impl Token {
    /// Reads a token. The cause of a refusal never holds any of it.
    fn read(text: &str, keys: &Keys, holder: &Holder<'_>, now_s: u64, max_age_s: u32) -> Result<Token, &'static str> {
        let mut bytes = [0; NONCE + TIME + CODE];
        if text.len() != LENGTH || URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) != Ok(bytes.len()) {
            return Err("is no token");
        }
        let (nonce, rest) = bytes.split_first_chunk::<NONCE>().ok_or("is no token")?;
        let (time, code) = rest.split_first_chunk::<TIME>().ok_or("is no token")?;
        let token = Token { nonce: *nonce, issued_s: u64::from_be_bytes(*time) };
        let covered = token.covered(holder);
        if !keys.0.iter().any(|key| hmac::verify(key, &covered, code).is_ok()) {
            return Err("is of another session, tenant, host or key");
        }
        if token.issued_s > now_s.saturating_add(SKEW_S) || now_s.saturating_sub(token.issued_s) >= u64::from(max_age_s)
        {
            return Err("is too old");
        }
        Ok(token)
    }

    /// What the code covers. Each part has its length before it, and says whether it is there at all.
    fn covered(&self, holder: &Holder<'_>) -> Vec<u8> {
        let session = holder.identity.and_then(|identity| identity.session.as_deref());
        let subject = holder.identity.filter(|_| session.is_none()).map(|identity| &*identity.subject.0);
        let issuer = holder.identity.map(|identity| &*identity.issuer);
        let mut out = Vec::with_capacity(256);
        for part in [Some(holder.host), holder.tenant, issuer, session, subject] {
            match part {
                Some(text) => {
                    out.push(1);
                    out.extend_from_slice(&(text.len() as u64).to_be_bytes());
                    out.extend_from_slice(text.as_bytes());
                }
                None => out.push(0),
            }
        }
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.issued_s.to_be_bytes());
        out
    }

    /// Signed with the first key.
    fn write(&self, keys: &Keys, holder: &Holder<'_>) -> Option<String> {
        let code = hmac::sign(keys.0.first()?, &self.covered(holder));
        Some(URL_SAFE_NO_PAD.encode([&self.nonce, self.issued_s.to_be_bytes().as_slice(), code.as_ref()].concat()))
    }
}

/// What verification goes by.
#[derive(Clone, Copy, Debug)]
pub struct Desk<'a> {
    /// Where the route's tokens stand.
    pub submit: &'a Submit,
    /// The keys.
    pub keys: &'a Keys,
    /// Whom they are for.
    pub holder: Holder<'a>,
    /// Wall clock, seconds since the epoch.
    pub now_s: u64,
}

impl Desk<'_> {
    /// Whether `sent` is the token that the cookie holds, and one for this holder. `cookies` are the `Cookie` headers.
    /// Refuses with `csrf.unproven` also where there are two of these cookies.
    pub fn check<'c>(&self, cookies: impl IntoIterator<Item = &'c [u8]>, sent: &str) -> Result<(), Refusal> {
        let refuse = |what: &str, cause: &str| Err(Refusal::new(Code::CsrfUnproven, format!("{what} {cause}")));
        let cookie = match cookie::find(cookies, &self.submit.cookie) {
            Ok(Some(cookie)) => cookie,
            Ok(None) => return refuse("the token's cookie", "is missing"),
            Err(ambiguous) => return refuse("of the token's cookie:", &ambiguous.cause),
        };
        let kept = match self.read(cookie) {
            Ok(kept) => kept,
            Err(cause) => return refuse("the token in the cookie", cause),
        };
        let sent = match self.read(sent) {
            Ok(sent) => sent,
            Err(cause) => return refuse("the token that was sent", cause),
        };
        match constant_time::verify_slices_are_equal(&kept.nonce, &sent.nonce) {
            Ok(()) => Ok(()),
            Err(_) => refuse("the token that was sent", "is not the one of the cookie"),
        }
    }

    /// `Set-Cookie` for a page, where the client has no token that is good for half of its time yet. A cookie that is
    /// still good keeps its nonce; otherwise `random` gives one.
    pub fn due<'c>(
        &self,
        cookies: impl IntoIterator<Item = &'c [u8]>,
        random: impl FnOnce() -> [u8; NONCE],
    ) -> Option<HeaderValue> {
        let Submit { cookie: name, header, max_age_s, .. } = self.submit;
        let kept = cookie::find(cookies, name).ok().flatten().and_then(|text| self.read(text).ok());
        if kept.is_some_and(|kept| self.now_s.saturating_sub(kept.issued_s) < u64::from(max_age_s / 2)) {
            return None;
        }
        let token = Token { nonce: kept.map_or_else(random, |kept| kept.nonce), issued_s: self.now_s };
        let text = token.write(self.keys, &self.holder)?;
        let hidden = if header.is_some() { "" } else { "; HttpOnly" };
        let line = format!("{name}={text}; Path=/; Max-Age={max_age_s}; Secure; SameSite=Lax{hidden}");
        HeaderValue::try_from(line).ok()
    }

    fn read(&self, text: &str) -> Result<Token, &'static str> {
        Token::read(text, self.keys, &self.holder, self.now_s, self.submit.max_age_s)
    }
}

//! The profile of answers that belong to no route: refusals before routing, and the gateway's own pages.
use super::options::{CacheOptions, CookieOptions, CspOptions, HstsOptions, PermissionsOptions, ProfileOptions, Ramp};
use super::options::{CspMode, SetOptions};
use super::profile::Profile;
use std::collections::BTreeMap;

/// Name of the built-in profile.
const NAME: &str = "built-in";

impl Profile {
    /// The strictest profile: nothing loads, nothing frames, nothing is stored. HSTS for a year, without subdomains,
    /// because the gateway does not know whom it would speak for.
    pub fn strict() -> Profile {
        let file = BTreeMap::from([(NAME.to_owned(), options())]);
        Profile::compile(NAME, &file).unwrap_or_else(|_| Profile::empty(NAME))
    }
}

fn options() -> ProfileOptions {
    let none = || vec!["'none'".to_owned()];
    let directives = ["default-src", "base-uri", "form-action", "frame-ancestors"].map(|d| (d.to_owned(), none()));
    let plain = [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("x-permitted-cross-domain-policies", "none"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
    ];
    let hsts =
        HstsOptions { max_age: "1y".to_owned(), include_subdomains: false, preload: false, ramp: Ramp::default() };
    let csp = CspOptions {
        mode: CspMode::Enforce,
        nonce: false,
        directives: directives.into(),
        report_directives: BTreeMap::new(),
        report_to: None,
        unsafe_because: None,
    };
    let deny = ["camera", "microphone", "geolocation", "payment", "usb"].map(str::to_owned).into();
    ProfileOptions {
        extends: None,
        set: SetOptions {
            hsts: Some(hsts),
            csp: Some(csp),
            permissions: Some(PermissionsOptions { deny, allow: BTreeMap::new() }),
            plain: plain.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        },
        add_if_missing: BTreeMap::new(),
        remove: ["server", "x-powered-by", "via"].map(str::to_owned).into(),
        cookies: Some(CookieOptions::default()),
        cache: Some(CacheOptions { authenticated: Some("no-store".to_owned()) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_profile_compiles() {
        let file = BTreeMap::from([(NAME.to_owned(), options())]);
        assert_eq!(Profile::compile(NAME, &file), Ok(Profile::strict()));
        assert_ne!(Profile::strict(), Profile::empty(NAME));
    }
}

//! `decide::headers`: whatever an application sends, its answer is dressed once and for all, and cookies stay valid.
use crate::input;
use decide::headers::options::ProfileOptions;
use decide::headers::{DressContext, Nonce, Profile, dress};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::collections::BTreeMap;
use std::sync::LazyLock;

static PROFILES: LazyLock<Vec<Profile>> = LazyLock::new(|| {
    // The strict profile of the example, in the form in which options are read.
    let options = serde_json::json!({
        "plain": {},
        "strict": {
            "set": {
                "x-content-type-options": "nosniff",
                "referrer-policy": "no-referrer",
                "cross-origin-opener-policy": "same-origin",
                "cross-origin-resource-policy": "same-origin",
                "cache-control": "private, no-cache",
                "content-security-policy": {
                    "nonce": true,
                    "directives": {
                        "default-src": ["'self'"], "script-src": ["'nonce'", "'strict-dynamic'"],
                        "object-src": ["'none'"], "base-uri": ["'none'"], "frame-ancestors": ["'none'"]
                    }
                }
            },
            "cookies": { "secure": true, "http_only": true, "same_site": "lax" }
        }
    });
    let options: BTreeMap<String, ProfileOptions> =
        serde_json::from_value(options).expect("options are in the form of the reference");
    options.keys().map(|name| Profile::compile(name, &options).expect("a profile")).collect()
});

pub fn run(data: &[u8]) {
    let (bits, rest) = input::number(data);
    let mut answer = HeaderMap::new();
    for (name, value) in input::fields(rest) {
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) else { continue };
        answer.append(name, value);
    }
    let nonce = Nonce::new([3; 16]);
    let cx = DressContext {
        tls: bits & 1 == 0,
        now_s: 1_800_000_000,
        status: if bits & 2 == 0 { StatusCode::OK } else { StatusCode::NOT_MODIFIED },
        authenticated: bits & 4 == 0,
        nonce: Some(&nonce).filter(|_| bits & 8 == 0),
        embed_origins: &[],
    };
    for profile in PROFILES.iter() {
        let mut dressed = answer.clone();
        dress(&mut dressed, profile, &cx);
        let mut twice = dressed.clone();
        let counts = dress(&mut twice, profile, &cx);
        assert_eq!(twice, dressed, "dressing twice is not dressing once");
        assert_eq!((counts.fixed, counts.removed), (0, 0), "a cookie is corrected twice");
        if &**profile.name() == "strict" {
            strict(&dressed, &answer);
        }
    }
}

fn strict(dressed: &HeaderMap, answer: &HeaderMap) {
    assert_eq!(dressed.get_all("x-content-type-options").iter().collect::<Vec<_>>(), ["nosniff"]);
    assert_eq!(dressed.get_all("referrer-policy").iter().count(), 1);
    assert!(dressed.get_all("content-security-policy").iter().count() >= 1);
    let names = |map: &HeaderMap| -> Vec<Vec<u8>> {
        let lines = map.get_all("set-cookie").iter();
        lines.map(|line| line.as_bytes().split(|b| *b == b'=').next().unwrap().trim_ascii().to_vec()).collect()
    };
    let before = names(answer);
    for (line, name) in dressed.get_all("set-cookie").iter().zip(names(dressed)) {
        assert!(before.contains(&name), "a cookie of nobody's");
        let attributes: Vec<String> = line
            .as_bytes()
            .split(|b| *b == b';')
            .skip(1)
            .map(|a| String::from_utf8_lossy(a.trim_ascii()).to_lowercase())
            .collect();
        let has = |wanted: &str| attributes.iter().any(|a| a.split('=').next().map(str::trim_ascii) == Some(wanted));
        assert!(has("secure") && has("httponly") && has("samesite"), "{line:?}");
    }
}

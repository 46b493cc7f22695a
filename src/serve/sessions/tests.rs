//! The cookie of a session, and whose answers carry it.
use super::*;
use crate::config::settings::{Rotation, SealingKeys};
use http::HeaderMap;
use http::header::CACHE_CONTROL;

fn held() -> Held {
    Held::new(Arc::new(Browser {
        cookie: "__Host-nl".into(),
        same_site: SameSite::Lax,
        idle: Duration::from_secs(60),
        absolute: Duration::from_secs(600),
        rotation: Rotation { every: None, on_step_up: true, on_role_change: true },
        reuse_leeway: Duration::from_secs(10),
        exchange: Vec::new(),
        grant: None,
        keys: SealingKeys::new(vec![[7; 32]]),
    }))
}

fn cookies(fields: &HeaderMap) -> Vec<&str> {
    fields.get_all(SET_COOKIE).iter().map(|line| line.to_str().unwrap()).collect()
}

#[test]
fn an_answer_that_caches_share_carries_no_handle() {
    for (said, carries, becomes) in [
        (None, true, "private"),
        (Some("private, max-age=5"), true, "private, max-age=5"),
        (Some("no-store"), true, "no-store"),
        (Some("public, max-age=60"), false, "public, max-age=60"),
        (Some("max-age=60"), false, "max-age=60"),
    ] {
        let mut fields = HeaderMap::new();
        fields.extend(said.map(|said| (CACHE_CONTROL, HeaderValue::from_static(said))));
        held().hand("h").unwrap().give(&mut fields);
        assert_eq!(cookies(&fields).len(), usize::from(carries), "{said:?}");
        assert_eq!(fields[CACHE_CONTROL], becomes);
    }
    let mut fields = HeaderMap::new();
    Hand { cookie: HeaderValue::from_static("x"), until: Instant::now() - Duration::from_millis(1) }.give(&mut fields);
    assert!(fields.is_empty(), "a late answer carries none");
}

#[test]
fn nobody_else_sets_our_cookie() {
    let mut fields = HeaderMap::new();
    for line in [
        "a=1; Path=/",
        "__Host-nl=fixed; Secure",
        " __HOST-NL =x",
        "__Host-nl",
        "__Host-nlx=1",
        "__host-moat-signed-in=1",
    ] {
        fields.append(SET_COOKIE, HeaderValue::from_static(line));
    }
    held().guard(&mut fields);
    assert_eq!(cookies(&fields), ["a=1; Path=/", "__Host-nlx=1"]);
    assert_eq!(held().cookie("h").unwrap(), "__Host-nl=h; Path=/; Secure; HttpOnly; SameSite=Lax");
    assert_eq!(held().no_cookie().unwrap(), "__Host-nl=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0");
}

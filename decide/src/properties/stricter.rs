//! Every way in which a made-up route asks for more.
use super::*;

/// Every way to ask for more, one at a time; those that the setup already asks for come out equal.
pub(super) fn stricter(setup: &Setup) -> Vec<(&'static str, Setup)> {
    let with = |change: &dyn Fn(&mut Setup)| {
        let mut setup = setup.clone();
        change(&mut setup);
        setup
    };
    let less = |value: Option<u64>, most: u64| Some(value.map_or(most, |value| value.min(most)));
    let mut all = vec![
        ("a permission", with(&|s| s.permission = true)),
        ("a younger authentication", with(&|s| s.step_up_age_s = less(s.step_up_age_s, 10))),
        ("a stronger authentication", with(&|s| s.step_up_acr = true)),
        (
            "one more method",
            with(&|s| {
                if !s.step_up_amr.contains(&"otp") {
                    s.step_up_amr.push("otp");
                }
            }),
        ),
        ("proof of origin", with(&|s| s.csrf = Csrf::Strict)),
        (
            "proof of origin or a token",
            with(&|s| {
                if s.csrf == Csrf::Off {
                    s.csrf = token()
                }
            }),
        ),
        ("reads from our own origin", with(&|s| s.isolation = Isolation::SameOrigin)),
        ("a limit by address", with(&|s| s.address_limit = true)),
        ("a limit by caller", with(&|s| s.caller_limit = true)),
        ("a limit by a field", with(&|s| s.body_limit = true)),
        ("a smaller body", with(&|s| s.max_bytes = less(s.max_bytes, 5))),
        ("no body with GET", with(&|s| s.body_with_get = false)),
        ("a body of a kind", with(&|s| s.content_types = true)),
        ("a suspension", with(&|s| s.suspended = true)),
        ("other addresses", with(&|s| s.ip_allow = s.ip_allow.or(Some("10.0.0.0/8")))),
        ("issuers", with(&|s| s.issuers = true)),
        ("a second factor", with(&|s| s.mfa_required = true)),
        ("a younger session", with(&|s| s.max_auth_age_s = less(s.max_auth_age_s, 10))),
        ("nothing in shadow", with(&|s| s.shadow.clear())),
    ];
    // A public route that asks everybody for proof of origin asks for something else than a session, which a bearer
    // token has without.
    if setup.csrf == Csrf::Off {
        all.push(("a session", with(&|s| s.session = true)));
    }
    if setup.when.is_none() {
        all.push(("a condition", with(&|s| s.when = Some("request.method == \"GET\""))));
    }
    for guard in &setup.shadow {
        all.push(("one guard less in shadow", with(&|s| s.shadow.retain(|g| g != guard))));
    }
    all
}

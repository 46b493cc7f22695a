//! Mistakes in limits: each with its message and place.

const MISTAKES: &[(&str, &str, &str)] = &[
    (
        "burst: 2x",
        "concurrent: 0",
        "limits.yaml:3:63 expected at least `1`, found `0` (anything from `1` to `1000000` will do)",
    ),
    (
        "burst: 2x",
        "burst: 2x, cost: 21",
        "limits.yaml:3:68 a cost of 21 is more than the burst of 20 (no request would ever pass; raise `burst`)",
    ),
    (
        "burst: 2x",
        "concurrent: {gold: 0}",
        "limits.yaml:3:70 expected at least `1`, found `0` (anything from `1` to `1000000` will do)",
    ),
    (
        "rate: {gold: 10/s}, burst: 2x",
        "concurrent: {golden: 3}",
        "gateway.yaml:11:17 unknown class `gold` (did you mean `golden`?)",
    ),
    ("burst: 2x", "cost: 0", "limits.yaml:3:57 a cost of 0 limits nothing (leave the limit out)"),
    ("burst: 2x", "count: []", "limits.yaml:3:58 an empty `count` counts nothing"),
    (
        "burst: 2x",
        "count: [401, 9xx]",
        "limits.yaml:3:64 `9xx` is no status of an answer (write `401`, `5xx` and the like; interim answers do not count)",
    ),
    (
        "burst: 2x",
        "count: failures, cost: {by_response: {header: x-cost, max: 9}}",
        "limits.yaml:3:58 `count` and `cost.by_response` are two ways to charge; choose one",
    ),
    (
        "burst: 2x",
        "cost: {by_response: {header: set-cookie, max: 9}}",
        "limits.yaml:3:80 `set-cookie` means something else, and would be taken out of every answer (have the application use a name of its own)",
    ),
    ("burst: 2x", "cost: {by_response: {max: 9}}", "limits.yaml:3:57 `by_response` needs either `header` or `bytes`"),
    (
        "burst: 2x",
        "on_exceed: {delay: 5m}",
        "limits.yaml:3:70 expected at most `1m`, found `5m` (anything from `10ms` to `1m` will do)",
    ),
    (
        "burst: 2x",
        "inspect: 1KiB",
        "limits.yaml:3:60 limit `calm` looks into no body (it is of keys such as `form.username_hash`)",
    ),
    (
        "key: [tenant, user]",
        "key: [route.nope]",
        "gateway.yaml:27:19 limit `calm` counts by `{nope}`, and `/orders/{id}` has none",
    ),
    (
        "rate_limits: [calm]",
        "rate_limits: [{limit: calm, cost: 21}]",
        "gateway.yaml:27:19 a cost of 21 is more than the burst of 20 (no request would ever pass; raise `burst`)",
    ),
    (
        "key: [tenant, user]",
        "key: [tenant, form.username]",
        "limits.yaml:3:24 `form.username` names no field's hash (a field is only ever counted by its hash: write `form.username_hash`)",
    ),
];

#[test]
fn every_mistake_in_a_limit_has_its_message_and_place() {
    super::told(MISTAKES);
}

#[test]
fn what_a_limit_may_say_compiles() {
    let limits = "rate: {gold: 10/s}, burst: 2x";
    for sound in [
        "concurrent: 2",
        "concurrent: {gold: 5}",
        "concurrent: {gold: 5, trial: 1}, rate: {gold: 10/s, trial: 1/s}",
        "concurrent: 2, rate: {gold: 10/s}",
        "rate: {gold: 10/s}, burst: 20, cost: 20",
        "rate: {gold: 10/s}, cost: {by_response: {header: X-Cost, max: 100, reserve: 2}}",
        "rate: {gold: 10/s}, cost: {by_response: {bytes: 64KiB, max: 100}}",
        "rate: {gold: 10/s}, count: failures",
        "rate: {gold: 10/s}, count: [200, 401, 5xx]",
        "rate: {gold: 10/s}, on_exceed: refuse",
        "rate: {gold: 10/s}, on_exceed: {delay: 500ms, waiting: 100}",
    ] {
        // The tenant's class is one that a rate names.
        let rate = if sound.contains("gold") { sound.to_owned() } else { format!("{sound}, rate: {{gold: 1/s}}") };
        assert_eq!(super::changed(&[(limits, &rate)]), "ok", "{sound}");
    }
    for key in
        ["[form.username_hash]", "[json.user.email_hash, client.ip_prefix]", "[route.id]", "[body.a_hash, route]"]
    {
        assert_eq!(super::changed(&[("key: [tenant, user]", &format!("key: {key}"))]), "ok", "{key}");
    }
    let listed = "rate_limits: [{limit: calm, cost: 20}]";
    assert_eq!(super::changed(&[("rate_limits: [calm]", listed)]), "ok");
}

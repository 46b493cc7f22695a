//! Limits by a field of the body, and limits that have a request wait.
use super::*;

fn by_field(world: &mut World, shadow: bool) {
    let name = Box::from("username");
    let key = vec![KeyPart::Field(FieldKey { source: FieldSource::Form, name })];
    let rate = Rate { count: 1, period_s: 1, burst: 1 };
    world.route().limits.push(Arc::new(Limit { shadow, ..Limit::new("per-account", key, vec![rate]) }));
}

#[test]
fn the_body_is_asked_for_last_and_only_where_a_limit_counts_by_it() {
    let mut world = world();
    assert!(!world.run().2.contains(&Question::Fields));
    by_field(&mut world, false);
    let (step, trail, asked) = world.run();
    assert_eq!(told(&step), "permit api");
    assert_eq!(asked[asked.len() - 2..], [Question::Fields, Question::Quota(Stage::Body)]);
    assert_eq!(trail.last(), Some(&(Guard::BodyQuota, Verdict::Pass)));

    world.caller(|i| i.roles = Vec::new());
    let (step, _, asked) = world.run();
    assert!(told(&step).starts_with("403 access.denied"));
    assert!(!asked.contains(&Question::Fields), "nobody's body is read who may not come in");
}

#[test]
fn what_cannot_be_counted_is_refused_unless_the_limit_only_watches() {
    let unreadable = || Err(Refusal::new(Code::BodyInvalid, "the field stands twice"));
    let mut enforced = world();
    by_field(&mut enforced, false);
    enforced.fields = unreadable();
    assert_eq!(told(&enforced.run().0), "422 body.invalid: the field stands twice");

    let mut watched = world();
    by_field(&mut watched, true);
    watched.fields = unreadable();
    let (step, trail, asked) = watched.run();
    assert_eq!(told(&step), "permit api");
    assert!(!asked.contains(&Question::Quota(Stage::Body)));
    assert_eq!(trail.last(), Some(&(Guard::BodyQuota, Verdict::Pass)));

    let mut plain = world();
    by_field(&mut plain, false);
    plain.fields = unreadable();
    (plain.request.method, plain.facts.body) = (Method::Get, Body::default());
    let (step, trail, _) = plain.run();
    assert_eq!(told(&step), "permit api", "a page that is only read has no fields");
    assert_eq!(trail.last(), Some(&(Guard::BodyQuota, Verdict::Skip)));
}

#[test]
fn the_longest_delay_counts_and_a_guard_in_shadow_delays_nobody() {
    let mut world = world();
    world.reading.delayed = Some(Delayed { name: "per-user".into(), wait_ms: 1500 });
    match world.run().0 {
        Step::Permit(permit) => assert_eq!(permit.findings().delayed, world.reading.delayed),
        other => panic!("{other:?}"),
    }
    world.route().shadow = vec![Guard::CallerQuota];
    match world.run().0 {
        Step::Permit(permit) => {
            assert_eq!(permit.findings().delayed, None);
            assert_eq!(permit.findings().shadowed_limits, ["per-user".into()]);
        }
        other => panic!("{other:?}"),
    }
}

//! Who is out by which mark, and what merging and bytes keep.
use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

const IDP: &str = "https://idp.test/";
const AT: u64 = 1_000;

fn ann() -> Source<'static> {
    Source {
        issuer: IDP,
        subject: "ann",
        tenant: Some("acme"),
        session: Some("s-1"),
        token: Some("t-1"),
        key: Some("k-1"),
    }
}

fn marks(targets: &[Target<'_>]) -> HashMap<(Scope, Handle), u64> {
    let mark = |target: &Target<'_>| Mark::of(target, AT * 1000 + 999, 0, NEVER);
    targets.iter().map(mark).map(|mark| ((mark.scope, mark.handle), mark.not_before_s)).collect()
}

/// By what `source` is out that signed in at `began_s`.
fn ended(source: &Source<'_>, began_s: u64, targets: &[Target<'_>]) -> Option<Scope> {
    let marks = marks(targets);
    Handles::of(source).ended(began_s, |scope, handle| marks.get(&(scope, *handle)).copied())
}

#[test]
fn each_mark_ends_what_it_names_and_nothing_else() {
    let subject = |subject, within| Target::Subject { issuer: IDP, subject, within };
    let out = |target: Target<'_>, began_s| ended(&ann(), began_s, &[target]);
    for (target, same_second, later) in [
        (Target::Token { issuer: IDP, id: "t-1" }, true, true),
        (Target::Session { issuer: IDP, id: "s-1" }, true, true),
        (Target::Key { issuer: IDP, id: "k-1" }, true, true),
        (subject("ann", Within::Anywhere), true, false),
        (subject("ann", Within::Tenant("acme")), true, false),
        (Target::Tenant { id: "acme" }, true, false),
        (Target::Issuer { issuer: IDP }, true, false),
        (Target::Token { issuer: "https://other.test/", id: "t-1" }, false, false),
        (Target::Token { issuer: IDP, id: "s-1" }, false, false),
        (Target::Session { issuer: "https://other.test/", id: "s-1" }, false, false),
        (Target::Session { issuer: OWN_SESSIONS, id: "s-1" }, false, false),
        (Target::Key { issuer: "https://other.test/", id: "k-1" }, false, false),
        (subject("bob", Within::Anywhere), false, false),
        (subject("ann", Within::Tenant("globex")), false, false),
        (subject("ann", Within::NoTenant), false, false),
        (Target::Subject { issuer: "https://other.test/", subject: "ann", within: Within::Anywhere }, false, false),
        (Target::Tenant { id: "globex" }, false, false),
        (Target::Issuer { issuer: "https://other.test/" }, false, false),
    ] {
        let scope = target.scope();
        for (began_s, expected) in [(0, same_second), (AT, same_second), (AT + 1, later)] {
            assert_eq!(out(target, began_s), expected.then_some(scope), "{target:?} {began_s}");
        }
    }
}

#[test]
fn a_user_of_one_tenant_is_not_the_user_of_that_name_in_another() {
    let here = Target::Subject { issuer: IDP, subject: "ann", within: Within::Tenant("acme") };
    assert_eq!(ended(&ann(), AT, &[here]), Some(Scope::Subject));
    assert_eq!(ended(&Source { tenant: Some("globex"), ..ann() }, AT, &[here]), None);
    assert_eq!(ended(&Source { tenant: None, ..ann() }, AT, &[here]), None);
    let nowhere = Target::Subject { issuer: IDP, subject: "ann", within: Within::NoTenant };
    assert_eq!(ended(&Source { tenant: None, ..ann() }, AT, &[nowhere]), Some(Scope::Subject));
    // No choice of names makes one into the other.
    let odd = Source { subject: "anninacme", tenant: None, ..ann() };
    assert_eq!(ended(&odd, AT, &[here]), None);
    let sly = Target::Subject { issuer: IDP, subject: "ann", within: Within::Tenant("") };
    assert_ne!(sly.handle(), nowhere.handle());
}

/// Marks lie in stores, and replicas of another version read them: SHA-256 by another program, over the scope's number and
/// each part behind its length in eight bytes.
#[test]
fn a_handle_is_the_same_in_every_version() {
    let within = Within::Tenant("acme");
    let subject = Target::Subject { issuer: "https://idp.example", subject: "ada", within };
    assert_eq!(subject.handle().to_string(), "26669261d3cad6a1e88eed8043b98a67");
}

#[test]
fn a_session_of_ours_ends_by_its_own_id_and_with_what_opened_it() {
    let handles = Handles::of(&ann()).held_as(OWN_SESSIONS, "h-1");
    let by = |target: Target<'_>| {
        let marks = marks(&[target]);
        handles.ended(AT, |scope, handle| marks.get(&(scope, *handle)).copied())
    };
    assert_eq!(by(Target::Session { issuer: OWN_SESSIONS, id: "h-1" }), Some(Scope::Session));
    assert_eq!(by(Target::Session { issuer: IDP, id: "s-1" }), Some(Scope::Session));
    assert_eq!(by(Target::Session { issuer: FAMILIES, id: "h-1" }), None);
    assert_eq!(by(Target::Session { issuer: IDP, id: "h-1" }), None);
}

#[test]
fn a_refreshed_token_is_as_old_as_its_authentication() {
    assert_eq!(began_s(None, 50), 50);
    assert_eq!(began_s(Some(20), 50), 20);
    assert_eq!(began_s(Some(60), 50), 50, "nobody signs in after the token that says so");
}

#[test]
fn clocks_that_run_ahead_do_not_save_anybody_within_the_tolerance() {
    let target = Target::Tenant { id: "acme" };
    let mark = Mark::of(&target, AT * 1000, 5, NEVER);
    let out =
        |began_s| Handles::of(&ann()).ended(began_s, |_, handle| (*handle == mark.handle).then_some(mark.not_before_s));
    assert_eq!((out(AT + 5), out(AT + 6)), (Some(Scope::Tenant), None));
}

#[test]
fn a_mark_is_forgotten_when_nothing_it_ends_can_live() {
    let mark = Mark::of(&Target::Issuer { issuer: IDP }, AT * 1000, 0, AT + 60);
    assert!(!mark.is_over(AT + 59) && mark.is_over(AT + 60));
    let key = Mark::of(&Target::Key { issuer: IDP, id: "k" }, AT * 1000, 0, AT + 60);
    assert!(!key.is_over(NEVER - 1), "what a stolen key signs can always be new");
}

fn any_mark() -> impl Strategy<Value = Mark> {
    (0..6usize, any::<[u8; 16]>(), any::<u64>(), any::<u64>()).prop_map(|(scope, handle, not_before_s, until_s)| Mark {
        scope: Scope::ALL[scope],
        handle: handle.into(),
        not_before_s,
        until_s,
    })
}

proptest! {
    #[test]
    fn bytes_are_read_back_and_nothing_else_is(mark in any_mark(), noise in prop::collection::vec(any::<u8>(), 0..64)) {
        let bytes = mark.to_bytes();
        prop_assert_eq!(Mark::from_bytes(&bytes), Some(mark));
        prop_assert_eq!(Mark::from_bytes(&bytes[1..]), None);
        prop_assert_eq!(Mark::from_bytes(&[&bytes[..], b"x"].concat()), None);
        if let Some(read) = Mark::from_bytes(&noise) {
            prop_assert_eq!(&read.to_bytes()[..], &noise[..]);
        }
    }

    /// In whatever order, and however often, replicas hear the same marks: they agree, and nobody who was out is in.
    #[test]
    fn merging_is_order_free_and_never_lets_anybody_in(
        times in prop::collection::vec((any::<u64>(), any::<u64>()), 1..8),
        order in any::<prop::sample::Index>(),
    ) {
        let handle = Handle::from([7; 16]);
        let all: Vec<Mark> = times
            .iter()
            .map(|(not_before_s, until_s)| Mark { scope: Scope::Subject, handle, not_before_s: *not_before_s, until_s: *until_s })
            .collect();
        let merged = |marks: &[Mark]| marks.iter().copied().reduce(Mark::merge).unwrap();
        let once = merged(&all);
        let mut turned = all.clone();
        turned.rotate_left(order.index(all.len()));
        prop_assert_eq!(merged(&turned), once);
        prop_assert_eq!(merged(&[&all[..], &turned[..]].concat()), once);
        for mark in all {
            prop_assert!(once.not_before_s >= mark.not_before_s && once.until_s >= mark.until_s);
        }
    }
}

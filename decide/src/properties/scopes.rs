//! What scopes of a credential do to a decision.
use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Scopes take away from what roles grant, and never add to it.
    #[test]
    fn scopes_never_widen(
        setup in setup(),
        event in event(),
        scopes in prop::sample::subsequence(vec!["refund", "post", "refun"], 0..=3),
    ) {
        let (before, all) = decide(&setup, &event);
        let mut narrowed = event.clone();
        if let Credential::Valid { identity, .. } = &mut narrowed.credential {
            Arc::make_mut(identity).scopes = Some(scopes.iter().map(|scope| Arc::from(*scope)).collect());
        }
        let (after, trail) = decide(&setup, &narrowed);
        prop_assert!(before || !after, "{:?} let it pass: {:?}", scopes, trail);
        let asked = setup.session && setup.permission && !setup.shadow.contains(&Guard::Access);
        if scopes.contains(&"refund") || !setup.session || !setup.permission {
            prop_assert_eq!((after, trail), (before, all));
        } else if asked {
            prop_assert!(!after);
        }
    }
}

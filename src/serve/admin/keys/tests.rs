//! Proofs of orders.
use super::*;

#[test]
fn an_order_is_proven_by_one_pepper_and_for_every_byte_of_it() {
    let pepper = |byte| hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32]);
    let demand = |set: &str| Demand { set: set.to_owned(), wish: Wish::List, actor: None, at_s: 7 };
    let proven = Proven::new(&demand("machines"), &pepper(1)).unwrap();
    let again: Proven = serde_json::from_str(&serde_json::to_string(&proven).unwrap()).unwrap();
    assert_eq!(proof(&again.demand, &pepper(1)), again.proof);
    assert_ne!(proof(&again.demand, &pepper(2)), again.proof);
    assert_ne!(Proven::new(&demand("machinet"), &pepper(1)).unwrap().proof, again.proof);
    assert_eq!(serde_json::from_str::<Demand>(&again.demand).unwrap(), demand("machines"));
}

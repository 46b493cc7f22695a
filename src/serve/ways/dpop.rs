//! A token in `Authorization: DPoP` with proof of the key that it is bound to (RFC 9449, 7.1).
use super::{Way, bearer, invalid};
use crate::serve::proofs;
use decide::facts::{Answer, Bound, Carrier, Credential};
use decide::rules::Accept;

/// Verifies a token and the proof that came with it. The proof is used up last, and where the token is good for it only: anybody can
/// make keys and proofs, and what is used up is written to a store.
pub(super) async fn verify(way: Way<'_>, token: &str, accept: &[Accept]) -> Answer {
    let about = (way.request, way.facts);
    let proof = match proofs::read(way.shared, way.active, way.headers, about, Some(token)) {
        Ok(Some(proof)) => proof,
        Ok(None) => return invalid("the proof of possession is missing"),
        Err(cause) => return invalid(cause),
    };
    let issuers = accept.iter().filter(|one| one.carrier() == Carrier::Dpop).filter_map(Accept::voucher);
    let answer = bearer::judge(way, token, issuers, Carrier::Dpop).await;
    match &answer {
        Answer::Credential(Credential::Valid { identity, .. }) => match &identity.bound_to {
            Some(Bound::Key(key)) if *key == proof.thumbprint => match proofs::spend(way.shared, &proof).await {
                Ok(()) => answer,
                Err(cause) => invalid(cause),
            },
            Some(Bound::Key(_)) => invalid("the token is bound to another key"),
            Some(Bound::Certificate(_)) | None => invalid("the token is bound to no key"),
        },
        _ => answer,
    }
}

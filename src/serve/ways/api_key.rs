//! A header that holds an API key.
use super::{Way, invalid};
use crate::serve::api_keys::{Verdict, judge};
use crate::serve::key_sets;
use decide::facts::{Answer, Carrier, Credential};
use decide::rules::Keys;
use http::HeaderName;

/// Judges the key in this header; `None` where the request has no such header.
pub(super) async fn verify(way: Way<'_>, header: &HeaderName, keys: &Keys) -> Option<Answer> {
    let mut values = way.headers.get_all(header).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return Some(invalid("the header of the API key is repeated"));
    }
    let Ok(text) = value.to_str() else { return Some(invalid("the API key is not ASCII")) };
    let file = match keys {
        Keys::File(file) => file,
        Keys::State(set) => return Some(key_sets::judge(way, set, text).await),
    };
    let Some(keys) = way.active.snapshot.api_keys.get(&**file) else { return Some(invalid("there are no API keys")) };
    Some(match judge(keys, text, way.facts.at_s()).await {
        Verdict::Known(identity) => Answer::Credential(Credential::Valid { identity, carrier: Carrier::ApiKey }),
        Verdict::Revoked => Answer::Credential(Credential::Revoked("the API key was revoked".to_owned())),
        Verdict::Unknown(cause) => invalid(cause),
        Verdict::Unclear(cause) => Answer::Unavailable(cause.to_owned()),
    })
}

//! What the head says about the body: one that servers read, of an accepted type, and not longer than allowed. The shell
//! counts the bytes of bodies without stated length by the same bound.
use super::{Case, Outcome};
use crate::refusal::{Code, Refusal};
use crate::request::Method;

pub(super) fn judge(case: Case<'_>) -> Outcome {
    let rules = &case.found.route.body;
    let body = &case.facts.body;
    if !body.present {
        return Outcome::Skip;
    }
    // RFC 9110, 9.3.1 and 9.3.2: such a body means nothing, and a server that does not read it begins the next request in it.
    if !rules.with_get && matches!(case.request.method, Method::Get | Method::Head) {
        return Outcome::Refuse(Refusal::new(Code::RequestAmbiguous, "a body with GET or HEAD"));
    }
    if let (Some(length), Some(max)) = (body.length, rules.max_bytes)
        && length > max
    {
        return Outcome::Refuse(Refusal::new(
            Code::RequestTooLarge,
            format!("a body of {length} bytes, {max} are allowed"),
        ));
    }
    let accepted = rules.content_types.is_empty()
        || body.content_type.as_ref().is_some_and(|kind| rules.content_types.iter().any(|accepted| accepted == kind));
    if accepted {
        Outcome::Pass
    } else {
        Outcome::Refuse(Refusal::new(Code::BodyUnsupported, "the content type is not on the route's list"))
    }
}

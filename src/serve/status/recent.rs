//! The last refusals, in memory: what to look at first when somebody says that nothing works.
//!
//! They are shown to everybody who can reach the admin listener, so they say less than the audit log: no query, no user,
//! no cause, the template rather than the path, the network rather than the address.
use super::document::Refusal;
use decide::facts::RequestId;
use decide::record::time;
use decide::refusal::Code;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Refusals that are kept.
const KEPT: usize = 50;
/// Longest host and path that are kept, in characters.
const LONGEST: usize = 160;

/// The last refusals.
#[derive(Debug, Default)]
pub struct Recent(Mutex<VecDeque<Refused>>);

/// What is kept of a refusal; made into text when somebody looks.
#[derive(Clone, Debug)]
pub struct Refused {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Id of the request.
    pub id: RequestId,
    /// Status sent; 0 where none was.
    pub status: u16,
    /// Why.
    pub code: Code,
    /// Method, as far as it could be read.
    pub method: Option<Box<str>>,
    /// Host, as far as it could be read.
    pub host: Option<Box<str>>,
    /// Template of the route, or the path.
    pub path: Option<Box<str>>,
    /// Route.
    pub route: Option<Arc<str>>,
    /// Tenant.
    pub tenant: Option<Box<str>>,
    /// The client.
    pub client: Option<IpAddr>,
}

impl Recent {
    /// Keeps a refusal in the place of the oldest.
    pub fn push(&self, refused: Refused) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = if kept.len() == KEPT { kept.pop_front() } else { None };
        kept.push_back(refused);
        drop(kept);
        // Freed by nobody who holds the lock.
        drop(oldest);
    }

    /// All that are kept, the newest first.
    pub fn list(&self) -> Vec<Refusal> {
        let kept: Vec<Refused> = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect();
        kept.into_iter().map(Refused::tell).collect()
    }
}

impl Refused {
    fn tell(self) -> Refusal {
        Refusal {
            at: time::format(self.at_ms),
            id: self.id.to_string(),
            status: self.status,
            code: self.code.id().to_owned(),
            method: self.method.map(String::from),
            host: self.host.map(String::from),
            path: self.path.map(String::from),
            route: self.route.map(|route| route.to_string()),
            tenant: self.tenant.map(String::from),
            network: self.client.and_then(network),
        }
    }
}

/// A text of the client's choice, without its query and no longer than a line.
pub fn short(text: &str) -> Box<str> {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    match text.char_indices().nth(LONGEST) {
        None => text.into(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()).into(),
    }
}

/// The /24 or /48 that an address is in.
fn network(address: IpAddr) -> Option<String> {
    let address = address.to_canonical();
    let length = if address.is_ipv4() { 24 } else { 48 };
    ipnet::IpNet::new(address, length).ok().map(|net| net.trunc().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(at_ms: u64) -> Refused {
        Refused {
            at_ms,
            id: RequestId(at_ms.into()),
            status: 401,
            code: Code::SessionMissing,
            method: None,
            host: None,
            path: Some(short(&format!("/{}?token=secret", "x".repeat(500)))),
            route: None,
            tenant: None,
            client: Some("203.0.113.77".parse().unwrap()),
        }
    }

    #[test]
    fn the_newest_are_kept_and_say_little() {
        let recent = Recent::default();
        (0..200).for_each(|at_ms| recent.push(refused(at_ms)));
        let list = recent.list();
        assert_eq!(list.len(), KEPT);
        assert_eq!(list[0].at, "1970-01-01T00:00:00.199Z");
        assert_eq!(list[0].network.as_deref(), Some("203.0.113.0/24"));
        let path = list[0].path.as_deref().unwrap();
        assert!(path.ends_with('…') && path.chars().count() == LONGEST + 1, "{path}");
        assert_eq!(&*short("/a?b"), "/a");
        assert_eq!(network("2001:db8:1:2::3".parse().unwrap()).as_deref(), Some("2001:db8:1::/48"));
        assert_eq!(network("::ffff:192.0.2.9".parse().unwrap()).as_deref(), Some("192.0.2.0/24"));
    }
}

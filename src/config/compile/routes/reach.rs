//! Whether any request can reach a route.
use super::Patterns;
use decide::router::{HostPattern, Match};
use decide::rules::Rules;

/// Whether some request finds this route: asks the router itself with values that no literal pattern takes.
pub(super) fn reachable(rules: &Rules, index: usize, patterns: &Patterns<'_>, depth: usize) -> bool {
    let mut probes = patterns.hosts.iter().flat_map(|(host, _)| {
        let host = match host {
            HostPattern::Exact(name) => name.to_string(),
            HostPattern::Wildcard(of) => format!("{PROBE}.{of}"),
            HostPattern::Any => format!("{PROBE}.invalid"),
        };
        patterns.paths.iter().map(move |(_, path)| (host.clone(), path))
    });
    let empty = patterns.hosts.is_empty() || patterns.paths.is_empty() || patterns.methods.is_empty();
    empty
        || probes.any(|(host, path)| {
            let literal = |text: &str| {
                let parts: Vec<&str> = text.split('/').map(|s| if s.starts_with('{') { PROBE } else { s }).collect();
                parts.join("/")
            };
            let paths: Vec<String> = match path.strip_suffix("/**") {
                None => vec![literal(path)],
                Some(front) => {
                    let front = literal(front);
                    let below = (0..=depth).map(|n| format!("{front}{}", format!("/{PROBE}").repeat(n)));
                    below.chain([format!("{front}/")]).map(|p| if p.is_empty() { "/".to_owned() } else { p }).collect()
                }
            };
            paths.iter().any(|path| {
                patterns.methods.iter().any(|method| {
                matches!(rules.router.find(&host, path, method), Match::Route { route, .. } if route == index)
            })
            })
        })
}

/// A label and segment that nobody writes into a pattern.
const PROBE: &str = "zz--probe--zz";

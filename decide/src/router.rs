//! Host, path and method → route: the most specific match wins, and two equal ones do not compile.
use crate::cut::cut;
use crate::request::{Method, Methods, Request};
use foldhash::fast::RandomState;
use memchr::memchr_iter;
use std::collections::HashMap;
use std::sync::Arc;

/// The routing table: trees of path segments, as they are written and as forgiving applications read them.
#[derive(Debug, Default)]
pub struct Router {
    plain: Tree,
    /// The same routes with folded literals.
    folded: Tree,
    /// Whether a literal differs from its folded form.
    capitals: bool,
}

/// One tree of path segments for every host pattern. Keys are the operator's, so that nobody can choose ones which collide: a
/// quick hash will do.
#[derive(Debug, Default)]
struct Tree {
    exact: HashMap<Box<str>, Node, RandomState>,
    /// `*.example.com` by `example.com`: exactly one label stands for the star.
    wildcard: HashMap<Box<str>, Node, RandomState>,
    any: Node,
}

/// A host pattern of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// This host.
    Exact(Box<str>),
    /// `*.example.com`; holds `example.com`.
    Wildcard(Box<str>),
    /// `*`: every host.
    Any,
}

/// A path pattern: `/a/{id}/b`, `/a/**`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    segments: Vec<Segment>,
    /// Whether it ends in `/**`: zero or more further segments.
    tail: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    Param(Box<str>),
}

/// A route in the tree.
#[derive(Clone, Debug)]
struct Leaf {
    methods: Methods,
    route: usize,
    template: Arc<str>,
    /// Names of the pattern's parameters, by order.
    params: Arc<[Box<str>]>,
}

#[derive(Debug, Default)]
struct Node {
    literal: HashMap<Box<str>, Node, RandomState>,
    param: Option<Box<Node>>,
    here: Vec<Leaf>,
    tail: Vec<Leaf>,
}

/// What a look-up found.
#[derive(Clone, Debug)]
pub enum Match {
    /// This route.
    Route {
        /// Index of the route.
        route: usize,
        /// The template that matched.
        template: Arc<str>,
        /// Names of its parameters, in the order of the path.
        params: Arc<[Box<str>]>,
    },
    /// The path exists with other methods.
    Method(Methods),
    /// Nothing.
    None,
}

/// Two routes that the same request would match equally well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ambiguous {
    /// Index of the route that stood there first.
    pub other: usize,
    /// Methods that both serve.
    pub methods: Methods,
}

impl HostPattern {
    /// Reads `app.example.com`, `*.example.com` or `*`; `None` when it is none of them.
    pub fn parse(text: &str) -> Option<HostPattern> {
        let domain = |d: &str| {
            let label = |l: &str| {
                (1..=63).contains(&l.len())
                    && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
            };
            d.len() <= 253 && d.split('.').all(label)
        };
        match text.strip_prefix("*.") {
            _ if text == "*" => Some(HostPattern::Any),
            Some(rest) if domain(rest) => Some(HostPattern::Wildcard(rest.into())),
            None if domain(text) || is_address(text) => Some(HostPattern::Exact(text.into())),
            _ => None,
        }
    }
}

fn is_address(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    inner.is_some_and(|v6| v6.parse::<core::net::Ipv6Addr>().is_ok()) || text.parse::<core::net::Ipv4Addr>().is_ok()
}

impl PathPattern {
    /// Reads a pattern; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<PathPattern, String> {
        let Some(rest) = text.strip_prefix('/') else { return Err("a path begins with `/`".to_owned()) };
        let (rest, tail) = match rest.strip_suffix("**") {
            Some("") => return Ok(PathPattern { segments: Vec::new(), tail: true }),
            Some(front) => (front.strip_suffix('/').ok_or("`**` stands for whole segments: write `/**`")?, true),
            None => (rest, false),
        };
        let mut segments: Vec<Segment> = Vec::new();
        for part in rest.split('/') {
            let name = part.strip_prefix('{').and_then(|p| p.strip_suffix('}'));
            if let Some(name) = name {
                if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                    return Err(format!("`{part}` is not a parameter name"));
                }
                if segments.iter().any(|s| matches!(s, Segment::Param(n) if **n == *name)) {
                    return Err(format!("parameter `{name}` stands twice"));
                }
                segments.push(Segment::Param(name.into()));
            } else if part.contains(['{', '}', '*']) {
                return Err(format!("`{part}`: a parameter is a whole segment, `**` the last one"));
            } else {
                segments.push(Segment::Literal(part.into()));
            }
        }
        let probe = text.replace("/**", "").replace(['{', '}'], "x");
        let probe = if probe.is_empty() { "/" } else { &probe };
        match Request::parse("GET", probe, "probe.invalid") {
            Ok(request) if *request.path == *probe => Ok(PathPattern { segments, tail }),
            Ok(request) => Err(format!("the canonical form of this path is `{}`", request.path)),
            Err(refusal) => Err(format!("no request can have this path: {}", refusal.cause)),
        }
    }

    /// Names of the parameters, in order.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|s| match s {
            Segment::Param(name) => Some(&**name),
            Segment::Literal(_) => None,
        })
    }
}

impl Router {
    /// Adds a route under one host and one path pattern; refuses what an earlier one already answers equally well.
    pub fn insert(
        &mut self,
        host: &HostPattern,
        path: &PathPattern,
        template: &Arc<str>,
        methods: Methods,
        route: usize,
    ) -> Result<(), Ambiguous> {
        let leaf = Leaf { methods, route, template: template.clone(), params: path.params().map(Box::from).collect() };
        let leaves = self.plain.leaves(host, path);
        for other in leaves.iter() {
            let both = other.methods.intersection(methods);
            if !both.is_empty() {
                return Err(Ambiguous { other: other.route, methods: both });
            }
        }
        leaves.push(leaf.clone());
        let fold_segment = |segment: &Segment| match segment {
            Segment::Literal(text) => Segment::Literal(fold(text).into()),
            Segment::Param(name) => Segment::Param(name.clone()),
        };
        let folded = PathPattern { segments: path.segments.iter().map(fold_segment).collect(), tail: path.tail };
        self.capitals |= folded != *path;
        self.folded.leaves(host, &folded).push(leaf);
        Ok(())
    }

    /// Finds the most specific route: exact host before wildcard before any; literal segment before parameter before
    /// `**`; then the method. A less specific route serves the methods that a more specific one does not name.
    pub fn find(&self, host: &str, path: &str, method: Method) -> Match {
        let mut allowed = Methods::default();
        match self.plain.find(host, path, method, &mut allowed) {
            Some((leaf, _)) => {
                Match::Route { route: leaf.route, template: leaf.template.clone(), params: leaf.params.clone() }
            }
            None if allowed.is_empty() => Match::None,
            None => Match::Method(allowed),
        }
    }

    /// Whether an application that does not tell capitals from small letters, or drops dots and spaces at the end of a
    /// segment (as file systems of Windows do), would read this path as one of another route than `route`, which
    /// [`Router::find`] has found. Then the rule of that other route would be passed by.
    pub fn reads_otherwise(&self, host: &str, path: &str, method: Method, route: usize) -> bool {
        if !self.capitals && !folds(path) {
            return false;
        }
        let found = self.folded.find(host, &fold(path), method, &mut Methods::default());
        found.is_some_and(|(_, all)| all.iter().all(|leaf| leaf.route != route))
    }
}

/// Whether folding may change a canonical path.
fn folds(path: &str) -> bool {
    let bytes = path.as_bytes();
    let ends_segment = |at: usize| matches!(bytes.get(at + 1), None | Some(b'/'));
    bytes.iter().any(|b| b.is_ascii_uppercase() || *b == b'%') || memchr_iter(b'.', bytes).any(ends_segment)
}

/// A path or segment in small letters, full-width letters in the usual width, segments without dots and spaces at their
/// ends. Dots that are a whole segment do not come.
fn fold(path: &str) -> String {
    let mut folded = String::with_capacity(path.len());
    for (i, segment) in path.split('/').enumerate() {
        if i > 0 {
            folded.push('/');
        }
        let mut rest = segment;
        while let Some(shorter) = rest.strip_suffix('.').or_else(|| rest.strip_suffix("%20")) {
            rest = shorter;
        }
        while let Some(first) = rest.chars().next() {
            let (c, length) = full_width(rest).map_or((first, first.len_utf8()), |c| (c, WIDE));
            folded.push(c.to_ascii_lowercase());
            rest = rest.get(length..).unwrap_or_default();
        }
    }
    folded
}

/// Bytes of a percent-encoded character of three bytes in UTF-8.
const WIDE: usize = 9;

/// The character whose full-width form (U+FF01 to U+FF5E) stands encoded at the beginning (UAX #15, NFKC).
fn full_width(text: &str) -> Option<char> {
    let (high, low) = (text.strip_prefix("%EF%B")?.get(..1)?, text.get(7..WIDE)?);
    let low = u32::from_str_radix(low, 16).ok()?;
    let plain = match high {
        "C" => low.checked_sub(0x60)?,
        "D" => low.checked_sub(0x20)?,
        _ => return None,
    };
    char::from_u32(plain).filter(char::is_ascii_graphic)
}

impl Tree {
    /// Where the routes of a pattern stand.
    fn leaves(&mut self, host: &HostPattern, path: &PathPattern) -> &mut Vec<Leaf> {
        let mut node = match host {
            HostPattern::Exact(name) => self.exact.entry(name.clone()).or_default(),
            HostPattern::Wildcard(name) => self.wildcard.entry(name.clone()).or_default(),
            HostPattern::Any => &mut self.any,
        };
        for segment in &path.segments {
            node = match segment {
                Segment::Literal(text) => node.literal.entry(text.clone()).or_default(),
                Segment::Param(_) => node.param.get_or_insert_default(),
            };
        }
        if path.tail { &mut node.tail } else { &mut node.here }
    }

    /// The route, and all that stand at its place.
    fn find(&self, host: &str, path: &str, method: Method, allowed: &mut Methods) -> Option<(&Leaf, &[Leaf])> {
        let wildcard = cut(host, b'.').and_then(|(_, parent)| self.wildcard.get(parent));
        let roots = [self.exact.get(host), wildcard, Some(&self.any)];
        let path = path.strip_prefix('/').unwrap_or(path);
        roots.into_iter().flatten().find_map(|root| root.find(Some(path), method, allowed))
    }
}

impl Node {
    /// Visits each node of the tree at most once; `rest` is `None` when the path is used up.
    fn find<'n>(&'n self, rest: Option<&str>, method: Method, allowed: &mut Methods) -> Option<(&'n Leaf, &'n [Leaf])> {
        let Some(rest) = rest else {
            return pick(&self.here, method, allowed).or_else(|| pick(&self.tail, method, allowed));
        };
        let (segment, next) = match cut(rest, b'/') {
            Some((segment, next)) => (segment, Some(next)),
            None => (rest, None),
        };
        if let Some(child) = self.literal.get(segment)
            && let Some(leaf) = child.find(next, method, allowed)
        {
            return Some(leaf);
        }
        if let Some(child) = &self.param
            && !segment.is_empty()
            && let Some(leaf) = child.find(next, method, allowed)
        {
            return Some(leaf);
        }
        pick(&self.tail, method, allowed)
    }
}

/// The leaf that serves the method, and its neighbours; otherwise their methods are allowed ones.
fn pick<'n>(leaves: &'n [Leaf], method: Method, allowed: &mut Methods) -> Option<(&'n Leaf, &'n [Leaf])> {
    let hit = leaves.iter().find(|leaf| leaf.methods.contains(method));
    if hit.is_none() {
        *allowed = leaves.iter().fold(*allowed, |all, leaf| all.union(leaf.methods));
    }
    hit.map(|leaf| (leaf, leaves))
}

/// The values of a template's parameters in a canonical path, in order.
pub fn values<'p>(template: &str, path: &'p str) -> impl Iterator<Item = &'p str> {
    let pairs = template.split('/').zip(path.split('/'));
    let params: Vec<&'p str> = pairs.filter(|(t, _)| t.starts_with('{')).map(|(_, value)| value).collect();
    params.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Routes as `host path METHODS`, numbered by line.
    fn router(lines: &[&str]) -> Result<Router, String> {
        let mut router = Router::default();
        for (index, line) in lines.iter().enumerate() {
            let parts: Vec<&str> = line.split(' ').collect();
            let host = HostPattern::parse(parts[0]).ok_or_else(|| format!("host {line}"))?;
            let path = PathPattern::parse(parts[1]).map_err(|e| format!("{line}: {e}"))?;
            let methods = parts[2].split(',').fold(Methods::default(), |m, t| m.with(Method::parse(t).unwrap()));
            router
                .insert(&host, &path, &Arc::from(parts[1]), methods, index)
                .map_err(|a| format!("{line}: like route {}", a.other))?;
        }
        Ok(router)
    }

    fn find(router: &Router, line: &str) -> String {
        let parts: Vec<&str> = line.split(' ').collect();
        match router.find(parts[1], parts[2], Method::parse(parts[0]).unwrap()) {
            Match::Route { route, template, .. } => {
                let values: Vec<&str> = values(&template, parts[2]).collect();
                format!("{route} {}", values.join(","))
            }
            Match::Method(allow) => allow.iter().map(Method::as_str).collect::<Vec<_>>().join(","),
            Match::None => "none".to_owned(),
        }
    }

    #[test]
    fn the_most_specific_route_wins() {
        let router = router(&[
            "*.a.example /** GET,HEAD",
            "*.a.example /api/** GET",
            "*.a.example /api/bookings/** POST,PUT",
            "*.a.example /api/bookings/{id} DELETE",
            "*.a.example /api/bookings/new GET",
            "x.a.example /only POST",
            "* /health GET",
        ])
        .unwrap();
        for (request, expected) in [
            ("GET t.a.example /", "0 "),
            ("GET t.a.example /x/y", "0 "),
            ("GET t.a.example /api", "1 "),
            ("GET t.a.example /api/bookings/7", "1 "),
            ("GET t.a.example /api/bookings/new", "4 "),
            ("POST t.a.example /api/bookings", "2 "),
            ("POST t.a.example /api/bookings/7/x", "2 "),
            ("DELETE t.a.example /api/bookings/7", "3 7"),
            ("DELETE t.a.example /api/bookings/7/", "GET,HEAD,POST,PUT"),
            ("PATCH t.a.example /api/bookings/7", "GET,HEAD,POST,PUT,DELETE"),
            ("POST x.a.example /only", "5 "),
            ("GET x.a.example /only", "0 "),
            ("GET a.example /", "none"),
            ("GET b.t.a.example /", "none"),
            ("GET anything /health", "6 "),
            ("POST anything /health", "GET"),
            ("GET t.a.example /health", "0 "),
        ] {
            assert_eq!(find(&router, request), expected, "{request}");
        }
    }

    #[test]
    fn a_path_that_forgiving_applications_read_as_another_routes_is_seen() {
        let lines = [
            "h /** GET",
            "h /admin/** GET",
            "h /users/{id} GET",
            "h /users/me GET",
            "h /Upper GET",
            "h /upper GET",
            "h /Only/x GET",
        ];
        let router = router(&lines).unwrap();
        for (path, expected) in [
            ("/", false),
            ("/page", false),
            ("/Page/AbC.", false),
            ("/admin/x", false),
            ("/admin/X.y", false),
            ("/Admin", true),
            ("/ADMIN/x", true),
            ("/admin.", true),
            ("/admin%20/x", true),
            ("/admin.%20./x", true),
            ("/%EF%BD%81dmin", true),
            ("/%EF%BC%A1DMI%EF%BD%8E/x", true),
            ("/%EF%BD%82dmin", false),
            ("/caf%C3%A9", false),
            ("/%EF%BB%BFx%EF%BF%BD", false),
            ("/users/Ab", false),
            ("/users/ME", true),
            ("/users/me", false),
            // Both are written down, so both are meant.
            ("/Upper", false),
            ("/upper", false),
            ("/Only/x", false),
            ("/only/x", true),
            ("/only", false),
        ] {
            let Match::Route { route, .. } = router.find("h", path, Method::Get) else { panic!("{path}") };
            assert_eq!(router.reads_otherwise("h", path, Method::Get, route), expected, "{path}");
        }
    }

    #[test]
    fn equal_routes_do_not_compile() {
        for (lines, expected) in [
            (["h /a GET", "h /a POST,GET"], "h /a POST,GET: like route 0"),
            (["h /a/{x} GET", "h /a/{y} GET"], "h /a/{y} GET: like route 0"),
            (["h /a/** GET", "h /a/** GET"], "h /a/** GET: like route 0"),
        ] {
            assert_eq!(router(&lines).unwrap_err(), expected);
        }
        for fine in [
            ["h /a GET", "h /a POST"],
            ["h /a/{x} GET", "h /a/b GET"],
            ["h /a GET", "i /a GET"],
            ["h /a GET", "h /a/ GET"],
        ] {
            assert!(router(&fine).is_ok(), "{fine:?}");
        }
    }

    #[test]
    fn patterns_that_no_request_can_match_are_refused() {
        for bad in ["a", "/a//b", "/a/../b", "/{x", "/a**", "/**/b", "/{a}/{a}", "/%2e", "/a b", "/x{y}"] {
            assert!(PathPattern::parse(bad).is_err(), "{bad}");
        }
        for bad in ["", "a..b", "*", "A.example", "*.*.example", "a/b"] {
            assert_eq!(HostPattern::parse(bad).is_some(), bad == "*", "{bad}");
        }
    }
}

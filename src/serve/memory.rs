//! What connections, requests, answers and tables can cost in memory at the worst, against what the process may have.
//!
//! The figures are measured by `benches/floods.py` and explained in `docs/limits.md`.
use crate::config::settings::{Listener, ListenerKind, Snapshot};
use crate::serve::http2;
use crate::store::sessions::REMEMBERED;
use decide::facts::Protocol;
use std::path::Path;

const KIB: u64 = 1024;
/// A gateway that nobody uses, with its tables for tokens and limits.
const BASE: u64 = 96 * 1024 * KIB;
/// An open TLS connection that has served a request.
const CONNECTION: u64 = 48 * KIB;
/// A request under way: facts, edited heads, its entry, a connection to the application.
const REQUEST: u64 = 32 * KIB;
/// An answer that waits for its client: buffers of ours and of the kernel on both sides.
const UNREAD: u64 = 400 * KIB;

/// A mark of a revocation: its place in a table that is half full at the worst, and what the allocator adds.
const MARK: u64 = 64;
/// A session that is remembered.
const SESSION: u64 = KIB;

/// What is there at the worst, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorstCase {
    /// With all that clients can have under way, which takes them seconds.
    pub busy: u64,
    /// What comes on top where the tables are full, which takes as many revocations and sessions: only those that are there
    /// need memory.
    pub tables: u64,
}

/// The worst case: each connection is one of HTTP/2, where a listener speaks it, and holds most of a header block
/// that does not end, bodies that nobody takes and answers that are over; each request that may be under way is, and as
/// many answers wait as may.
pub fn worst_case(snapshot: &Snapshot) -> WorstCase {
    let held = snapshot.listeners.iter().map(|listener| held(listener)).max().unwrap_or_default();
    let each = |count: usize, bytes: u64| (count as u64).saturating_mul(bytes);
    let server = &snapshot.server;
    let connections = each(server.max_connections, CONNECTION.saturating_add(held));
    let streams = snapshot.listeners.iter().map(|listener| streams(listener)).max().unwrap_or_default();
    let requests = each(server.requests_under_way.min(server.max_connections.saturating_mul(streams)), REQUEST);
    let busy = [connections, requests, each(server.unread_answers, UNREAD)].into_iter().fold(BASE, u64::saturating_add);
    let marks = snapshot.revocation.max_marks.saturating_mul(MARK);
    let sessions = if snapshot.sessions.browser.is_some() { REMEMBERED * SESSION } else { 0 };
    WorstCase { busy, tables: marks.saturating_add(sessions) }
}

fn speaks_http2(listener: &Listener) -> bool {
    matches!(&listener.kind, ListenerKind::Tls { protocols, .. } if protocols.contains(&Protocol::Http2))
}

/// Requests that a connection of a listener can have under way.
fn streams(listener: &Listener) -> usize {
    if speaks_http2(listener) { usize::try_from(listener.h2_concurrent_streams).unwrap_or(usize::MAX) } else { 1 }
}

/// What a connection of a listener can hold without a place among what waits.
fn held(listener: &Listener) -> u64 {
    if speaks_http2(listener) {
        (http2::codec_bound(listener) as u64).saturating_add(http2::HELD)
    } else {
        listener.head.bytes as u64
    }
}

/// What the control groups of the process allow, in bytes; `None` where they allow everything, or cannot be read.
pub fn allowed() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    strictest(&groups, |path| std::fs::read_to_string(path).ok())
}

/// Over the group of the process and all groups around it, of either version of the interface.
fn strictest(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let mut least: Option<u64> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for around in Path::new(group.trim_start_matches('/')).ancestors() {
            let limit = read(&Path::new(root).join(around).join(file)).and_then(|text| text.trim().parse().ok());
            // Version 1 says "none" with a number near the greatest.
            let limit = limit.filter(|limit| *limit < u64::MAX / 4);
            least = [least, limit].into_iter().flatten().min();
        }
    }
    least
}

/// What to tell the operator, where the worst case does not fit into what is allowed.
pub fn doubt(snapshot: &Snapshot, allowed: Option<u64>) -> Option<String> {
    let (WorstCase { busy, tables }, allowed) = (worst_case(snapshot), allowed?);
    let mib = |bytes: u64| bytes / KIB / KIB;
    let (has, tables_mib) = (format!("the control group of this process has {} MiB", mib(allowed)), mib(tables));
    if busy > allowed {
        return Some(format!(
            "the limits admit {} MiB of memory at the worst, and {tables_mib} MiB more where the tables of revocations and \
             sessions are full, and {has}: lower `server.max_connections`, `server.requests_under_way` or \
             `server.unread_answers` (docs/limits.md)",
            mib(busy),
        ));
    }
    // Full tables beside a gateway that nobody uses.
    (BASE.saturating_add(tables) > allowed).then(|| {
        format!(
            "the tables of revocations and sessions take {tables_mib} MiB of memory where they are full, and {has}: lower \
             `sessions.revocation.max_marks` (docs/limits.md)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{example, load};

    /// The repository's own bundle with another line in `sessions`.
    fn with(sessions: &str) -> Snapshot {
        let folder = example();
        let path = folder.path().join("gateway.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("\nsessions:\n", &format!("\nsessions:\n  {sessions}\n"), 1)).unwrap();
        load(folder.path()).unwrap().snapshot
    }

    #[test]
    fn full_tables_are_counted_and_doubted_only_where_they_alone_do_not_fit() {
        const MIB: u64 = KIB * KIB;
        let marks = |most: u64| with(&format!("revocation: {{max_marks: {most}}}"));
        let (some, more) = (worst_case(&marks(1_000_000)), worst_case(&marks(11_000_000)));
        assert_eq!((more.busy, more.tables - some.tables), (some.busy, 640_000_000));
        assert_eq!(some.tables, 64_000_000);
        let held = with("browser: {cookie: __Host-sid, exchange: [workforce]}");
        assert_eq!(worst_case(&held).tables, 640_000_000 + 100_000 * KIB);
        // What fits does not begin to be doubted for tables that are empty.
        let fits = |snapshot: &Snapshot, bytes: u64| doubt(snapshot, Some(bytes)).is_none();
        let usual = marks(10_000_000);
        assert!(fits(&usual, worst_case(&usual).busy) && !fits(&usual, worst_case(&usual).busy - 1));
        let mut small = marks(100_000_000);
        (small.server.max_connections, small.server.requests_under_way, small.server.unread_answers) = (100, 100, 100);
        assert!(worst_case(&small).busy < 512 * MIB);
        let said = doubt(&small, Some(512 * MIB)).unwrap();
        assert!(said.starts_with("the tables of revocations and sessions take 6103 MiB"), "{said}");
    }

    #[test]
    fn the_strictest_group_counts_in_both_versions() {
        let of = |groups: &str, files: &[(&str, &str)]| {
            strictest(groups, |path| {
                files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
            })
        };
        let service = "/sys/fs/cgroup/system.slice/moat.service/memory.max";
        let slice = "/sys/fs/cgroup/system.slice/memory.max";
        let v2 = "0::/system.slice/moat.service\n";
        assert_eq!(of(v2, &[(service, "1073741824\n")]), Some(1 << 30));
        assert_eq!(of(v2, &[(service, "1073741824\n"), (slice, "1048576\n")]), Some(1 << 20));
        assert_eq!(of(v2, &[(service, "max\n")]), None);
        assert_eq!(of("0::/\n", &[("/sys/fs/cgroup/memory.max", "5\n")]), Some(5));
        let v1 = "5:cpu,cpuacct:/a\n4:memory:/a/b\n0::/\n";
        let file = "/sys/fs/cgroup/memory/a/memory.limit_in_bytes";
        assert_eq!(of(v1, &[(file, "4096\n")]), Some(4096));
        assert_eq!(of(v1, &[(file, "9223372036854771712\n")]), None);
        assert_eq!(of("nonsense", &[]), None);
    }
}

//! The access log: one JSON line for each request, in ASCII, whatever the client sent.
use super::Lines;
use crate::serve::context::micros;
use decide::digits;
use decide::facts::{Protocol, RequestId};
use decide::record::is_plain;
use std::cell::Cell;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is logged of a text that a client can make long, in bytes.
const TEXT_MAX: usize = 2048;

thread_local! {
    /// The buffer of this thread's lines, to be used again.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// One request, as it is logged.
#[derive(Clone, Copy, Debug)]
pub struct AccessLine<'a> {
    /// Wall clock at its beginning, milliseconds since the epoch.
    pub at_ms: u64,
    /// Our id of it.
    pub id: RequestId,
    /// The listener's name.
    pub listener: &'a str,
    /// The client's address, after trusted hops.
    pub client: Option<IpAddr>,
    /// The method, as far as it could be read.
    pub method: Option<&'a str>,
    /// The host, as far as it could be read.
    pub host: Option<&'a str>,
    /// The path; never the query, which may hold secrets.
    pub path: Option<&'a str>,
    /// The route's name.
    pub route: Option<&'a str>,
    /// The tenant's id.
    pub tenant: Option<&'a str>,
    /// The status sent; 0 where none was.
    pub status: u16,
    /// Why it was refused.
    pub code: Option<&'static str>,
    /// Body bytes sent to the client.
    pub bytes: u64,
    /// From its head to the end of the response.
    pub duration: Duration,
    /// The upstream's name, where it was asked.
    pub upstream: Option<&'a str>,
    /// HTTP version of the client's side.
    pub protocol: Option<Protocol>,
    /// TLS version.
    pub tls: Option<&'a str>,
    /// The trace's id, where spans of it are sent.
    pub trace: Option<u128>,
}

/// The access log.
pub struct AccessLog {
    lines: Arc<Lines>,
    /// Of 2^32 requests that were not refused, so many are logged.
    sample: AtomicU64,
}

impl AccessLog {
    /// A log to `lines` with this share (0 to 1) of the requests that were not refused; refused ones are all logged.
    pub fn new(lines: Arc<Lines>, share: f64) -> AccessLog {
        AccessLog { lines, sample: AtomicU64::new(sample(share)) }
    }

    /// Changes the share.
    pub fn resample(&self, share: f64) {
        self.sample.store(sample(share), Ordering::Relaxed);
    }

    /// Logs a request.
    pub fn write(&self, line: &AccessLine<'_>) {
        // The last bits of a UUIDv7 are random, so every replica and every log of the same request agree.
        let random = (line.id.0 & 0xffff_ffff) as u64;
        if random >= self.sample.load(Ordering::Relaxed) && line.code.is_none() {
            return;
        }
        // A thread that ends has none any more, and needs none.
        let mut out = SPARE.try_with(Cell::take).unwrap_or_default();
        out.reserve(512);
        render(line, &mut out);
        self.lines.push(&out);
        out.clear();
        // Hostile lines may be long; such buffers are not kept.
        if out.capacity() <= TEXT_MAX {
            let _ = SPARE.try_with(|spare| spare.set(out));
        }
    }

    /// The queue, for its count of dropped lines.
    pub fn lines(&self) -> &Lines {
        &self.lines
    }
}

/// Of 2^32 requests, so many make this share.
fn sample(share: f64) -> u64 {
    let all = (1u64 << 32) as f64;
    (share.clamp(0.0, 1.0) * all) as u64
}

fn render(line: &AccessLine<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"time\":\"");
    decide::record::time::write(out, line.at_ms);
    out.extend_from_slice(b"\",\"id\":\"");
    out.extend_from_slice(&line.id.text());
    out.push(b'"');
    text(out, ",\"listener\":\"", Some(line.listener));
    if let Some(client) = line.client {
        out.extend_from_slice(b",\"client\":\"");
        digits::address(out, client);
        out.push(b'"');
    }
    text(out, ",\"method\":\"", line.method);
    text(out, ",\"host\":\"", line.host);
    text(out, ",\"path\":\"", line.path);
    text(out, ",\"route\":\"", line.route);
    text(out, ",\"tenant\":\"", line.tenant);
    number(out, ",\"status\":", line.status.into());
    text(out, ",\"code\":\"", line.code);
    number(out, ",\"bytes\":", line.bytes);
    number(out, ",\"duration_us\":", micros(line.duration));
    text(out, ",\"upstream\":\"", line.upstream);
    let protocol = line.protocol.map(|protocol| match protocol {
        Protocol::Http1 => "h1",
        Protocol::Http2 => "h2",
    });
    text(out, ",\"protocol\":\"", protocol);
    text(out, ",\"tls\":\"", line.tls);
    if let Some(trace) = line.trace {
        let _ = write!(out, ",\"trace\":\"{trace:032x}\"");
    }
    out.extend_from_slice(b"}\n");
}

fn number(out: &mut Vec<u8>, lead: &str, value: u64) {
    out.extend_from_slice(lead.as_bytes());
    digits::decimal(out, value);
}

/// A member, if there is a value; `lead` is all before it. All but printable ASCII is escaped (RFC 8259, 7): neither a
/// parser nor a terminal can be made to read anything else.
fn text(out: &mut Vec<u8>, lead: &str, value: Option<&str>) {
    let Some(value) = value else {
        return;
    };
    out.extend_from_slice(lead.as_bytes());
    let shown = value.get(..value.floor_char_boundary(TEXT_MAX)).unwrap_or_default();
    // Almost always nothing is special, and the text goes out in one piece.
    if shown.is_ascii() && is_plain(shown.as_bytes()) {
        out.extend_from_slice(shown.as_bytes());
    } else {
        escaped(out, shown);
    }
    out.extend_from_slice(if shown.len() < value.len() { b"...\"" } else { b"\"" });
}

fn escaped(out: &mut Vec<u8>, text: &str) {
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
            ' '..='~' => out.push(c as u8),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a Vec cannot fail, here and above.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::logs::lines::tests::Captured;
    use proptest::prelude::*;

    const LINE: AccessLine<'static> = AccessLine {
        at_ms: 1_763_690_000_123,
        id: RequestId(0x019a_a2f0_1234_7abc_8def_0123_4567_89ab),
        listener: "public",
        client: None,
        method: Some("GET"),
        host: Some("acme.example.com"),
        path: Some("/api/orders"),
        route: Some("api-read"),
        tenant: Some("acme"),
        status: 200,
        code: None,
        bytes: 1024,
        duration: Duration::from_micros(1500),
        upstream: Some("api"),
        protocol: Some(Protocol::Http2),
        tls: Some("1.3"),
        trace: None,
    };

    fn rendered(line: &AccessLine<'_>) -> String {
        let mut out = Vec::new();
        render(line, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn a_line_has_the_members_of_the_reference() {
        let line = AccessLine { client: Some("2001:db8::1".parse().expect("an address")), ..LINE };
        assert_eq!(
            rendered(&line),
            concat!(
                r#"{"time":"2025-11-21T01:53:20.123Z","id":"019aa2f0-1234-7abc-8def-0123456789ab","#,
                r#""listener":"public","client":"2001:db8::1","method":"GET","host":"acme.example.com","#,
                r#""path":"/api/orders","route":"api-read","tenant":"acme","status":200,"bytes":1024,"#,
                r#""duration_us":1500,"upstream":"api","protocol":"h2","tls":"1.3"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let bare = AccessLine {
            method: None,
            host: None,
            path: None,
            route: None,
            tenant: None,
            status: 400,
            code: Some("request.malformed"),
            upstream: None,
            protocol: None,
            tls: None,
            ..LINE
        };
        let line = rendered(&bare);
        assert!(line.contains(r#""listener":"public","status":400,"code":"request.malformed","bytes""#), "{line}");
        assert!(!line.contains("null"));
    }

    fn logged(share: f64, lines: &[AccessLine<'_>]) -> usize {
        let captured = Captured::default();
        let log = AccessLog::new(
            Arc::new(Lines::start("test", Box::new(captured.clone()), 1 << 20).expect("a thread")),
            share,
        );
        lines.iter().for_each(|line| log.write(line));
        drop(log);
        captured.text().lines().count()
    }

    #[test]
    fn a_sample_keeps_every_refusal() {
        let spread = |n: u32| RequestId(u128::from(n) << 24);
        let plain: Vec<_> = (0..256).map(|n| AccessLine { id: spread(n), ..LINE }).collect();
        let refused: Vec<_> = plain.iter().map(|line| AccessLine { code: Some("access.denied"), ..*line }).collect();
        assert_eq!((logged(0.25, &plain), logged(0.25, &refused)), (64, 256));
        assert_eq!((logged(0.0, &plain), logged(1.0, &plain)), (0, 256));
    }

    proptest! {
        #[test]
        fn any_text_stays_in_its_string(path: String, host: String) {
            let line = rendered(&AccessLine { path: Some(&path), host: Some(&host), ..LINE });
            prop_assert!(line.bytes().rev().skip(1).all(|byte| (0x20..0x7f).contains(&byte)));
            let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            prop_assert_eq!(value["path"].as_str(), Some(path.as_str()));
            prop_assert_eq!(value["host"].as_str(), Some(host.as_str()));
        }
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let path = "\u{e9}".repeat(5000);
        let line = rendered(&AccessLine { path: Some(&path), ..LINE });
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["path"], format!("{}...", "\u{e9}".repeat(1024)));
    }
}

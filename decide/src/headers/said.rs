//! What the gateway says of its own in a field, as data: so that it can be written into a map of fields, or straight into
//! a head.
use super::request::Origin;
use crate::digits;
use crate::facts::LimitState;
use crate::ratelimit::{limit_field, policy_field};
use bytes::BufMut;
use core::net::IpAddr;
use http::HeaderValue;
use std::sync::Arc;

/// The value of a field that is ours. Whatever it is made of, it is one value and stays on its line.
#[derive(Clone, Copy, Debug)]
pub enum Said<'a> {
    /// This one.
    Value(&'a HeaderValue),
    /// Visible ASCII, as it is.
    Plain(&'a [u8]),
    /// Any text: visible ASCII as it is; `%`, `,` and everything else percent-encoded (RFC 3986, 2.1), so that no value can be
    /// read as two, and decoding gives back the very text.
    Text(&'a str),
    /// Such texts, separated by commas.
    List(&'a [Arc<str>]),
    /// The client and the hops after it, as in `X-Forwarded-For`. `client` is its address as text.
    Addresses {
        /// The client's.
        client: &'a [u8],
        /// Where the request came from.
        origin: &'a Origin<'a>,
    },
    /// The same as in `Forwarded` (RFC 7239).
    Nodes {
        /// The client's address as text.
        client: &'a [u8],
        /// Where the request came from.
        origin: &'a Origin<'a>,
    },
    /// `RateLimit`.
    Limit(&'a LimitState),
    /// `RateLimit-Policy`.
    Policy(&'a LimitState),
    /// A number.
    Number(u32),
}

impl Said<'_> {
    /// Appends it.
    pub fn write(&self, out: &mut impl BufMut) {
        match *self {
            Said::Value(value) => out.put_slice(value.as_bytes()),
            Said::Plain(bytes) => out.put_slice(bytes),
            Said::Text(text) => encode(out, text),
            Said::List(items) => {
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.put_slice(b",");
                    }
                    encode(out, item);
                }
            }
            Said::Addresses { client, origin } => {
                out.put_slice(client);
                for hop in origin.hops {
                    out.put_slice(b", ");
                    digits::address(out, hop.to_canonical());
                }
            }
            Said::Nodes { client, origin } => nodes(out, client, origin),
            Said::Limit(limit) => limit_field(out, limit),
            Said::Policy(limit) => policy_field(out, limit),
            Said::Number(number) => digits::decimal(out, number.into()),
        }
    }
}

fn nodes(out: &mut impl BufMut, client: &[u8], origin: &Origin<'_>) {
    node(out, origin.client, |out| out.put_slice(client));
    let authority = origin.authority;
    let quoted = !authority.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    let mark = if quoted { b"\"".as_slice() } else { b"" };
    // An authority has neither quotes nor backslashes; were there one, it could not be quoted, and is not said.
    let can_be_said = !quoted || !authority.iter().any(|b| matches!(b, b'"' | b'\\'));
    if can_be_said && !authority.is_empty() {
        [b";host=", mark, authority, mark].into_iter().for_each(|piece| out.put_slice(piece));
    }
    out.put_slice(if origin.https { b";proto=https" } else { b";proto=http" });
    for hop in origin.hops {
        out.put_slice(b", ");
        node(out, *hop, |out| digits::address(out, hop.to_canonical()));
    }
}

/// RFC 7239, 6: IPv6 in brackets and quotes.
fn node<B: BufMut>(out: &mut B, address: IpAddr, text: impl FnOnce(&mut B)) {
    let (before, after): (&[u8], &[u8]) = match address.to_canonical() {
        IpAddr::V4(_) => (b"for=", b""),
        IpAddr::V6(_) => (b"for=\"[", b"]\""),
    };
    out.put_slice(before);
    text(out);
    out.put_slice(after);
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'%' && byte != b','
}

fn encode(out: &mut impl BufMut, item: &str) {
    if item.bytes().all(is_plain) {
        return out.put_slice(item.as_bytes());
    }
    for byte in item.bytes() {
        if is_plain(byte) {
            out.put_u8(byte);
        } else {
            let [high, low] = digits::pair(byte).map(|digit| digit.to_ascii_uppercase());
            out.put_slice(&[b'%', high, low]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn encoding_is_one_word_and_reversible(text in "\\PC{0,30}|[\\x00-\\x7f]{0,30}") {
            let mut shown = Vec::new();
            Said::Text(&text).write(&mut shown);
            prop_assert!(shown.iter().all(|b| b.is_ascii_graphic() && *b != b','));
            let mut bytes = Vec::new();
            let mut rest = shown.into_iter();
            while let Some(b) = rest.next() {
                bytes.push(if b == b'%' {
                    let hex = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
                } else { b });
            }
            prop_assert_eq!(String::from_utf8(bytes).unwrap(), text);
        }
    }
}

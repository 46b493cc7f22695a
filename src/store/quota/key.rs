//! Whom a limit counts: the parts of a key, hashed with a secret of this process, or of all replicas.
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use decide::rules::{FieldKey, KeyPart};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;

/// What the keys of limits are made from.
#[derive(Clone, Copy, Debug)]
pub struct KeyInput<'a> {
    /// The client's address, after trusted hops.
    pub client: IpAddr,
    /// The tenant; requests without one share a key.
    pub tenant: Option<&'a str>,
    /// The tenant's class, for limits with a rate per class.
    pub class: Option<usize>,
    /// Name of the issuer of the session; empty without one.
    pub issuer: &'a str,
    /// The issuer's word for the user. Without one the address prefix stands in, so that a limit per user never lumps
    /// all anonymous callers together.
    pub subject: Option<&'a str>,
    /// The id of the API key, where there is one. Without one the address prefix stands in.
    pub api_key: Option<&'a str>,
    /// The route's name.
    pub route: &'a str,
    /// Values of the path's parameters, by name.
    pub params: &'a [(&'a str, &'a str)],
    /// Hashes of fields of the body; a field that is not among them shares a key with all that lack it.
    pub fields: &'a [(FieldKey, FieldHash)],
}

impl<'a> KeyInput<'a> {
    /// A request of which no more than address and route is known.
    pub const fn of(client: IpAddr, route: &'a str) -> KeyInput<'a> {
        KeyInput {
            client,
            tenant: None,
            class: None,
            issuer: "",
            subject: None,
            api_key: None,
            route,
            params: &[],
            fields: &[],
        }
    }
}

/// What stands for the value of a field of the body from the moment it was read. It goes nowhere but into the hash of a
/// key, which is made with a secret; it is the same in every process that shares one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FieldHash(u128);

impl FieldHash {
    /// Of a value.
    pub fn of(value: &[u8]) -> FieldHash {
        let digest = digest(&SHA256, value);
        FieldHash(digest.as_ref().iter().take(16).fold(0, |hash, byte| hash << 8 | u128::from(*byte)))
    }
}

impl std::fmt::Debug for FieldHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FieldHash")
    }
}

/// SipHash with random keys: nobody outside can aim at a key, or find two that collide.
pub(super) struct KeyHasher(RandomState);

/// The secret that replicas hash keys with, so that they all mean the same client.
#[derive(Clone, PartialEq, Eq)]
pub struct HashKeys([u64; 4]);

impl HashKeys {
    /// Derived from a secret that all replicas have.
    pub fn derive(secret: &[u8]) -> HashKeys {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"moat: keys of shared limits");
        let mut keys = [0; 4];
        for (key, bytes) in keys.iter_mut().zip(tag.as_ref().chunks_exact(8)) {
            *key = bytes.iter().fold(0, |key, byte| key << 8 | u64::from(*byte));
        }
        HashKeys(keys)
    }

    /// The key's hash, in two halves.
    pub(super) fn wide(&self, parts: &[KeyPart], input: &KeyInput<'_>) -> (u64, u64) {
        let [a, b, c, d] = self.0;
        (sip(a, b, parts, input), sip(c, d, parts, input))
    }
}

#[expect(deprecated, reason = "the only SipHash with a chosen key in the standard library, and its algorithm is fixed")]
fn sip(key0: u64, key1: u64, parts: &[KeyPart], input: &KeyInput<'_>) -> u64 {
    feed(std::hash::SipHasher::new_with_keys(key0, key1), parts, input, Grain::Own)
}

/// How finely a key tells clients and users apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Grain {
    /// One cell each.
    Own,
    /// One lane for a network, or for all users of a tenant.
    Lane,
}

impl KeyHasher {
    pub(super) fn new() -> KeyHasher {
        KeyHasher(RandomState::new())
    }

    /// The key's own hash.
    pub(super) fn own(&self, parts: &[KeyPart], input: &KeyInput<'_>) -> u64 {
        self.hash(parts, input, Grain::Own)
    }

    /// Hash of the neighbourhood that the key shares overflow cells with.
    pub(super) fn lane(&self, parts: &[KeyPart], input: &KeyInput<'_>) -> u64 {
        self.hash(parts, input, Grain::Lane)
    }

    fn hash(&self, parts: &[KeyPart], input: &KeyInput<'_>, grain: Grain) -> u64 {
        feed(self.0.build_hasher(), parts, input, grain)
    }
}

fn feed(mut state: impl Hasher, parts: &[KeyPart], input: &KeyInput<'_>, grain: Grain) -> u64 {
    for part in parts {
        match part {
            KeyPart::ClientPrefix => address(&mut state, input.client, grain),
            KeyPart::Tenant => text(&mut state, 2, input.tenant),
            KeyPart::Route => text(&mut state, 3, Some(input.route)),
            KeyPart::Param(name) => {
                let value = input.params.iter().find(|(known, _)| **known == **name).map(|(_, value)| *value);
                text(&mut state, 6, value);
            }
            KeyPart::Field(field) => {
                let hash = input.fields.iter().find(|(known, _)| known == field);
                state.write_u64(7);
                state.write_u128(hash.map_or(0, |(_, hash)| hash.0));
            }
            // Without a key, as on routes that accept others too, the address prefix stands in.
            KeyPart::ApiKey => match (input.api_key, grain) {
                (None, _) => address(&mut state, input.client, grain),
                (Some(id), Grain::Own) => text(&mut state, 8, Some(id)),
                (Some(_), Grain::Lane) => text(&mut state, 2, input.tenant),
            },
            KeyPart::Subject => match (input.subject, grain) {
                (None, _) => address(&mut state, input.client, grain),
                (Some(subject), Grain::Own) => {
                    text(&mut state, 4, Some(input.issuer));
                    text(&mut state, 5, Some(subject));
                }
                (Some(_), Grain::Lane) => text(&mut state, 2, input.tenant),
            },
        }
    }
    state.finish()
}

/// A tagged text with its length, so that no two lists of parts hash the same bytes.
fn text(state: &mut impl Hasher, tag: u8, text: Option<&str>) {
    match text {
        Some(text) => {
            state.write_u64(u64::from(tag) | (text.len() as u64) << 8);
            state.write(text.as_bytes());
        }
        None => state.write_u64(u64::from(tag) | u64::MAX << 8),
    }
}

/// An address prefix: /32 and /64; in a lane /24 and /32, the sizes in which networks are handed out. An IPv4-mapped
/// IPv6 address is the IPv4 address.
fn address(state: &mut impl Hasher, address: IpAddr, grain: Grain) {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let bits = match grain {
                Grain::Own => v4.to_bits(),
                Grain::Lane => v4.to_bits() >> 8,
            };
            state.write_u64(0);
            state.write_u64(u64::from(bits));
        }
        IpAddr::V6(v6) => {
            let bits = match grain {
                Grain::Own => v6.to_bits() >> 64,
                Grain::Lane => v6.to_bits() >> 96,
            };
            state.write_u64(1);
            // Shifted, so that it fits.
            state.write_u64(bits as u64);
        }
    }
}

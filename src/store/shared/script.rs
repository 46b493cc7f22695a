//! Lua scripts that the server runs in one piece: nobody else's command comes between.
use super::resp;
use aws_lc_rs::digest;

/// A script and the name under which the server remembers it.
#[derive(Debug)]
pub struct Script {
    source: String,
    /// SHA-1 of the source, hex: the server's own name for it, no matter of secrecy.
    name: String,
}

impl Script {
    /// Of this source.
    pub fn new(source: impl Into<String>) -> Script {
        let source = source.into();
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, source.as_bytes());
        Script { source, name: hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect() }
    }

    /// A call by name, for servers that know the script.
    pub(super) fn short(&self, out: &mut Vec<u8>, keys: &[Vec<u8>], values: &[Vec<u8>]) {
        call(out, b"EVALSHA", self.name.as_bytes(), keys, values);
    }

    /// A call with the source, by which the server gets to know it.
    pub(super) fn whole(&self, out: &mut Vec<u8>, keys: &[Vec<u8>], values: &[Vec<u8>]) {
        call(out, b"EVAL", self.source.as_bytes(), keys, values);
    }
}

fn call(out: &mut Vec<u8>, verb: &[u8], script: &[u8], keys: &[Vec<u8>], values: &[Vec<u8>]) {
    let count = keys.len().to_string();
    let mut parts: Vec<&[u8]> = Vec::with_capacity(3 + keys.len() + values.len());
    parts.extend([verb, script, count.as_bytes()]);
    parts.extend(keys.iter().chain(values).map(Vec::as_slice));
    resp::command(out, parts.into_iter());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_goes_by_its_sha1() {
        let mut out = Vec::new();
        Script::new("return 1").short(&mut out, &[b"k".to_vec()], &[b"v".to_vec()]);
        // `SCRIPT LOAD "return 1"` answers with this name.
        let name = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!("*5\r\n$7\r\nEVALSHA\r\n$40\r\n{name}\r\n$1\r\n1\r\n$1\r\nk\r\n$1\r\nv\r\n")
        );
    }
}

//! The keys that sessions are sealed with: from a file of the operator's, or made in the state folder.
use crate::config::compile::Compiler;
use crate::config::options::UseOption;
use crate::config::problem::At;
use crate::config::read::Spanned;
use crate::config::secrets::SecretPlace;
use crate::config::settings::{SealingKeys, SecretSource, Server};
use crate::config::{Purpose, pepper};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Name of the file in the state folder.
const NAME: &str = "session-keys";
/// Nobody needs to open what was sealed by more than this many keys.
const MOST: usize = 16;

impl Compiler<'_> {
    /// `sessions.keys`, or those of the state folder: whatever is ended before its time is kept under them.
    pub(super) fn sealing_keys(&self, server: &Server) -> SealingKeys {
        let options = &self.options.sessions;
        if let Some(place) = &options.keys {
            return self.read_keys(place);
        }
        self.shared_without_keys();
        match self.world.purpose {
            Purpose::Check => SealingKeys::default(),
            Purpose::Run => match pepper::read_or_make(&server.state_dir, NAME) {
                Ok(key) => SealingKeys::new(vec![key]),
                Err(error) => {
                    let message = format!("`server.state_dir` cannot be used: {error}").to_lowercase();
                    self.report.problem(At::file(0), message);
                    SealingKeys::default()
                }
            },
        }
    }

    /// What replicas share they must all be able to open: with a key of its own each would log the others' users out.
    fn shared_without_keys(&self) {
        let sessions = &self.options.sessions;
        let sealed = |kind: UseOption| match kind {
            UseOption::Sessions | UseOption::Factors => {
                sessions.browser.as_ref().is_some_and(|browser| browser.keys.is_none())
            }
            UseOption::RefreshFamilies => sessions.tokens.is_some(),
            UseOption::Revocations => true,
            UseOption::Limits | UseOption::ApiKeys | UseOption::Once | UseOption::SignIns => false,
        };
        let storage = &self.options.storage;
        let redis = storage.redis.iter().flat_map(|redis| &redis.use_for.value);
        let postgres = storage.postgres.iter().flat_map(|postgres| &postgres.use_for.value);
        if let Some(kind) = redis.chain(postgres).find(|kind| sealed(kind.value)) {
            let hint = "write `sessions: {keys: …}`, the same keys for all replicas";
            let message = "replicas share what each of them seals with a key of its own";
            self.report.hinted(kind.at, message, Some(hint));
        }
    }

    /// Reads a file of keys; what is wrong with it is reported.
    pub(in crate::config::compile) fn read_keys(&self, place: &Spanned<SecretPlace>) -> SealingKeys {
        let source = place.source(&self.files.folder, &|name| self.files.variable(name));
        if let Ok(SecretSource::File(path)) = &source {
            self.files.watch(path.clone());
        }
        let text = source.and_then(|source| source.read().map_err(|error| format!("it cannot be read: {error}")));
        match text.and_then(|text| parse(&text)) {
            Ok(keys) => SealingKeys::new(keys),
            Err(message) => {
                let hint = "one key a line, made by `openssl rand -base64 32`; the first seals, the others still open";
                self.report.hinted(place.at, message, Some(hint));
                SealingKeys::default()
            }
        }
    }
}

/// Keys of 32 bytes, one a line, in base64 or hex; empty lines and lines that begin with `#` are none.
fn parse(text: &str) -> Result<Vec<[u8; 32]>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Option<Vec<[u8; 32]>> = lines.map(key).collect();
    // No line is quoted: it may be a key all the same.
    let keys = keys.ok_or("a line is no key of 32 bytes")?;
    let twice = keys.iter().enumerate().any(|(i, key)| keys.iter().skip(i + 1).any(|other| other == key));
    match keys.len() {
        0 => Err("there is no key in it".to_owned()),
        _ if twice => Err("a key stands there twice".to_owned()),
        n if n > MOST => Err(format!("there are more than {MOST} keys in it")),
        _ => Ok(keys),
    }
}

fn key(line: &str) -> Option<[u8; 32]> {
    let bytes = match line.len() {
        64 => hex(line)?,
        _ => STANDARD.decode(line).or_else(|_| URL_SAFE_NO_PAD.decode(line)).ok()?,
    };
    let key: [u8; 32] = bytes.try_into().ok()?;
    // Somebody's placeholder, and no key.
    (key.iter().any(|byte| Some(byte) != key.first())).then_some(key)
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_of_32_bytes_and_each_stands_once() {
        let base64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let hex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e20";
        assert_eq!(parse(base64).unwrap(), [std::array::from_fn::<u8, 32, _>(|i| i as u8)]);
        assert_eq!(parse(&format!("# new\n{hex}\n\n{base64}\n")).unwrap().len(), 2);
        for wrong in ["", "# nothing", "short", &"00".repeat(32), &format!("{base64}\n{base64}"), &format!("{hex}0")] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}

//! Where secrets come from: files, variables and credentials. A secret is never a literal in the configuration.
use crate::config::files::reason;
use crate::config::settings::SecretSource;
use schemars::JsonSchema;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::io::Read;
use std::path::{Path, PathBuf};

/// A secret's place. The configuration, its printed form and every message hold the place, never the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecretPlace {
    /// A file, relative to the folder of `gateway.yaml`. Danger: it must be readable by the gateway's user only.
    File(String),
    /// An environment variable. Danger: other processes of the same user can read it.
    Env(String),
    /// A credential of systemd (`LoadCredential=`), a file in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

impl<'de> Deserialize<'de> for SecretPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Place;
        impl<'de> Visitor<'de> for Place {
            type Value = SecretPlace;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the place of a secret")
            }
            /// The text is not quoted: it may be the secret.
            fn visit_str<E: Error>(self, _: &str) -> Result<SecretPlace, E> {
                Err(E::custom(format!("{SECRET}\n{CURE}")))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretPlace, A::Error> {
                let place = match map.next_key::<String>()?.as_deref() {
                    Some("file") => SecretPlace::File(map.next_value()?),
                    Some("env") => SecretPlace::Env(map.next_value()?),
                    Some("credential") => SecretPlace::Credential(map.next_value()?),
                    _ => {
                        return Err(A::Error::custom(
                            "expected the place of a secret\nwrite `{file: …}`, `{env: …}` or `{credential: …}`",
                        ));
                    }
                };
                match map.next_key::<String>()? {
                    None => Ok(place),
                    Some(_) => Err(A::Error::custom("a secret has one place")),
                }
            }
        }
        deserializer.deserialize_any(Place)
    }
}

/// Longer files are no secrets, but mistakes.
const MAX_SECRET: u64 = 64 << 10;

fn shown<'a>(path: &'a Path, folder: &Path) -> std::path::Display<'a> {
    path.strip_prefix(folder).unwrap_or(path).display()
}

impl SecretSource {
    /// The secret as it is now. May wait for the disk.
    pub fn read(&self) -> std::io::Result<String> {
        match self {
            SecretSource::File(path) => {
                let mut text = String::new();
                std::fs::File::open(path)?.take(MAX_SECRET).read_to_string(&mut text)?;
                text.truncate(text.trim_end().len());
                Ok(text)
            }
            SecretSource::Env(name) => std::env::var(name).map_err(std::io::Error::other),
        }
    }
}

/// The message for a literal secret; the reader knows it, and blanks the place.
pub(crate) const SECRET: &str = "a secret is never a literal";
const CURE: &str = "write `{file: …}`, `{env: …}` or `{credential: …}`, and change this secret: it has been in a file";

impl SecretPlace {
    /// Where it is read when it is needed; the error says what is wrong, an empty or missing secret included.
    pub fn source(&self, folder: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<SecretSource, String> {
        if let SecretPlace::Env(name) = self {
            return match env(name) {
                Some(value) if !value.is_empty() => Ok(SecretSource::Env(name.clone())),
                Some(_) | None => Err(format!("the variable `{name}` is not set")),
            };
        }
        let path = self.path(folder, env)?;
        match std::fs::metadata(&path) {
            Ok(file) if file.len() > MAX_SECRET => Err("a secret has at most 64 KiB".to_owned()),
            Ok(file) if file.len() == 0 => Err(format!("`{}` is empty", shown(&path, folder))),
            Ok(_) => Ok(SecretSource::File(path)),
            Err(error) => Err(format!("`{}` {}", shown(&path, folder), reason(&error))),
        }
    }

    /// The file that holds it; the error says what is wrong.
    pub fn path(&self, folder: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<PathBuf, String> {
        match self {
            SecretPlace::File(path) => Ok(folder.join(path)),
            SecretPlace::Credential(name) if name.contains('/') => Err("a credential's name has no `/`".to_owned()),
            SecretPlace::Credential(name) => match env("CREDENTIALS_DIRECTORY") {
                Some(directory) => Ok(Path::new(&directory).join(name)),
                None => Err("`CREDENTIALS_DIRECTORY` is not set, so there are no credentials".to_owned()),
            },
            SecretPlace::Env(_) => Err("this secret must be a file: write `{file: …}` or `{credential: …}`".to_owned()),
        }
    }
}

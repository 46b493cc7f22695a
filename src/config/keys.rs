//! Where API keys are, as `moat keys` finds it: files, which it reads and rewrites, and sets that a running gateway keeps.
use crate::config::files::{Files, folder_of};
use crate::config::options::{ApiKeyAuth, ApiKeyOptions, ApiKeysFile, AuthOptions, Gateway, OneAuth};
use crate::config::problem::{At, Problems, Report};
use crate::config::read::Spanned;
use crate::config::secrets::SecretPlace;
use crate::config::{pepper, read, yaml};
use aws_lc_rs::hmac;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const HEAD: &str = "# API keys: hashes, never keys. Written by `moat keys`; comments are not kept.\n";

/// The places of keys that routes name, each once.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Files.
    pub files: Vec<KeyFile>,
    /// Sets in the state engine.
    pub sets: Vec<KeySetPlace>,
}

/// A file that some route names, and what its keys look like.
#[derive(Clone, Debug)]
pub struct KeyFile {
    /// Its name as configured.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What its keys begin with.
    pub prefix: String,
    /// What its keys are hashed with.
    pub pepper: PepperPlace,
    folder: PathBuf,
}

/// A set that some route names.
#[derive(Clone, Debug)]
pub struct KeySetPlace {
    /// Its name.
    pub name: String,
    /// What its keys are hashed with, and orders about it proven by.
    pub pepper: PepperPlace,
}

/// Where the secret is that keys are hashed with.
#[derive(Clone, Debug)]
pub struct PepperPlace {
    /// Where the gateway keeps its own, and notes when keys were used.
    pub state_dir: PathBuf,
    written: Option<Spanned<SecretPlace>>,
    folder: PathBuf,
}

impl PepperPlace {
    /// The secret. Makes it where there is none yet.
    pub fn key(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<hmac::Key, String> {
        let pepper = match &self.written {
            Some(place) => {
                let source = place.source(&self.folder, env)?;
                source.read().map_err(|error| format!("the pepper cannot be read: {error}"))?.into_bytes()
            }
            None => pepper::read_or_make(&self.state_dir, pepper::API_KEYS)
                .map_err(|error| format!("`server.state_dir` cannot be used: {error}"))?
                .to_vec(),
        };
        Ok(hmac::Key::new(hmac::HMAC_SHA256, &pepper))
    }
}

/// What is in a file of keys.
#[derive(Debug)]
pub struct Content {
    /// As it is.
    pub file: ApiKeysFile,
    before: Option<String>,
}

/// The places of keys that a configuration names. The configuration is read, not compiled: a file that is yet
/// to be made is no problem, and neither is whatever else stands in the way of a start.
pub fn find(config: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Places, Problems> {
    let report = Report::default();
    let files = Files::new(folder_of(config), env, &report);
    let found = within(config, &files);
    let (sources, _) = files.into_parts();
    match found {
        Some(found) => Ok(found),
        None => Err(report.finish(&sources)),
    }
}

fn within(config: &Path, files: &Files<'_>) -> Option<Places> {
    let mut tree = files.open(&config.file_name()?.to_string_lossy(), None)?;
    files.include(&mut tree);
    let options: Gateway = read::read(&tree, files.report)?;
    let state_dir = files.folder.join(&options.server.state_dir);
    let mut found = Places::default();
    let mut add = |auth: &ApiKeyAuth| {
        let folder = files.folder.clone();
        let pepper = PepperPlace { state_dir: state_dir.clone(), written: auth.pepper.clone(), folder: folder.clone() };
        // What names both is a problem of a start, and none here.
        if let Some(Spanned { value: name, .. }) = auth.keys.state.clone() {
            if found.sets.iter().all(|known| known.name != name) {
                found.sets.push(KeySetPlace { name, pepper });
            }
        } else if let Some(Spanned { value: name, .. }) = auth.keys.file.clone()
            && found.files.iter().all(|known| known.name != name)
        {
            let (path, prefix) = (folder.join(&name), auth.prefix.value.clone());
            found.files.push(KeyFile { path, prefix, pepper, folder, name });
        }
    };
    for (_, route) in options.routes.iter() {
        match route.auth.as_ref().map(|auth| &auth.way) {
            Some(AuthOptions::ApiKey(auth)) => add(auth),
            Some(AuthOptions::AnyOf(all)) => all.iter().for_each(|one| match &one.value {
                OneAuth::ApiKey(auth) => add(auth),
                OneAuth::Bearer(_)
                | OneAuth::Dpop(_)
                | OneAuth::Cookie(_)
                | OneAuth::Session(_)
                | OneAuth::AppSession(_)
                | OneAuth::ExtAuth(_)
                | OneAuth::Certificate(_) => {}
            }),
            Some(
                AuthOptions::Bearer(_)
                | AuthOptions::Dpop(_)
                | AuthOptions::Cookie(_)
                | AuthOptions::Session(_)
                | AuthOptions::AppSession(_)
                | AuthOptions::ExtAuth(_)
                | AuthOptions::Certificate(_),
            )
            | None => {}
        }
    }
    Some(found)
}

impl KeyFile {
    /// The keyed hash of a key, as the file has it. Makes the pepper where there is none yet.
    pub fn hash(&self, key: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
        let tag = hmac::sign(&self.pepper.key(env)?, key.as_bytes());
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(format!("hmac-sha256:{hex}"))
    }

    /// What is in it; nothing where it is yet to be made.
    pub fn read(&self) -> Result<Content, Problems> {
        let report = Report::default();
        if !self.path.exists() {
            return Ok(Content { file: ApiKeysFile::default(), before: None });
        }
        let none = |_: &str| None;
        let files = Files::new(self.folder.clone(), &none, &report);
        let file = files.load::<ApiKeysFile>(&self.name, At::default()).map(Arc::unwrap_or_clone);
        let (sources, _) = files.into_parts();
        let before = sources.first().map(|source| source.text.clone());
        match file.filter(|_| report.is_empty()) {
            Some(file) => Ok(Content { file, before }),
            None => Err(report.finish(&sources)),
        }
    }

    /// Writes it anew, beside and then in its place, with the rights that it had.
    pub fn write(&self, content: &Content) -> io::Result<()> {
        let text = yaml::print(&content.file).map_err(io::Error::other)?;
        self.put(&format!("{HEAD}{text}"))
    }

    /// Puts back what was there before it was read.
    pub fn restore(&self, content: &Content) -> io::Result<()> {
        match &content.before {
            Some(text) => self.put(text),
            None => fs::remove_file(&self.path),
        }
    }

    /// Keeps other commands from the file for as long as the result lives.
    pub fn lock(&self) -> io::Result<Lock> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(self.path.with_extension("lock"))?;
        file.lock()?;
        Ok(Lock { _file: file })
    }

    fn put(&self, text: &str) -> io::Result<()> {
        let mode = fs::metadata(&self.path).map_or(0o600, |known| known.permissions().mode() & 0o777);
        let draft = self.path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)
    }
}

/// Others wait for it.
#[derive(Debug)]
pub struct Lock {
    _file: fs::File,
}

impl Content {
    /// The entry of an id.
    pub fn entry(&mut self, id: &str) -> Option<&mut ApiKeyOptions> {
        self.file.keys.0.iter_mut().find(|(known, _)| known.value == id).map(|(_, entry)| entry)
    }

    /// Adds an entry; false where there is one of this id.
    pub fn add(&mut self, id: &str, entry: ApiKeyOptions) -> bool {
        let fresh = self.file.keys.find(id).is_none();
        if fresh {
            self.file.keys.0.push((Spanned::from(id.to_owned()), entry));
        }
        fresh
    }
}

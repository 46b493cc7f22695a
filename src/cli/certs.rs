//! `moat certs dev`: a local authority that can sign nothing but local names, a server pair, and a signing key.
use anyhow::{Context, Result, bail};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Names that every development pair is for. Each tenant of the demo is named, because TLS libraries refuse
/// `*.localhost` as too broad a wildcard.
const NAMES: [&str; 6] =
    ["localhost", "acme.localhost", "globex.localhost", "initech.localhost", "umbrella.localhost", "nobody.localhost"];
const ADDRESSES: [&str; 2] = ["127.0.0.1", "::1"];
const DAYS: i64 = 90;

/// `moat certs …`
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a local authority, a server pair for localhost, and a token signing key
    ///
    /// Files that exist are kept. The authority may only sign names below `localhost` (and those given by --host),
    /// so trusting it endangers nothing else; still, keep it out of the system's trust store and use --cacert.
    Dev(Args),
}

/// `moat certs dev`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder that `tls.certificates` points to
    #[arg(long, default_value = "certs")]
    dir: PathBuf,
    /// One more name or address for the server pair; may be repeated
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

/// Where development files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Certificate of the local authority, for `--cacert`.
    pub ca: PathBuf,
    /// Its key.
    pub ca_key: PathBuf,
    /// Server certificate.
    pub server: PathBuf,
    /// Its key.
    pub server_key: PathBuf,
    /// Signing key of the demo's identity provider: ECDSA P-256, PKCS#8 PEM.
    pub idp_key: PathBuf,
}

impl Files {
    /// The files below a certificate folder. Only the server pair lies in the folder itself, where the gateway looks
    /// for pairs.
    pub fn below(dir: &Path) -> Files {
        let dev = dir.join("dev");
        Files {
            ca: dev.join("ca.crt"),
            ca_key: dev.join("ca.key"),
            server: dir.join("localhost.crt"),
            server_key: dir.join("localhost.key"),
            idp_key: dev.join("idp.key"),
        }
    }
}

/// What to do about files that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Keep them; refuse where they cannot serve.
    Keep,
    /// Keep them unless they cannot serve any more (expired, or not of one family).
    Renew,
    /// Make all of them anew.
    Replace,
}

/// Runs `moat certs …`.
pub fn run(command: Command) -> Result<ExitCode> {
    let Command::Dev(args) = command;
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    let made = ensure(&args.dir, &args.hosts, existing)?;
    let files = Files::below(&args.dir);
    let mut out = std::io::stdout().lock();
    for path in [&files.ca, &files.server, &files.idp_key] {
        let verb = if made.contains(path) { "made" } else { "kept" };
        writeln!(out, "{verb}  {}", path.display())?;
    }
    writeln!(out, "\ntry: curl --cacert {} https://localhost:…", files.ca.display())?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the development files that are missing below `dir` and returns the paths of what was made.
pub fn ensure(dir: &Path, hosts: &[String], existing: Existing) -> Result<Vec<PathBuf>> {
    let files = Files::below(dir);
    let present = files.ca.exists() && files.ca_key.exists() && files.server.exists() && files.server_key.exists();
    let anew = match existing {
        Existing::Replace => true,
        Existing::Keep | Existing::Renew if !present => false,
        Existing::Keep => match check(&files, hosts) {
            Ok(()) => false,
            Err(error) => bail!("{error:#}\nhint: `moat certs dev --force` makes new ones"),
        },
        Existing::Renew => check(&files, hosts).is_err(),
    };
    fs::create_dir_all(dir.join("dev")).with_context(|| format!("cannot make `{}`", dir.join("dev").display()))?;
    let mut made = Vec::new();

    let ca_params = ca_params(hosts)?;
    let ca_anew = anew || !files.ca.exists() || !files.ca_key.exists();
    let ca_key = if ca_anew {
        let key = KeyPair::generate()?;
        write_new(&files.ca_key, &key.serialize_pem(), 0o600)?;
        write_new(&files.ca, &ca_params.self_signed(&key)?.pem(), 0o644)?;
        made.push(files.ca.clone());
        key
    } else {
        let pem = fs::read_to_string(&files.ca_key).with_context(|| format!("`{}`", files.ca_key.display()))?;
        KeyPair::from_pem(&pem).with_context(|| format!("`{}`", files.ca_key.display()))?
    };

    // A pair of an authority that is gone cannot be verified any more.
    if ca_anew || !files.server.exists() || !files.server_key.exists() {
        let key = KeyPair::generate()?;
        let certificate = server_params(hosts)?.signed_by(&key, &Issuer::new(ca_params, ca_key))?;
        write_new(&files.server_key, &key.serialize_pem(), 0o600)?;
        write_new(&files.server, &certificate.pem(), 0o644)?;
        made.push(files.server.clone());
    }
    if existing == Existing::Replace || !files.idp_key.exists() {
        write_new(&files.idp_key, &KeyPair::generate()?.serialize_pem(), 0o600)?;
        made.push(files.idp_key.clone());
    }
    Ok(made)
}

/// Whether the server pair verifies now, under the authority beside it, for every name.
fn check(files: &Files, hosts: &[String]) -> Result<()> {
    let read = |path: &Path| CertificateDer::from_pem_file(path).with_context(|| format!("`{}`", path.display()));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(read(&files.ca)?).with_context(|| format!("`{}`", files.ca.display()))?;
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider())).build()?;
    let leaf = read(&files.server)?;
    for name in hosts.iter().map(String::as_str).chain(["localhost", "127.0.0.1"]) {
        let server_name = ServerName::try_from(name.replace('*', "any")).with_context(|| format!("`{name}`"))?;
        verifier
            .verify_server_cert(&leaf, &[], &server_name, &[], UnixTime::now())
            .with_context(|| format!("`{}` cannot serve `{name}`", files.server.display()))?;
    }
    Ok(())
}

fn ca_params(hosts: &[String]) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Moat development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(NameConstraints { permitted_subtrees: permitted(hosts), excluded_subtrees: vec![] });
    validity(&mut params)?;
    Ok(params)
}

/// What the authority may sign (RFC 5280, 4.2.1.10): `localhost` and all below, loopback, and what was asked for.
fn permitted(hosts: &[String]) -> Vec<GeneralSubtree> {
    let whole = |address: IpAddr| {
        GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, if address.is_ipv4() { 32 } else { 128 }))
    };
    let mut all = vec![GeneralSubtree::DnsName("localhost".into())];
    for host in hosts.iter().map(String::as_str).chain(ADDRESSES) {
        match host.parse::<IpAddr>() {
            Ok(address) => all.push(whole(address)),
            Err(_) => all.push(GeneralSubtree::DnsName(host.trim_start_matches("*.").into())),
        }
    }
    all
}

fn server_params(hosts: &[String]) -> Result<CertificateParams> {
    let names: Vec<String> =
        NAMES.iter().chain(&ADDRESSES).map(|name| (*name).to_owned()).chain(hosts.iter().cloned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    validity(&mut params)?;
    Ok(params)
}

/// From yesterday, because clocks of virtual machines and containers lag, for 90 days.
fn validity(params: &mut CertificateParams) -> Result<()> {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let ymd = |days: i64| -> Result<_> {
        let date = today.checked_add(jiff::Span::new().try_days(days)?)?;
        Ok(rcgen::date_time_ymd(date.year().into(), u8::try_from(date.month())?, u8::try_from(date.day())?))
    };
    params.not_before = ymd(-1)?;
    params.not_after = ymd(DAYS)?;
    Ok(())
}

/// Writes beside the target and renames, so that a running gateway never reads half a file and a key is never
/// readable by others for a moment.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<()> {
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write()
        .inspect_err(|_| drop(fs::remove_file(&beside)))
        .with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_second_run_keeps_everything() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::below(dir.path());
        assert_eq!(ensure(dir.path(), &[], Existing::Keep).unwrap().len(), 3);
        let before = [text(&files.ca), text(&files.server), text(&files.idp_key)];
        assert!(ensure(dir.path(), &[], Existing::Keep).unwrap().is_empty());
        assert!(ensure(dir.path(), &[], Existing::Renew).unwrap().is_empty());
        assert_eq!(before, [text(&files.ca), text(&files.server), text(&files.idp_key)]);
    }

    #[test]
    fn keys_are_for_their_owner_only_and_no_other_file_is_left() {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path(), &[], Existing::Keep).unwrap();
        let files = Files::below(dir.path());
        for key in [&files.ca_key, &files.server_key, &files.idp_key] {
            assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600, "{}", key.display());
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        assert_eq!(fs::read_dir(dir.path().join("dev")).unwrap().count(), 3);
    }

    #[test]
    fn a_lost_pair_is_signed_by_the_authority_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::below(dir.path());
        ensure(dir.path(), &[], Existing::Keep).unwrap();
        let ca = text(&files.ca);
        fs::remove_file(&files.server).unwrap();
        assert_eq!(ensure(dir.path(), &[], Existing::Keep).unwrap(), std::slice::from_ref(&files.server));
        assert_eq!(text(&files.ca), ca);
        check(&files, &["acme.localhost".into()]).unwrap();
    }

    #[test]
    fn a_name_that_the_pair_does_not_hold_is_a_problem_with_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path(), &[], Existing::Keep).unwrap();
        let error = ensure(dir.path(), &["shop.test".into()], Existing::Keep).unwrap_err().to_string();
        assert!(error.contains("cannot serve `shop.test`") && error.contains("--force"), "{error}");
        ensure(dir.path(), &["shop.test".into()], Existing::Replace).unwrap();
        assert!(ensure(dir.path(), &["shop.test".into()], Existing::Keep).unwrap().is_empty());
    }

    #[test]
    fn the_authority_cannot_speak_for_the_internet() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::below(dir.path());
        ensure(dir.path(), &[], Existing::Keep).unwrap();
        let ca_key = KeyPair::from_pem(&text(&files.ca_key)).unwrap();
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(ca_params(&[]).unwrap(), ca_key);
        let forged = server_params(&["bank.example".into()]).unwrap().signed_by(&key, &issuer).unwrap();
        fs::write(&files.server, forged.pem()).unwrap();
        let error = format!("{:#}", check(&files, &["bank.example".into()]).unwrap_err());
        assert!(error.contains("cannot serve `bank.example`"), "{error}");
    }
}

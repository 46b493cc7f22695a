//! `moat demo`: sample application, identity provider and gateway in one process, and curl lines to try them with.
pub mod app;
mod bundle;
pub mod idp;
mod lines;
mod page;

use crate::cli::certs::{self, Existing, Files};
use crate::cli::token::{DEV_AUDIENCE, DevKey};
use crate::cli::{check, run};
use crate::config::problem::Problems;
use crate::config::settings::Snapshot;
use crate::config::{Loaded, Parsed, Purpose, World, process_env};
use crate::serve::ending::Reason;
use crate::serve::inherited::Inherited;
use crate::serve::reload::{Hangups, Loader, supervise};
use crate::serve::run::Running;
use crate::serve::tls;
use anyhow::{Context, Result, anyhow};
use bundle::Bundle;
use lines::{Place, quoted};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Where the identity provider listens unless `MOAT_IDP` says otherwise.
const IDP: &str = "localhost:8444";

/// `moat demo`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration to run [default: gateway.yaml, or the one that comes with the program where there is none]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs `moat demo` until it is interrupted.
pub fn run(args: Args) -> Result<ExitCode> {
    let began = Instant::now();
    tls::install_provider();
    let bundle = Bundle::find(args.config)?;
    certs::ensure(&bundle.folder().join("certs"), &[], Existing::Renew)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(demo(&bundle, began))
}

async fn demo(bundle: &Bundle, began: Instant) -> Result<ExitCode> {
    // Before anything else, so that an interrupt never finds the default handler.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let hangups = Hangups::new()?;
    let files = Files::below(&bundle.folder().join("certs"));

    let app = bind("MOAT_APP", &process_env("MOAT_APP").unwrap_or_else(|| "127.0.0.1:0".to_owned())).await?;
    let asked = process_env("MOAT_IDP").unwrap_or_else(|| IDP.to_owned());
    let (host, port) = asked.rsplit_once(':').context("`MOAT_IDP` is not `host:port`")?;
    let idp = bind("MOAT_IDP", &format!("127.0.0.1:{port}")).await?;
    let authority = format!("{host}:{}", idp.local_addr()?.port());
    let issuer = format!("https://{authority}/");

    let (stop, _) = tokio::sync::watch::channel(());
    let stopped = || {
        let mut stop = stop.subscribe();
        async move { drop(stop.changed().await) }
    };
    let address = app.local_addr()?;
    let mut programs = tokio::task::JoinSet::new();
    programs.spawn(app::serve(app, stopped()));
    let (tls, key, issuer_url, over) = (idp_tls(&files)?, DevKey::load(&files.idp_key)?, issuer.clone(), stopped());
    programs.spawn(async move { idp::serve(idp, tls, &issuer_url, DEV_AUDIENCE, key, over).await });

    let load = load(bundle, address, authority);
    let snapshot = match load() {
        Ok(loaded) => loaded.snapshot,
        Err(problems) => return check::report(&problems, check::Format::Text),
    };
    let audit = snapshot.audit.directory.clone();
    let running = Running::start(snapshot, None, Inherited::none()).await.map_err(hinted)?;
    let place = place(&running, &files, &audit, issuer)?;
    greet(&place, &bundle.config, began)?;

    let load: Loader = Arc::new(move || load().map_err(|problems| run::refused(&problems)));
    tokio::select! {
        ended = supervise(&running, load, hangups) => ended?,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        Some(ended) = programs.join_next() => {
            ended?.context("a program of the demo ended")?;
        }
    }
    running.stop(Reason::Asked).await;
    drop(stop);
    while programs.join_next().await.is_some() {}
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nended; what is left is the log: {} audit verify {}", place.moat, place.audit)?;
    Ok(ExitCode::SUCCESS)
}

/// How the bundle is loaded, for the addresses that were really bound: at the start, and again when it has changed.
fn load(bundle: &Bundle, app: SocketAddr, idp: String) -> impl Fn() -> Result<Loaded, Problems> + Send + Sync + use<> {
    let state = std::env::current_dir().map(|here| here.join("state").to_string_lossy().into_owned());
    // A temporary configuration must not take the log away with it.
    let state = state.ok().filter(|_| bundle.is_temporary());
    let (config, parsed) = (bundle.config.clone(), Parsed::default());
    move || {
        let env = |name: &str| match name {
            "MOAT_APP" => Some(app.to_string()),
            "MOAT_IDP" => Some(idp.clone()),
            "MOAT_STATE_DIR" => process_env(name).or_else(|| state.clone()),
            _ => process_env(name),
        };
        let world = World { env: &env, certificates: &check::certificates, purpose: Purpose::Run };
        let mut loaded = Snapshot::load_again(&config, &world, &parsed)?;
        // The terminal belongs to the lines; what happened is in the audit log.
        loaded.snapshot.telemetry.access_share = 0.0;
        Ok(loaded)
    }
}

async fn bind(variable: &str, address: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on `{address}`\nhint: another program may use the port; {variable}=127.0.0.1:0 chooses a free one")
    })
}

fn idp_tls(files: &Files) -> Result<Arc<rustls::ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(&files.server)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&files.server_key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}

/// The usual reason why a demo does not start is another one that still runs.
fn hinted(error: anyhow::Error) -> anyhow::Error {
    let in_use = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
    };
    match error.chain().any(in_use) {
        true => anyhow!(
            "{error:#}\nhint: MOAT_PUBLIC, MOAT_PLAIN and MOAT_ADMIN choose other addresses; port 0 is a free one"
        ),
        false => error,
    }
}

fn place(running: &Running, files: &Files, audit: &Path, issuer: String) -> Result<Place> {
    let address = |name: &str| {
        let found = running.addresses.iter().find(|(listener, _)| &**listener == name);
        found.map(|(_, address)| *address).with_context(|| format!("the configuration has no listener `{name}`"))
    };
    let certs = files.ca.parent().and_then(Path::parent).unwrap_or(Path::new("certs"));
    Ok(Place {
        moat: program(),
        certs: shown(certs),
        audit: shown(audit),
        public: address("public")?.port(),
        plain: address("plain")?.port(),
        admin: address("admin")?.to_string(),
        issuer,
    })
}

/// How to call this program from here.
fn program() -> String {
    std::env::current_exe().map_or_else(
        |_| "moat".to_owned(),
        |path| {
            let shown = shown(&path);
            // A name without a slash would be looked up in PATH.
            if shown.contains('/') { shown } else { format!("./{shown}") }
        },
    )
}

/// A path as short as it can be, quoted for a shell.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let short =
        here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned)).unwrap_or_else(|| path.to_owned());
    let short = short.strip_prefix(".").map(Path::to_owned).unwrap_or(short);
    quoted(&short.to_string_lossy())
}

fn greet(place: &Place, config: &Path, began: Instant) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "# ready after {} ms; Ctrl-C ends it", began.elapsed().as_millis())?;
    writeln!(out, "# gateway https://acme.localhost:{}, metrics http://{}/metrics", place.public, place.admin)?;
    let (moat, admin) = (&place.moat, &place.admin);
    writeln!(
        out,
        "# configuration {}, taken over when it is changed; what is wrong says {moat} reload --admin {admin}",
        shown(config)
    )?;
    if std::env::var("SHELL").is_ok_and(|shell| shell.ends_with("zsh")) {
        writeln!(out, "# zsh reads the comments at the ends of the lines after: setopt interactivecomments")?;
    }
    write!(out, "#\n# Paste into another terminal, in this folder.\n{}", lines::text(place))?;
    out.flush()?;
    Ok(())
}

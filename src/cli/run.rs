//! `moat run`: the real thing, in the foreground, until SIGTERM or SIGINT.
use crate::cli::check;
use crate::config::last_good::{self, Bundle};
use crate::config::problem::Problems;
use crate::config::settings::{Fallback, Snapshot};
use crate::config::{Loaded, Parsed, Purpose, World, process_env};
use crate::serve::ending::{Orders, Reason};
use crate::serve::handover::{Predecessor, Program, Requests, Steward};
use crate::serve::inherited::Inherited;
use crate::serve::notify::Notifier;
use crate::serve::reload::{self, Hangups, Loader, Refused, supervise};
use crate::serve::run::Running;
use crate::serve::{logs, tls};
use anyhow::{Context, Result, anyhow};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Options of `moat run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration; paths in it are relative to its folder
    #[arg(long, short, value_name = "FILE", default_value = "gateway.yaml", env = "MOAT_CONFIG")]
    config: PathBuf,
    /// Replace the gateway that runs with the same state folder: take its sockets, then let it drain
    ///
    /// It goes on as if nothing had happened should this one not start. `moat upgrade` has it start its own successor.
    #[arg(long)]
    take_over: bool,
    /// Do not start on the last good bundle where the files have problems
    ///
    /// Without it the problems are printed, the bundle that was in force last is used in the place of the files, and the
    /// files are put in force as soon as they hold.
    #[arg(long, env = "MOAT_STRICT")]
    strict: bool,
}

/// Runs the gateway. Files with problems start the last good bundle in their place; where there is none, or with
/// `--strict`, nothing, and the exit code is 78.
pub fn run(args: Args) -> Result<ExitCode> {
    tls::install_provider();
    // Before there are other threads, since both take variables out of the environment.
    let given = Inherited::from_environment().map_err(|message| anyhow!(message))?;
    let notifier = Notifier::from_environment();
    let loaded = match check::load(&args.config, Purpose::Run) {
        Ok(loaded) => loaded,
        Err(problems) => {
            let code = check::report(&problems, check::Format::Text)?;
            match instead(&args, &problems) {
                Some(loaded) => loaded,
                None => return Ok(code),
            }
        }
    };
    let Loaded { snapshot, bundle, .. } = loaded;
    let fallback = snapshot.fallback.is_some();
    let program = Program::of_this_process().context("cannot find out which program this is")?;
    let log = logs::init(snapshot.telemetry.json, &snapshot.telemetry.level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(snapshot.server.worker_threads)
        .thread_name("worker")
        .enable_all()
        .build()
        .context("cannot start the workers")?;
    let result = runtime.block_on(async {
        let (mut orders, hangups, upgrades) = (Orders::new()?, Hangups::new()?, Requests::new()?);
        let start = async {
            if args.take_over {
                let (predecessor, sockets) = Predecessor::ask(&snapshot.server.state_dir)?;
                return Running::succeed(snapshot, Some(log.clone()), sockets, predecessor).await;
            }
            Running::start(snapshot, Some(log.clone()), given).await
        };
        let mut running = tokio::select! {
            started = start => started?,
            () = orders.next() => return Ok(ExitCode::SUCCESS),
        };
        running.notifier = Arc::new(notifier);
        let steward = Steward::bind(&running, program);
        if let Err(error) = &steward {
            tracing::warn!("this process cannot be replaced while it runs: {error:#}");
        }
        running.notifier.ready();
        if !fallback {
            reload::keep(&running, bundle).await;
        }
        let reason = tokio::select! {
            ended = supervise(&running, loader(&args.config), hangups) => ended.map(|()| Reason::Asked)?,
            () = orders.next() => Reason::Asked,
            pid = replaced(steward.as_ref().ok(), upgrades) => pid.map(|_| Reason::Replaced)?,
            () = running.notifier.watchdog(&running.listening) => Reason::Asked,
        };
        running.stop(reason).await;
        Ok(ExitCode::SUCCESS)
    });
    runtime.shutdown_background();
    result
}

/// The last good bundle, where the files have problems and it may stand in for them. Says why where it may not.
fn instead(args: &Args, problems: &Problems) -> Option<Loaded> {
    // Who replaces a process that runs well does not do so with what that process has already.
    if args.strict || args.take_over {
        return None;
    }
    let state_dir = last_good::state_dir(&args.config, &process_env);
    let bundle = match Bundle::recall(&args.config, &state_dir) {
        Ok(bundle) => bundle?,
        Err(error) => {
            eprintln!("the last good bundle is not used: {error}");
            return None;
        }
    };
    let world = World { env: &process_env, certificates: &check::certificates, purpose: Purpose::Run };
    match Snapshot::load_kept(&args.config, &bundle, &world) {
        Ok(mut loaded) => {
            eprintln!("starting on the last good bundle instead; the files are used as soon as they hold");
            let (count, text) = (problems.0.len() as u64, problems.text());
            let kept_at_ms = bundle.kept_at_ms;
            loaded.snapshot.fallback = Some(Fallback { problems: count, text, kept_at_ms });
            Some(loaded)
        }
        Err(problems) => {
            eprintln!("the last good bundle does not hold any more either:\n{}", problems.text());
            None
        }
    }
}

async fn replaced(steward: Option<&Steward>, upgrades: Requests) -> std::io::Result<u32> {
    match steward {
        Some(steward) => steward.replaced(upgrades).await,
        None => std::future::pending().await,
    }
}

/// How a running gateway loads its bundle anew.
pub fn loader(config: &Path) -> Loader {
    let config = config.to_owned();
    let parsed = Parsed::default();
    Arc::new(move || {
        let world = World { env: &process_env, certificates: &check::certificates, purpose: Purpose::Run };
        Snapshot::load_again(&config, &world, &parsed).map_err(|problems| refused(&problems))
    })
}

/// What is told of files with problems.
pub(super) fn refused(problems: &Problems) -> Refused {
    Refused {
        problems: problems.0.len() as u64,
        text: problems.text(),
        list: serde_json::from_str(&problems.json()).unwrap_or_default(),
    }
}

//! `moat run`: the real thing, in the foreground, until SIGTERM or SIGINT.
use crate::cli::check;
use crate::config::Purpose;
use crate::config::problem::Problems;
use crate::serve::ending::{Orders, Reason};
use crate::serve::handover::{Predecessor, Program, Steward};
use crate::serve::inherited::Inherited;
use crate::serve::notify::Notifier;
use crate::serve::reload::{Loader, Refused, supervise};
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
}

/// Runs the gateway. A bundle with problems starts nothing and exits with 78.
pub fn run(args: Args) -> Result<ExitCode> {
    tls::install_provider();
    // Before there are other threads, since both take variables out of the environment.
    let given = Inherited::from_environment().map_err(|message| anyhow!(message))?;
    let notifier = Notifier::from_environment();
    let loaded = match check::load(&args.config, Purpose::Run) {
        Ok(loaded) => loaded,
        Err(problems) => return check::report(&problems, check::Format::Text),
    };
    let snapshot = loaded.snapshot;
    let program = Program::of_this_process().context("cannot find out which program this is")?;
    let log = logs::init(snapshot.telemetry.json, &snapshot.telemetry.level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(snapshot.server.worker_threads)
        .thread_name("worker")
        .enable_all()
        .build()
        .context("cannot start the workers")?;
    let result = runtime.block_on(async {
        let mut orders = Orders::new()?;
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
        let reason = tokio::select! {
            ended = supervise(&running, loader(&args.config)) => ended.map(|()| Reason::Asked)?,
            () = orders.next() => Reason::Asked,
            pid = replaced(steward.as_ref().ok()) => pid.map(|_| Reason::Replaced)?,
            () = running.notifier.watchdog(&running.listening) => Reason::Asked,
        };
        running.stop(reason).await;
        Ok(ExitCode::SUCCESS)
    });
    runtime.shutdown_background();
    result
}

async fn replaced(steward: Option<&Steward>) -> std::io::Result<u32> {
    match steward {
        Some(steward) => steward.replaced().await,
        None => std::future::pending().await,
    }
}

/// How a running gateway loads its bundle anew.
pub fn loader(config: &Path) -> Loader {
    let config = config.to_owned();
    Arc::new(move || check::load(&config, Purpose::Run).map_err(|problems| refused(&problems)))
}

fn refused(problems: &Problems) -> Refused {
    Refused {
        problems: problems.0.len() as u64,
        text: problems.text(),
        list: serde_json::from_str(&problems.json()).unwrap_or_default(),
    }
}

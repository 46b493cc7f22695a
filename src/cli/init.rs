//! `moat init`: a commented starting point for one application whose tenants have a subdomain each.
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// `moat init`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder to fill; made where it does not exist
    dir: PathBuf,
    /// Domain below which each tenant has a name of its own
    #[arg(long, default_value = "localhost", value_name = "NAME")]
    domain: String,
    /// Address of the application
    #[arg(long, default_value = "127.0.0.1:3000", value_name = "HOST:PORT")]
    upstream: String,
    /// URL of the identity provider, exactly as its tokens name it in `iss`
    #[arg(long, default_value = "https://login.example.com/", value_name = "URL")]
    issuer: String,
}

/// The files, in the order in which a reader should open them.
const FILES: [(&str, &str); 6] = [
    ("gateway.yaml", include_str!("init/gateway.yaml")),
    ("policies/roles.yaml", include_str!("init/roles.yaml")),
    ("policies/headers.yaml", include_str!("init/headers.yaml")),
    ("policies/rate-limits.yaml", include_str!("init/rate-limits.yaml")),
    ("policies/tests/orders.yaml", include_str!("init/tests.yaml")),
    (".gitignore", include_str!("init/gitignore")),
];

/// Runs `moat init`.
pub fn run(args: Args) -> Result<ExitCode> {
    for (option, value) in [("--domain", &args.domain), ("--upstream", &args.upstream), ("--issuer", &args.issuer)] {
        // The values land in plain YAML scalars.
        if value.is_empty() || value.chars().any(|c| c.is_whitespace() || c.is_control() || "#{}[]\"'`$,".contains(c)) {
            bail!("{option}: `{value}` is not a plain name, address or URL");
        }
    }
    let taken: Vec<PathBuf> =
        FILES.iter().map(|(name, _)| args.dir.join(name)).filter(|path| path.symlink_metadata().is_ok()).collect();
    if let Some(first) = taken.first() {
        bail!("`{}` exists; nothing was written\nhint: choose a new folder", first.display());
    }
    for (name, text) in FILES {
        let text = text
            .replace("example.localhost", &args.domain)
            .replace("127.0.0.1:3000", &args.upstream)
            .replace("https://login.example.com/", &args.issuer);
        write(&args.dir.join(name), &text)?;
    }
    let mut out = std::io::stdout().lock();
    for (name, _) in FILES {
        writeln!(out, "made  {}", args.dir.join(name).display())?;
    }
    writeln!(
        out,
        "\nnext:\n  cd {}\n  moat certs dev --host {}    # or put NAME.crt and NAME.key into certs/\n  moat check\n  moat run",
        args.dir.display(),
        sample_host(&args.domain),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// A tenant's name below the domain, for the development certificate.
fn sample_host(domain: &str) -> String {
    format!("acme.{domain}")
}

/// Writes a new file; never over one that exists, even when it appears meanwhile.
fn write(path: &Path, text: &str) -> Result<()> {
    let make = || -> std::io::Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        fs::OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
    };
    make().with_context(|| format!("cannot write `{}`", path.display()))
}

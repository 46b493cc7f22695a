//! The command line: one subcommand per file, one exit code per kind of news.
pub mod audit;
pub mod certs;
pub mod check;
pub mod completions;
pub mod config;
pub mod demo;
mod desk;
pub mod explain;
pub mod factors;
pub mod health;
pub mod init;
pub mod keys;
pub mod man;
pub mod reload;
pub mod run;
pub mod sessions;
pub mod status;
pub mod tail;
pub mod token;
pub mod upgrade;

use clap::{CommandFactory, Parser, Subcommand};
use std::io;
use std::process::ExitCode;

/// Exit code for a configuration that does not hold (`EX_CONFIG` of sysexits); service managers should not restart on it.
pub const EXIT_PROBLEM: u8 = 78;

/// A reverse-proxy security gateway: TLS, sessions, tenants, permissions, limits, headers and a log that proves it.
#[derive(Debug, Parser)]
#[command(name = "moat", version, max_term_width = 100, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit codes:
  0   done
  1   failed; the reason is on stderr
  2   the command line is wrong
  78  the configuration has problems; each is listed with file, line and a hint

To see it at work:  moat demo";

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything locally: sample application, identity provider, gateway, and curl lines to paste
    Demo(demo::Args),
    /// Write a commented starting point for one application
    Init(init::Args),
    /// Run the gateway in the foreground
    Run(run::Args),
    /// Replace the running gateway by the program installed now, without refusing a connection
    Upgrade(upgrade::Args),
    /// Report every problem of a configuration, and run its policy tests
    #[command(short_flag = 't')]
    Check(check::Args),
    /// Verify the audit log, and show what is in it
    #[command(subcommand)]
    Audit(audit::Command),
    /// Decide about a made-up request, and show which rule decided and where it stands
    Explain(explain::Args),
    /// Show the configuration in force, its schema, its reference
    #[command(subcommand)]
    Config(config::Command),
    /// Make certificates and keys for local trials
    #[command(subcommand)]
    Certs(certs::Command),
    /// Make, list, rotate, revoke and import API keys
    #[command(subcommand)]
    Keys(keys::Command),
    /// Show the second factor of a user of a running gateway, or take it away
    #[command(subcommand)]
    Factors(factors::Command),
    /// Have a running gateway read its files now, or say what would change
    Reload(reload::Args),
    /// End sessions of a running gateway before their time, on all its replicas
    Sessions(sessions::Args),
    /// Ask a running gateway whether it is alive, or ready; exit code 0 or 1
    Health(health::Args),
    /// Show what is wrong now, and how it runs; exit code 1 where something is wrong
    Status(status::Args),
    /// Follow what the gateway does, line by line
    Tail(tail::Args),
    /// Print what a shell needs to complete this command line
    Completions(completions::Args),
    /// Write the manual pages
    #[command(hide = true)]
    Man(man::Args),
    /// Sign a token with the development identity provider's key
    Token(token::Args),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo(args) => demo::run(args),
        Command::Init(args) => init::run(args),
        Command::Run(args) => run::run(args),
        Command::Upgrade(args) => upgrade::run(args),
        Command::Check(args) => check::run(args),
        Command::Audit(command) => audit::run(command),
        Command::Explain(args) => explain::run(args),
        Command::Config(command) => config::run(command),
        Command::Certs(command) => certs::run(command),
        Command::Keys(command) => keys::run(command),
        Command::Factors(command) => factors::run(command),
        Command::Reload(args) => reload::run(args),
        Command::Sessions(args) => sessions::run(args),
        Command::Health(args) => health::run(args),
        Command::Status(args) => status::run(args),
        Command::Tail(args) => tail::run(args),
        Command::Completions(args) => completions::run(args, Cli::command()),
        Command::Man(args) => man::run(args, Cli::command()),
        Command::Token(args) => token::run(args),
    };
    result.unwrap_or_else(|error| failure(&error))
}

/// Reports a failed command. A reader that went away (`moat audit show | head`) is no failure.
fn failure(error: &anyhow::Error) -> ExitCode {
    let gone = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(gone) {
        return ExitCode::SUCCESS;
    }
    // Some faults name their cause themselves; it is said once.
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
    }
    eprintln!("error: {text}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

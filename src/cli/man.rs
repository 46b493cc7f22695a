//! `moat man`: manual pages of the command line, from the very definitions that parse it, and of gateway.yaml.
use crate::config::reference;
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// `moat man`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder to write to
    dir: PathBuf,
}

/// What stands at the foot of each page.
const SOURCE: &str = concat!("moat ", env!("CARGO_PKG_VERSION"));
/// What stands at its head.
const MANUAL: &str = "Moat Manual";

/// Runs `moat man`.
pub fn run(args: Args, command: clap::Command) -> Result<ExitCode> {
    fs::create_dir_all(&args.dir).with_context(|| format!("cannot make `{}`", args.dir.display()))?;
    let mut command = command.disable_help_subcommand(true);
    // Gives each command below its whole name, as it is typed.
    command.build();
    command_pages(&args.dir, &command, "moat")?;
    write(&args.dir, "moat-gateway.yaml.5", configuration().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The page of a command, then those of the commands below it.
fn command_pages(dir: &Path, command: &clap::Command, name: &str) -> Result<()> {
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone()).title(name.to_uppercase()).source(SOURCE).manual(MANUAL);
    man.render(&mut page).with_context(|| format!("the page of `{name}`"))?;
    page.extend_from_slice(see_also(name).as_bytes());
    write(dir, &format!("{name}.1"), &page)?;
    let below = command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help");
    for below in below {
        command_pages(dir, below, &format!("{name}-{}", below.get_name()))?;
    }
    Ok(())
}

fn see_also(name: &str) -> String {
    let first = if name == "moat" { "" } else { "\\fBmoat\\fR(1), " };
    format!(".SH \"SEE ALSO\"\n{first}\\fBmoat\\-gateway.yaml\\fR(5)\n")
}

/// The page of the configuration: the reference in another dress.
fn configuration() -> String {
    let mut out = format!(
        ".TH MOAT-GATEWAY.YAML 5 \"\" \"{SOURCE}\" \"{MANUAL}\"\n.SH NAME\nmoat\\-gateway.yaml \\- configuration of the \
         gateway \\fBmoat\\fR(1)\n.SH DESCRIPTION\n"
    );
    let reference = reference::gateway();
    // Title and note of origin make way for the head above.
    for line in reference.lines().skip(3).filter(|line| !line.is_empty()) {
        let _ = if let Some(heading) = line.strip_prefix("### ") {
            writeln!(out, ".SS \"{}\"", plain(heading))
        } else if let Some(heading) = line.strip_prefix("## ") {
            writeln!(out, ".SH \"{}\"", plain(heading).to_uppercase())
        } else if let Some((key, text)) = line.strip_prefix("- ").and_then(|item| item.split_once(": ")) {
            writeln!(out, ".TP\n{}\n{}", marked(key), marked(text))
        } else {
            writeln!(out, ".PP\n{}", marked(line))
        };
    }
    out.push_str(".SH \"SEE ALSO\"\n\\fBmoat\\fR(1), \\fBmoat\\-check\\fR(1), \\fBmoat\\-config\\fR(1)\n");
    out
}

/// Text with its `code` in bold.
fn marked(text: &str) -> String {
    let parts = text.split('`').enumerate();
    // A line that began with a dot or an apostrophe would be an instruction.
    parts.fold("\\&".to_owned(), |mut out, (index, part)| {
        let _ =
            if index % 2 == 1 { write!(out, "\\fB{}\\fR", escaped(part)) } else { write!(out, "{}", escaped(part)) };
        out
    })
}

/// A heading: no marks in it.
fn plain(text: &str) -> String {
    escaped(&text.replace('`', "")).replace('"', "\\(dq")
}

/// What means something to the formatter is written so that it does not.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            '`' => out.push_str("\\(ga"),
            other => out.push(other),
        }
    }
    out
}

fn write(dir: &Path, name: &str, page: &[u8]) -> Result<()> {
    let path = dir.join(name);
    fs::write(&path, page).with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_text_and_never_an_instruction() {
        assert_eq!(marked("`a.b`: it's `-x\\y`"), "\\&\\fBa.b\\fR: it\\(aqs \\fB\\-x\\ey\\fR");
        assert_eq!(marked(".SH not a heading"), "\\&.SH not a heading");
        assert_eq!(plain("`policies.roles` \"now\""), "policies.roles \\(dqnow\\(dq");
    }
}

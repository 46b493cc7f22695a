//! What a person meets before anything runs: help, usage errors, certificates.
use crate::harness::moat;
use std::fmt::Write;
use std::fs;
use std::path::Path;

#[test]
fn help_tells_the_commands_and_what_exit_codes_mean() {
    let folder = tempfile::tempdir().unwrap();
    let help = moat(folder.path(), &["--help"]);
    assert_eq!(help.code, Some(0));
    for word in ["certs", "Exit codes", "78"] {
        assert!(help.stdout.contains(word), "`{word}` in {}", help.stdout);
    }
    assert_eq!(moat(folder.path(), &["no-such-command"]).code, Some(2));
}

#[test]
fn development_certificates_are_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let first = moat(folder.path(), &["certs", "dev"]);
    assert_eq!((first.code, first.stdout.matches("made  ").count()), (Some(0), 3), "{first:?}");
    let second = moat(folder.path(), &["certs", "dev"]);
    assert_eq!((second.code, second.stdout.matches("kept  ").count()), (Some(0), 3), "{second:?}");
}

#[test]
fn init_writes_a_starting_point_and_never_over_files_that_exist() {
    let folder = tempfile::tempdir().unwrap();
    let made = moat(folder.path(), &["init", "gate", "--domain", "shop.test", "--upstream", "10.0.0.7:80"]);
    assert_eq!((made.code, made.stdout.matches("made  ").count()), (Some(0), 6), "{made:?}");
    let gateway = std::fs::read_to_string(folder.path().join("gate/gateway.yaml")).unwrap();
    assert!(gateway.contains("{tenant}.shop.test") && gateway.contains("[10.0.0.7:80]"), "{gateway}");
    assert!(!gateway.contains("example.localhost") && !gateway.contains("127.0.0.1:3000"), "{gateway}");
    let again = moat(folder.path(), &["init", "gate"]);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("gate/gateway.yaml` exists") && again.stderr.contains("hint:"), "{again:?}");
    let hostile = moat(folder.path(), &["init", "other", "--domain", "a\nroutes: {}"]);
    assert!(hostile.stderr.contains("--domain") && !folder.path().join("other").exists(), "{hostile:?}");
}

#[test]
fn a_started_project_passes_its_own_check() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(moat(folder.path(), &["init", "gate"]).code, Some(0));
    let gate = folder.path().join("gate");
    assert_eq!(moat(&gate, &["certs", "dev"]).code, Some(0));
    let checked = moat(&gate, &["check"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

#[test]
fn the_repositorys_own_configuration_holds_and_minus_t_is_short_for_check() {
    let folder = tempfile::tempdir().unwrap();
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/gateway.yaml");
    // The certificates of a fresh clone are not there yet: that is a problem, and it says what to do.
    let checked = moat(folder.path(), &["-t", "--config", config]);
    assert!(checked.code == Some(0) || checked.stderr.contains("hint"), "{checked:?}");
    let checked = moat(folder.path(), &["-t", "--config", "no-such-file.yaml"]);
    assert_eq!(checked.code, Some(78), "{checked:?}");
    assert!(checked.stderr.contains("no-such-file.yaml"), "{checked:?}");
}

/// The help of a command and of everything below it.
fn help(folder: &Path, command: &[&str], out: &mut String) {
    let mut args = command.to_vec();
    args.push("--help");
    let text = moat(folder, &args).stdout;
    let _ = writeln!(
        out,
        "## `moat{}`\n\n```text\n{}\n```\n",
        command.iter().fold(String::new(), |s, c| s + " " + c),
        text.trim_end()
    );
    let below = text.split_once("Commands:\n").map_or("", |(_, rest)| rest);
    for name in below.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next()) {
        // Wrapped descriptions are no commands.
        let name = name.trim_end_matches(',');
        let known = name != "help" && name.chars().all(|c| c.is_ascii_lowercase());
        if known && moat(folder, &[command, &[name, "--help"]].concat()).code == Some(0) {
            help(folder, &[command, &[name]].concat(), out);
        }
    }
}

#[test]
fn the_printed_reference_is_the_committed_one() {
    let folder = tempfile::tempdir().unwrap();
    let made = moat(folder.path(), &["config", "reference", "made"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let mut commands =
        "# Command line\n\nPrinted by the commands themselves; `scripts/docs` writes this page.\n\n".to_owned();
    help(folder.path(), &[], &mut commands);
    fs::write(folder.path().join("made/cli.md"), format!("{}\n", commands.trim_end())).unwrap();
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference");
    for entry in fs::read_dir(folder.path().join("made")).unwrap().map(Result::unwrap) {
        let (text, place) = (fs::read_to_string(entry.path()).unwrap(), committed.join(entry.file_name()));
        if std::env::var_os("MOAT_UPDATE_DOCS").is_some() {
            fs::write(&place, &text).unwrap();
        }
        let same = fs::read_to_string(&place).is_ok_and(|committed| committed == text);
        assert!(same, "{} is out of date: scripts/docs", place.display());
    }
}

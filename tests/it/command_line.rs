//! What a person meets before anything runs: help, usage errors, certificates.
use crate::harness::moat;

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

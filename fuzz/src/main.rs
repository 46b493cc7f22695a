//! The coverage-guided driver: libFuzzer runs the one target that the variable `TARGET` names.
#![no_main]
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("TARGET").unwrap_or_default();
    match moat_fuzz::TARGETS.iter().find(|(known, _)| *known == name) {
        Some((_, run)) => *run,
        None => {
            eprintln!("TARGET must be one of:");
            moat_fuzz::TARGETS.iter().for_each(|(known, _)| eprintln!("  {known}"));
            std::process::exit(64);
        }
    }
});

fuzz_target!(|bytes: &[u8]| TARGET(bytes));

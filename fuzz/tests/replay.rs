//! Every target over everything in its corpus, and over changes of it that are the same each time: what `cargo test` can
//! do without a driver that is guided by coverage.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on should stop where it stands")]

use moat_fuzz::TARGETS;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Changed copies of a target's files, all together. The slow targets get fewer: a bundle is compiled whole.
fn copies(name: &str) -> usize {
    match name {
        "config" => 6,
        "token" | "dressing" | "condition" | "yaml" | "keys" => 600,
        _ => 4000,
    }
}

/// Xorshift: the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

fn changed(seed: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    const BYTES: &[u8] = b"\r\n\0 \t:;,=%/\\.\"'{}[]0aA\x7f\x80\xff";
    let mut bytes = seed.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len() + 1);
        match numbers.below(5) {
            0 => bytes.insert(at, BYTES[numbers.below(BYTES.len())]),
            1 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            2 if at < bytes.len() => {
                let end = bytes.len().min(at + 1 + numbers.below(8));
                bytes.drain(at..end);
            }
            3 => {
                let from = numbers.below(other.len());
                let piece = other[from..other.len().min(from + 1 + numbers.below(24))].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let from = numbers.below(bytes.len());
                let piece = bytes[from..bytes.len().min(from + 1 + numbers.below(24))].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

#[test]
fn every_target_holds_on_its_corpus_and_near_it() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, run) in TARGETS {
        let mut files: Vec<_> = fs::read_dir(corpus.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let seeds: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(!seeds.is_empty(), "{name} has no corpus");
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        for (path, seed) in files.iter().zip(&seeds) {
            for copy in 0..=copies(name) / seeds.len() {
                let other = &seeds[numbers.below(seeds.len())];
                let bytes = if copy == 0 { seed.clone() } else { changed(seed, other, &mut numbers) };
                let held = catch_unwind(AssertUnwindSafe(|| run(&bytes)));
                assert!(held.is_ok(), "{name}: copy {copy} of {}: {}", path.display(), bytes.escape_ascii());
            }
        }
    }
}

#[test]
fn the_corpus_is_small_and_every_folder_has_a_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut bytes = 0;
    for folder in fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()) {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        assert!(TARGETS.iter().any(|(known, _)| *known == name), "no target `{name}`");
        bytes += fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum::<u64>();
    }
    assert!(bytes < 200_000, "{bytes} bytes");
}

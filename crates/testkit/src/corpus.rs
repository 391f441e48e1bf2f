//! Runs the fuzz harnesses on the committed corpora and on seeded random variants of them.

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Maximum number of variants of each input of a corpus.
const VARIANTS: usize = 20;
/// Time after which no more variants are tried.
const LIMIT: Duration = Duration::from_secs(5);

/// Returns the directory with the fuzz targets and their corpora.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = directory().join("corpus").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", directory.display());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Changes, removes or duplicates a few bytes, or inserts some of another input.
fn vary(input: &[u8], other: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..rng.random_range(1..8) {
        let at = rng.random_range(0..=bytes.len());
        let len = rng.random_range(0..=16.min(bytes.len() - at));
        match rng.random_range(0..4) {
            0 => bytes[at..at + len].fill([0, 0xff, rng.next_u32() as u8][rng.random_range(0..3)]),
            1 => drop(bytes.drain(at..at + len)),
            2 => bytes.extend_from_within(at..at + len),
            _ => {
                let from = rng.random_range(0..=other.len());
                let piece = other[from..].iter().take(16).copied();
                bytes.splice(at..at + len, piece);
            }
        }
    }
    bytes
}

/// Runs a fuzz harness on the corpus of its target and on random variants.
///
/// # Panics
///
/// If a run panics.
pub fn replay(target: &str, run: fn(&[u8])) {
    let corpus = corpus(target);
    corpus.iter().for_each(|input| run(input));
    let (mut rng, end) = (StdRng::seed_from_u64(5), Instant::now() + LIMIT);
    for _ in 0..VARIANTS {
        for input in &corpus {
            if Instant::now() > end {
                return;
            }
            let other = &corpus[rng.random_range(0..corpus.len())];
            let bytes = vary(input, other, &mut rng);
            let panicked = std::panic::catch_unwind(|| run(&bytes)).is_err();
            assert!(!panicked, "{target}, with {bytes:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fuzz_target_has_a_corpus_and_a_binary() {
        let root = directory();
        let names = |of: &str| {
            let entries = fs::read_dir(root.join(of)).unwrap();
            let name = |entry: fs::DirEntry| entry.path().file_stem().unwrap().to_owned();
            let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
            names.sort();
            names
        };
        assert_eq!(names("corpus"), names("fuzz_targets"));
        let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
        let binaries = manifest.lines().filter(|line| line.starts_with("path = \"fuzz_targets/")).count();
        assert_eq!(binaries, names("fuzz_targets").len(), "each target has a binary");
    }
}

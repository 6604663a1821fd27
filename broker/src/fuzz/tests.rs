//! Every target over its corpus (`tests/fuzz/corpus`) and over mutations of it, so that plain `cargo test` exercises them.
//! `TIDEGATE_SEED` replays a run, `TIDEGATE_FUZZ_MUTATIONS` sets its length.

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use super::{TARGETS, Target};

/// Mutated inputs for each target.
const MUTATIONS: u64 = 3_000;
/// Longest input that mutation makes.
const MAX_INPUT: usize = 64 << 10;

/// SplitMix64.
pub(crate) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).expect("below a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn corpus_folder(target: &Target) -> PathBuf {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
    corpus.join(target.name)
}

/// The corpus of a target, in the order of the names.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = corpus_folder(target);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).expect("readable"))
        .collect()
}

/// Numbers at the edges of what lengths, counts and offsets can be.
const EDGES: [i64; 12] = [
    0,
    1,
    -1,
    7,
    61,
    127,
    128,
    0x7fff,
    0x7fff_ffff,
    -0x8000_0000,
    i64::MAX,
    i64::MIN,
];

fn mutate(random: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
    let length = input.len();
    let at = random.below(length + 1);
    match random.below(8) {
        0 if at < length => input[at] ^= 1 << random.below(8),
        1 if at < length => input[at] = random.byte(),
        2 => input.truncate(at),
        3 => input.insert(at, random.byte()),
        4 if at < length => {
            let end = length.min(at + 1 + random.below(16));
            input.drain(at..end);
        }
        5 => {
            let end = length.min(at + 1 + random.below(128));
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece);
        }
        6 => {
            let width = [1, 2, 4, 8][random.below(4)];
            let edge = EDGES[random.below(EDGES.len())].to_be_bytes();
            let end = length.min(at + width);
            input.splice(at..end, edge[8 - width..].iter().copied());
        }
        _ => {
            let from = random.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
    }
    input.truncate(MAX_INPUT);
}

/// Runs a target, and keeps the input that it panics on.
fn try_input(target: &Target, input: &[u8], how: &str) {
    if catch_unwind(|| (target.run)(input)).is_err() {
        let path = std::env::temp_dir().join(format!("tidegate-fuzz-{}", target.name));
        std::fs::write(&path, input).expect("the input is kept");
        panic!(
            "fuzz target {}: {how}; the input is {}",
            target.name,
            path.display()
        );
    }
}

#[test]
fn every_target_survives_its_corpus_and_mutations_of_it() {
    let seed = number_from("TIDEGATE_SEED")
        .unwrap_or_else(|| u64::from_be_bytes(crate::env::random_bytes()));
    println!("fuzz targets: seed {seed} (TIDEGATE_SEED={seed} replays it)");
    let mutations = number_from("TIDEGATE_FUZZ_MUTATIONS").unwrap_or(MUTATIONS);
    for target in TARGETS {
        let corpus = corpus(target);
        assert!(!corpus.is_empty(), "{}: the corpus is empty", target.name);
        for (index, input) in corpus.iter().enumerate() {
            try_input(target, input, &format!("input {index} of the corpus"));
        }
        let mut random = Random(seed);
        for number in 0..mutations {
            let mut input = corpus[random.below(corpus.len())].clone();
            let other = &corpus[random.below(corpus.len())];
            for _ in 0..=random.below(6) {
                mutate(&mut random, &mut input, other);
            }
            try_input(target, &input, &format!("mutation {number}, seed {seed}"));
        }
    }
}

#[test]
fn every_target_has_a_file_and_no_other_file_is_there() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/fuzz_targets");
    let entries = std::fs::read_dir(folder).expect("the targets' folder");
    let mut files: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .collect();
    files.sort();
    let names: Vec<_> = TARGETS
        .iter()
        .map(|target| format!("{}.rs", target.name))
        .collect();
    assert_eq!(files, names, "the table is in the order of the names");
}

#[test]
fn every_api_is_fuzzed() {
    let served: std::collections::BTreeSet<_> = crate::kafka::apis::APIS
        .iter()
        .map(|api| api.key as i16)
        .collect();
    let fuzzed = super::guard::KEYS.iter().copied().collect();
    assert_eq!(served, fuzzed, "the list is in kafka/guard/fuzz.rs");
}

/// Inputs that readers accept, for a corpus to begin with: `UPDATE_FUZZ_CORPUS=1` writes them.
#[test]
fn the_corpus_can_be_made_anew() {
    let update = std::env::var_os("UPDATE_FUZZ_CORPUS").is_some();
    for target in TARGETS {
        let seeds = super::seeds::of(target.name);
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for (name, input) in seeds {
            (target.run)(&input);
            if update {
                let folder = corpus_folder(target);
                std::fs::create_dir_all(&folder).expect("folder");
                std::fs::write(folder.join(name), input).expect("written");
            }
        }
    }
}

//! Every input that the fuzz targets have kept, given to them again: what was found once is not found a second time.

use std::fs;
use std::panic;
use std::path::PathBuf;

#[expect(unreachable_pub, reason = "it is a library for the fuzz targets")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

/// Fewer inputs than this are no corpus.
const LEAST: usize = 20;

fn corpus(target: &str) -> Vec<PathBuf> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn nothing_in_the_corpora_of_the_fuzz_targets_is_a_fault() {
    for (target, _) in targets::TARGETS {
        let inputs = corpus(target);
        assert!(inputs.len() >= LEAST, "{target} has {} inputs", inputs.len());
        for input in inputs {
            let data = fs::read(&input).unwrap();
            let outcome = panic::catch_unwind(|| targets::run(target, &data));
            assert!(outcome.is_ok(), "a fault, which is told above: {}", input.display());
        }
    }
}

#[test]
fn every_corpus_has_a_target() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let entries = fs::read_dir(directory).unwrap();
    for name in entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        assert!(targets::TARGETS.iter().any(|(target, _)| *target == name), "{name} is nobody's");
    }
}

//! Replays the corpus, complete, truncated and damaged, so that CI covers what the fuzzer found.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

use std::path::{Path, PathBuf};

use fuzz::TARGETS;
use proptest::prelude::*;

/// Targets that write files: too slow for thousands of inputs.
const ON_DISK: [&str; 3] = ["keys", "layer", "layout"];

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(corpus(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn no_input_panics() {
    for (target, _) in TARGETS {
        let inputs = inputs(target);
        assert!(!inputs.is_empty(), "{target} has no corpus");
        for input in inputs {
            let bytes = std::fs::read(&input).unwrap();
            // Report the input: the panic message does not name it.
            let name = input.file_name().unwrap().to_owned();
            for cut in [8, 7, 4, 1] {
                let part = bytes[..bytes.len() * cut / 8].to_vec();
                let result = std::panic::catch_unwind(move || fuzz::run(target, &part));
                assert!(result.is_ok(), "{target} panics on the first {cut}/8 of {name:?}");
            }
        }
    }
}

/// Each target has a libFuzzer program and a corpus, and there are no others.
#[test]
fn targets_programs_and_corpora_match() {
    let names = |dir: &str, end: &str| {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = entries.filter_map(|name| name.strip_suffix(end).map(str::to_owned)).collect();
        names.sort();
        names
    };
    let targets: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("libfuzzer/targets", ".rs"), targets);
    assert_eq!(names("corpus", ""), targets);
}

/// A seed that is rejected at once is useless to the fuzzer.
#[test]
fn seeds_are_valid() {
    let read = |target: &str, name: &str| std::fs::read(corpus(target).join(name)).unwrap();
    let text = |target: &str, name: &str| String::from_utf8(read(target, name)).unwrap();
    formats::pe_append::Appender::new(&read("pe", "stub")).unwrap();
    assert!(imager::initramfs::inspect(&read("initramfs", "layers")).unwrap().layers.is_some());
    kernel_config::devel::Record::parse(&text("record", "record")).unwrap();
    extension::service::Service::parse(&text("service", "hello"), "hello", false).unwrap();
    let document = |name: &str| text("evidence", name).split_once('\n').unwrap().1.to_owned();
    attest::simple::Payload::parse(document("payload").as_bytes()).unwrap();
    attest::bundle::Bundle::parse(document("bundle").as_bytes()).unwrap();
    serde_json::from_str::<attest::dsse::Envelope>(&document("envelope")).unwrap();
    attest::encoding::decode(text("evidence", "payload").lines().next().unwrap()).unwrap();
}

fn damaged() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let all: Vec<_> =
        TARGETS.iter().flat_map(|(target, _)| inputs(target).into_iter().map(|path| (*target, path))).collect();
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (prop::sample::select(all), changes, any::<prop::sample::Index>()).prop_map(|((target, path), changes, end)| {
        let mut bytes = std::fs::read(path).unwrap();
        for (at, byte) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if changes.len() < 2 {
            bytes.truncate(end.index(bytes.len()));
        }
        (target, bytes)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    #[test]
    fn no_damaged_input_panics((target, bytes) in damaged()) {
        fuzz::run(target, &bytes);
    }

    #[test]
    fn no_random_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        TARGETS.iter().filter(|(name, _)| !ON_DISK.contains(name)).for_each(|(_, target)| target(&bytes));
    }
}

//! With any fault at any request, a push completes or fails with a clear error, and no tag points to an incomplete image.

use std::path::Path;

use common::Sha256;
use oci::types::Named as _;
use proptest::prelude::*;

use crate::layouts;
use crate::memory::{Memory, Quirks};
use crate::proxy::{Fault, Proxy};
use crate::setup::{Setup, waited};

const NAMES: [&str; 1] = ["ghcr.io/our-org/kernel:v1"];
/// Faults that a retry overcomes.
const TRANSIENT: [Fault; 9] = [
    Fault::DropRequest,
    Fault::CutRequest(0),
    Fault::CutRequest(5000),
    Fault::DropAnswer,
    Fault::CutAnswer(0),
    Fault::CutAnswer(7),
    Fault::Status(500),
    Fault::Status(503),
    Fault::Status(429),
];

fn layout(dir: &Path) -> (std::path::PathBuf, Sha256) {
    let layout = dir.join("kernel.oci");
    let digest = layouts::write(&layout, &NAMES, &[20_000], true);
    (layout, digest)
}

/// Asserts that the tag is absent, or that the complete image is reachable from it; returns whether the tag exists.
fn absent_or_complete(memory: &Memory, layout: &Path, digest: Sha256) -> bool {
    let tag = memory.tag("kernel", "v1");
    let Some(tag) = tag else { return false };
    assert_eq!(tag, digest);
    let state = memory.state();
    let artifacts = oci::Layout::open(layout).unwrap().artifacts().unwrap();
    let key = |reference: String| ("kernel".to_owned(), reference);
    for blob in layouts::blobs(layout) {
        let key = key(format!("sha256:{blob}"));
        let ours = std::fs::read(layout.join("blobs/sha256").join(&blob)).unwrap();
        let theirs = state.blobs.get(&key).or_else(|| state.manifests.get(&key).map(|(_, bytes)| bytes));
        assert!(theirs == Some(&ours), "{blob}");
    }
    let listed = String::from_utf8(state.manifests[&key(format!("sha256-{digest}"))].1.clone()).unwrap();
    for artifact in artifacts {
        match artifact.name() {
            Some(name) => assert!(artifact.descriptor.is(Sha256::of(&state.manifests[&key(name.to_owned())].1))),
            None => assert!(listed.contains(artifact.descriptor.digest().as_ref()), "{listed}"),
        }
    }
    true
}

/// Requests of a push without faults.
fn requests(layout: &Path) -> usize {
    let memory = Memory::start(Quirks::default());
    Setup::default().push(layout, &memory.address).unwrap();
    memory.state().log.len()
}

#[test]
fn any_request_may_be_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, digest) = layout(dir.path());
    let total = requests(&layout);
    assert!(total > 20, "{total}");
    let mut tagged = 0;
    for last in 0..=total {
        let memory = Memory::start(Quirks::default());
        let proxy = Proxy::start(&memory.address, move |n, _| if n < last { Fault::None } else { Fault::DropRequest });
        let setup = Setup { attempts: 1, ..Setup::default() };
        let pushed = setup.push(&layout, &proxy.address);
        let complete = absent_or_complete(&memory, &layout, digest);
        tagged += usize::from(complete);
        match pushed {
            Ok(_) => assert!(complete, "{last} of {total}"),
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(&proxy.address) && text.contains("run the same command again"), "{last}: {text}");
            }
        }
        // The same push without faults succeeds wherever the first one stopped.
        if last % 4 == 0 {
            Setup::default().push(&layout, &memory.address).unwrap();
            assert!(absent_or_complete(&memory, &layout, digest));
        }
    }
    // The tag is written last: it exists only if nothing but the check of the tag failed.
    assert!((1..=3).contains(&tagged), "{tagged}");
}

#[test]
fn one_transient_fault_at_any_request_is_overcome() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, digest) = layout(dir.path());
    let total = requests(&layout);
    for (kind, fault) in TRANSIENT.into_iter().enumerate() {
        // Every request gets some of the faults, every fault some of the requests.
        for at in (0..total).filter(|at| (at + kind) % 4 == 0) {
            let forgets = at % 8 > 3;
            let memory = Memory::start(Quirks { forgets, ..Quirks::default() });
            let proxy = Proxy::start(&memory.address, move |n, _| if n == at { fault } else { Fault::None });
            let setup = Setup::default();
            let pushed = setup.push(&layout, &proxy.address);
            assert!(pushed.is_ok(), "{fault:?} at {at}: {}\n{:#?}", pushed.unwrap_err(), proxy.log.lock().unwrap());
            assert!(absent_or_complete(&memory, &layout, digest));
            let waits = waited(&setup);
            assert!(waits <= 3000, "{fault:?} at {at}: {waits}");
        }
    }
}

#[test]
fn a_permanent_fault_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, digest) = layout(dir.path());
    let total = requests(&layout);
    for (fault, reason, class) in [
        (Fault::Status(403), "403", 6),
        (Fault::Status(507), "the registry is full", 6),
        (Fault::Status(503), "503", 6),
        (Fault::Status(413), "413", 6),
    ] {
        for from in (0..total).step_by(7) {
            let memory = Memory::start(Quirks::default());
            let proxy = Proxy::start(&memory.address, move |n, _| if n < from { Fault::None } else { fault });
            let error = Setup::default().push(&layout, &proxy.address).unwrap_err();
            assert!(error.to_string().contains(reason), "{fault:?} from {from}: {error}");
            assert_eq!(error.class().exit_code(), class, "{error}");
            absent_or_complete(&memory, &layout, digest);
        }
    }
}

#[test]
fn a_truncated_chunk_is_resumed_at_the_registrys_offset() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, digest) = layout(dir.path());
    let memory = Memory::start(Quirks::default());
    let first = std::sync::atomic::AtomicBool::new(true);
    let proxy = Proxy::start(&memory.address, move |_, head| {
        let patch = head.method == "PATCH" && first.swap(false, std::sync::atomic::Ordering::SeqCst);
        if patch { Fault::CutRequest(5000) } else { Fault::None }
    });
    Setup::default().push(&layout, &proxy.address).unwrap();
    assert!(absent_or_complete(&memory, &layout, digest));
    let ranges: Vec<_> = memory
        .state()
        .headers
        .iter()
        .filter(|(n, _)| n.eq_ignore_ascii_case("content-range"))
        .map(|(_, v)| v.clone())
        .collect();
    assert_eq!(ranges[0], "0-16383");
    assert!(ranges[1].starts_with("5000-"), "{ranges:?}");
    let log = proxy.log.lock().unwrap().clone();
    let cut = log.iter().position(|(_, fault)| *fault == Fault::CutRequest(5000)).unwrap();
    assert!(log[cut + 1].0.starts_with("GET /v2/kernel/blobs/uploads/"), "{log:?}");
    let layer = std::fs::metadata(layouts::blob(&layout, layouts::layer(&layout))).unwrap().len();
    assert!(memory.state().received < layer + 2000, "{} of {layer}", memory.state().received);
}

#[test]
fn each_wait_is_announced_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, _) = layout(dir.path());
    let memory = Memory::start(Quirks::default());
    let proxy = Proxy::start(&memory.address, |n, _| if n == 3 { Fault::Status(503) } else { Fault::None });
    let setup = Setup::default();
    setup.push(&layout, &proxy.address).unwrap();
    let said: Vec<_> =
        setup.events.text().lines().filter(|line| line.contains("trying again")).map(str::to_owned).collect();
    let [line] = &said[..] else { panic!("not one retry: {said:#?}") };
    let seconds = f64::from(u32::try_from(waited(&setup)).unwrap()) / 1000.0;
    for word in
        ["\"warning\"", "the registry returned 503", &format!("; trying again in {seconds:.1} s (attempt 2 of 4)")]
    {
        assert!(line.contains(word), "no {word} in {line}");
    }
    let setup = Setup::default();
    setup.push(&layout, &memory.address).unwrap();
    assert!(!setup.events.text().contains("trying again"), "{}", setup.events.text());
}

#[test]
fn a_silent_registry_times_out() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, _) = layout(dir.path());
    let memory = Memory::start(Quirks::default());
    let proxy = Proxy::start(&memory.address, |n, _| if n == 3 { Fault::Delay(600) } else { Fault::Delay(1) });
    let setup = Setup { idle: std::time::Duration::from_millis(200), ..Setup::default() };
    setup.push(&layout, &proxy.address).unwrap();
    assert!(waited(&setup) > 0);
    let proxy = Proxy::start(&memory.address, |_, _| Fault::Delay(300));
    let setup = Setup { idle: std::time::Duration::from_millis(50), attempts: 2, ..Setup::default() };
    let error = setup.push(&layout, &proxy.address).unwrap_err();
    assert!(error.to_string().contains("timeout"), "{error}");
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => Just(Fault::None),
        1 => Just(Fault::DropRequest),
        1 => (0u64..20_000).prop_map(Fault::CutRequest),
        1 => Just(Fault::DropAnswer),
        1 => (0u64..5000).prop_map(Fault::CutAnswer),
        1 => prop::sample::select(vec![408, 429, 500, 502, 503, 504, 403, 404, 413, 416, 507]).prop_map(Fault::Status),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_faults_leave_the_tag_absent_or_complete(faults in prop::collection::vec(fault(), 0..60), forgets: bool, parallel in 1usize..4) {
        let dir = tempfile::tempdir().unwrap();
        let (layout, digest) = layout(dir.path());
        let memory = Memory::start(Quirks { forgets, ..Quirks::default() });
        let proxy = Proxy::start(&memory.address, move |n, _| faults.get(n).copied().unwrap_or(Fault::None));
        let pushed = Setup { parallel, ..Setup::default() }.push(&layout, &proxy.address);
        let complete = absent_or_complete(&memory, &layout, digest);
        prop_assert!(pushed.is_err() || complete);
    }
}

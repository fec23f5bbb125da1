use super::*;
use crate::error::Class;
use crate::event::Silent;

const DEMO: Stage = Stage::recipe("demo");

fn run(
    root: &Path,
    stage: Stage,
    input: &str,
    work: fn(&mut Work<'_>, Input<String>) -> Result<()>,
) -> Result<Finished> {
    Cache::new(root, &Silent, Sources::new("")).run(stage, Input::text("input", input), work)
}

#[test]
fn a_cached_stage_is_not_run_again() {
    let root = tempfile::tempdir().unwrap();
    let write = |work: &mut Work<'_>, _| atomic::write(&work.dir().join("out"), "1");
    let first = run(root.path(), DEMO, "a", write).unwrap();
    let again = run(root.path(), DEMO, "a", |_, _| panic!("ran again")).unwrap();
    assert!(!first.cached && again.cached && first.dir == again.dir);
    assert_eq!(std::fs::read_to_string(again.dir.join("out")).unwrap(), "1");
    let other = run(root.path(), DEMO, "b", |_, _| Ok(())).unwrap();
    assert!(!other.cached && other.key != first.key);
}

#[test]
fn a_look_runs_nothing_and_writes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (look, other) = (Look::default(), Stage::recipe("other"));
    let cache = Cache::new(root.path(), &Silent, Sources::new(""));
    let run = |cache: &Cache<'_>, stage, input| cache.run(stage, Input::text("input", input), |_, _| Ok(()));
    run(&cache, DEMO, "a").unwrap();
    let before = hash_tree(root.path()).unwrap();
    let looking = cache.looking(&look);
    assert!(look.follow(|| run(&looking, DEMO, "a")).unwrap().is_some_and(|found| found.cached));
    assert!(!looking.would_run(DEMO, &Input::text("input", "a")).unwrap());
    assert_eq!(look.known(), BTreeMap::from([("demo", true)]));
    assert!(look.follow(|| run(&looking, other, "a")).unwrap().is_none());
    assert!(look.follow(|| looking.would_run(DEMO, &Input::text("input", "b"))).unwrap().is_none());
    assert_eq!(look.known(), BTreeMap::from([("demo", false), ("other", false)]));
    let broken = || Err::<(), _>(Error::new(Class::BadInput, "another reason"));
    assert!(look.follow(broken).unwrap_err().to_string().contains("another reason"));
    assert_eq!(hash_tree(root.path()).unwrap(), before);
    assert!(cache.would_run(other, &Input::text("input", "a")).unwrap());
}

fn half_is(there: bool, work: &Work<'_>) -> Result<()> {
    assert_eq!(work.dir().join("half").exists(), there);
    Ok(())
}

#[test]
fn a_failed_stage_leaves_no_result_and_can_resume() {
    let root = tempfile::tempdir().unwrap();
    let fail = |work: &mut Work<'_>, _| {
        atomic::write(&work.dir().join("half"), "x")?;
        Err(Error::new(Class::BuildFailed, "no"))
    };
    assert!(run(root.path(), DEMO.resuming(), "a", fail).is_err());
    assert!(!root.path().join("stages").exists());
    run(root.path(), DEMO.resuming(), "a", |work, _| half_is(true, work)).unwrap();
    assert!(run(root.path(), DEMO, "b", fail).is_err());
    run(root.path(), DEMO, "b", |work, _| half_is(false, work)).unwrap();
}

#[test]
fn a_stage_that_waits_for_another_process_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("demo.lock");
    let held = lock(&path, &mut |line| panic!("waits without reason: {line}")).unwrap();
    let (send, lines) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || lock(&path, &mut |line| send.send(line.to_owned()).unwrap()).unwrap());
    assert_eq!(lines.recv().unwrap(), "waiting for another process that runs this stage");
    drop(held);
    waiting.join().unwrap();
}

/// Changing this text invalidates every cache and compiles all kernels again.
#[test]
fn the_form_of_a_fingerprint_is_fixed() {
    let cache = Cache::new(Path::new("/nowhere"), &Silent, Sources::new("other-crate cd;our-crate ab"));
    let inputs = (Input::text("b", "2"), vec![Input::text("a", "1"), Input::text("b", "3")]);
    let of = |stage| cache.fingerprint(stage, &inputs).unwrap().json();
    assert_eq!(of(DEMO), r#"{"stage":"demo","inputs":{"a":"1","b":"2","b+":"3"}}"#);
    assert_eq!(
        of(Stage::ours("demo", "our-crate")),
        r#"{"stage":"demo","inputs":{"a":"1","b":"2","b+":"3","sources":"ab"}}"#
    );
    let error = cache.fingerprint(Stage::ours("demo", "other"), &inputs).unwrap_err();
    assert!(error.to_string().contains("sources of other"), "{error}");
}

#[test]
fn files_and_trees_are_keyed_by_content() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::new(dir.path(), &Silent, Sources::new(""));
    let key = || {
        let inputs = (
            Input::file("file", &dir.path().join("d/f")).unwrap(),
            Input::tree("tree", &dir.path().join("d")).unwrap(),
        );
        cache.fingerprint(DEMO, &inputs).unwrap().inputs
    };
    atomic::write(&dir.path().join("d/f"), "1").unwrap();
    let before = key();
    atomic::write(&dir.path().join("d/f"), "2").unwrap();
    let after = key();
    assert!(before["file"] != after["file"] && before["tree"] != after["tree"], "{before:?} {after:?}");
}

#[test]
fn a_directory_belongs_to_the_stage_of_its_whole_name() {
    let kernel = Stage::recipe("kernel");
    assert!(kernel.owns("kernel-0123456789abcdef"));
    for other in ["kernel-image-0123456789abcdef", "kernel", "kernel-0123", "kernels-0123456789abcdef"] {
        assert!(!kernel.owns(other), "{other}");
    }
}

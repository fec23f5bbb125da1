//! Survey and removal of a cache with one or more items of every kind.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use build::SOURCES;
use cache::{Hold, Kind, Needs, Rules, Survey, remove};
use common::event::Silent;
use common::stage::{Cache, Input, Stage};
use common::{Sha256, atomic};
use lock::{Inputs, Lock, Package};

const DAY: Duration = Duration::from_secs(86_400);

struct Scene {
    dir: tempfile::TempDir,
    now: SystemTime,
}

impl Scene {
    /// Items whose last uses are this many days ago: stages a (9), b (5), c (1), a file of the store (7), objects (4), an unfinished stage (3),
    /// a pulled image (2), and keys and a file of the user's (99).
    fn new() -> Self {
        let scene = Self { dir: tempfile::tempdir().unwrap(), now: SystemTime::now() };
        for (stage, days) in [("a", 9), ("b", 5), ("c", 1)] {
            scene.tree(&format!("stages/{stage}-0123456789abcdef"), 20);
            scene.file(&format!("unfinished/{stage}-0123456789abcdef.lock"), days);
        }
        scene.file(&format!("store/sha256/{}", Sha256::of("x")), 7);
        scene.tree("objects/0123456789abcdef", 4);
        scene.file("objects/0123456789abcdef.lock", 4);
        scene.tree("unfinished/d-0123456789abcdef", 3);
        scene.tree("kernel-devel/0123456789abcdef", 2);
        scene.tree("keys/development", 99);
        scene.file("my-thesis.txt", 99);
        scene
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }

    fn used(&self, path: &Path, days: u32) {
        File::open(path).unwrap().set_modified(self.now - days * DAY).unwrap();
    }

    fn file(&self, name: &str, days: u32) {
        let path = self.root().join(name);
        let bytes = if name.ends_with(".lock") { Vec::new() } else { vec![1; 50_000] };
        atomic::write(&path, bytes).unwrap();
        self.used(&path, days);
    }

    fn tree(&self, name: &str, days: u32) {
        self.file(&format!("{name}/sub/file"), days);
        self.used(&self.root().join(name), days);
    }

    fn survey(&self) -> Survey {
        Survey::of(self.root(), None).unwrap()
    }

    /// Names of what `rules` choose, in the order of removal.
    fn chosen(&self, rules: Rules) -> Vec<String> {
        let survey = self.survey();
        rules.choose(&survey, self.now).items.iter().map(|item| format!("{}/{}", item.kind.name(), item.name)).collect()
    }
}

/// The first letters, which tell the items apart.
fn short(names: &[String]) -> Vec<&str> {
    names
        .iter()
        .map(|name| {
            name.split_once(|c: char| c == '-' && !name.starts_with("kernel")).map_or(name.as_str(), |(first, _)| first)
        })
        .collect()
}

#[test]
fn age_and_size_choose_the_least_recently_used() {
    let scene = Scene::new();
    let file = format!("store/{}", Sha256::of("x"));
    let old = Rules { older_than: Some(4 * DAY + DAY / 2), ..Rules::default() };
    assert_eq!(short(&scene.chosen(old)), ["stages/a", &file, "stages/b"]);
    let none = Rules { older_than: Some(10 * DAY), ..Rules::default() };
    assert!(scene.chosen(none).is_empty());

    let survey = scene.survey();
    let all = Rules { max_size: Some(0), ..Rules::default() };
    assert_eq!(all.choose(&survey, scene.now).items.len(), 7, "keys and files of the user's must stay");
    let left = all.choose(&survey, scene.now).left;
    assert!(left > 100_000 && left + all.choose(&survey, scene.now).bytes() == survey.bytes());
    let one_less = Rules { max_size: Some(survey.bytes() - 1), ..Rules::default() };
    assert_eq!(short(&scene.chosen(one_less)), ["stages/a"]);
    let enough = Rules { max_size: Some(survey.bytes()), ..Rules::default() };
    assert!(scene.chosen(enough).is_empty());
    let both = Rules { max_size: Some(0), ..old };
    assert_eq!(scene.chosen(both).len(), 3);
}

#[test]
fn removal_leaves_nothing_of_what_it_removes_and_all_else() {
    let scene = Scene::new();
    let survey = scene.survey();
    let old = Rules { older_than: Some(4 * DAY + DAY / 2), ..Rules::default() };
    let selection = old.choose(&survey, scene.now);
    // What an interrupted removal left.
    scene.tree("unfinished/removed/e-0123456789abcdef", 0);
    let mut removed = 0;
    let exclusive = Hold::exclusive(scene.root()).unwrap();
    remove(&exclusive, scene.root(), &selection.items, |_| removed += 1).unwrap();
    assert_eq!(removed, 3);
    for (gone, name) in [
        (true, "stages/a-0123456789abcdef"),
        (true, "unfinished/a-0123456789abcdef.lock"),
        (true, "unfinished/removed"),
        (false, "stages/c-0123456789abcdef/sub/file"),
        (false, "unfinished/c-0123456789abcdef.lock"),
        (false, "objects/0123456789abcdef/sub/file"),
        (false, "keys/development/sub/file"),
        (false, "my-thesis.txt"),
    ] {
        assert_eq!(!scene.root().join(name).exists(), gone, "{name}");
    }
    assert!(Survey::of(scene.root(), None).unwrap().bytes() < selection.left + 20_000);
}

#[test]
fn a_link_to_the_stage_of_another_cache_is_removed_and_not_followed() {
    let (scene, other) = (Scene::new(), Scene::new());
    let stage = other.root().join("stages/a-0123456789abcdef");
    let link = scene.root().join("stages/l-0123456789abcdef");
    std::os::unix::fs::symlink(&stage, &link).unwrap();
    let survey = scene.survey();
    let linked = survey.items.iter().filter(|item| item.path == link).collect::<Vec<_>>();
    assert!(linked.len() == 1 && linked[0].bytes < 5000);
    remove(&Hold::exclusive(scene.root()).unwrap(), scene.root(), &linked, |_| ()).unwrap();
    assert!(fs::symlink_metadata(&link).is_err() && stage.join("sub/file").exists());
}

#[test]
fn running_a_stage_again_is_a_use() {
    let scene = Scene::new();
    let run = || {
        let cache = Cache::new(scene.root(), &Silent, SOURCES);
        cache.run(Stage::recipe("demo"), Input::text("in", "1"), |_, _| Ok(())).unwrap()
    };
    let dir = run().dir;
    let name = dir.file_name().unwrap().to_str().unwrap();
    scene.used(&dir, 50);
    scene.used(&scene.root().join("unfinished").join(format!("{name}.lock")), 50);
    let of_demo = |names: Vec<String>| names.iter().filter(|found| found.ends_with(name)).count();
    let old = Rules { older_than: Some(40 * DAY), ..Rules::default() };
    assert_eq!(of_demo(scene.chosen(old)), 1);
    assert!(run().cached);
    assert_eq!(of_demo(scene.chosen(old)), 0);
}

#[test]
fn what_the_lock_needs_stays() {
    let scene = Scene::new();
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let lock = lock::read(project).unwrap();
    let package = Package { sha256: Sha256::of("x"), ..lock.package[0].clone() };
    let needs = |package: Vec<Package>| {
        let mut new = Lock::new(lock.kernel.clone());
        new.package = package;
        let inputs = Inputs { lock: new, crates: Vec::new(), modules: Vec::new() };
        Needs::of(&inputs, SOURCES, &Cache::new(scene.root(), &Silent, SOURCES)).unwrap()
    };
    let unneeded = |needs: &Needs| -> Vec<(Kind, PathBuf)> {
        let survey = Survey::of(scene.root(), Some(needs)).unwrap();
        let rules = Rules { unneeded: true, ..Rules::default() };
        rules.choose(&survey, scene.now).items.iter().map(|item| (item.kind, item.path.clone())).collect()
    };
    let file = (Kind::Store, scene.root().join("store/sha256").join(Sha256::of("x").to_string()));
    assert!(!unneeded(&needs(vec![package])).contains(&file));
    let others = unneeded(&needs(Vec::new()));
    assert!(others.contains(&file) && others.len() == 7, "{others:?}");
}

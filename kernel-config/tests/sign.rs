//! Signed modules, checked with the kernel's own tools.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::event::Silent;
use common::sandbox::{Run, Sandbox};
use common::stage::{Cache, Input, Sources, hash_tree};
use common::{Class, Error, Sha256};
use kernel_config::environment::Environment;
use kernel_config::sign::{EXTENSION_STAGE, sign, sign_modules, sign_tree};
use keys::{Identity, KeySet, OrPending, Pending, Role, Signer};

/// A signer with the module key in the test data of `keys`.
fn key_set(dir: &Path) -> Box<dyn Signer> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/keys/testdata");
    fs::copy(data.join("rsa2048.key.pem"), dir.join("module.key.pem")).unwrap();
    fs::set_permissions(dir.join("module.key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::copy(data.join("golden.crt.pem"), dir.join("module.crt.pem")).unwrap();
    KeySet::open(dir).unwrap().signer(Role::Module).unwrap()
}

/// The toolchain, and the object tree of a compiled kernel with modules in the same cache.
fn kernel() -> Option<(Sandbox, PathBuf)> {
    let rootfs = skip::toolchain(&[])?;
    let stages = rootfs.parent().and_then(Path::parent).unwrap();
    let kernels = fs::read_dir(stages).unwrap().map(|entry| entry.unwrap().path().join("obj"));
    // That of profile debug has no modules.
    let has_modules = |obj: &PathBuf| fs::metadata(obj.join("modules.order")).is_ok_and(|list| list.len() > 0);
    let objects = kernels.filter(|obj| obj.join("scripts/sign-file").is_file()).filter(has_modules).min();
    let Some(objects) = objects else {
        skip::skipped("the cache has no compiled kernel with modules");
        return None;
    };
    Some((Sandbox::new(rootfs), objects))
}

/// Copies the modules of the kernel at `objects` into the directory `to`.
fn copy_modules(sandbox: &Sandbox, objects: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    let copy = Run::script("find /build/in -name '*.ko' -exec cp {} /build/out/ ';'", &[]);
    let modules = objects.parent().unwrap().join("modules");
    sandbox.run(&copy.read(&modules, "/build/in").write(to, "/build/out"), &mut |_| ()).unwrap();
}

/// Every module of a compiled kernel, and two files that are not modules.
#[test]
fn output_equals_that_of_sign_file() {
    let Some((sandbox, objects)) = kernel() else { return };
    let dir = tempfile::tempdir().unwrap();
    let signer = key_set(dir.path());
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    for tree in [&ours, &theirs] {
        copy_modules(&sandbox, &objects, tree);
        fs::write(tree.join("empty.ko"), "").unwrap();
        fs::write(tree.join("odd.ko"), vec![7; 70_001]).unwrap();
    }
    let script = "for ko in /build/theirs/*.ko; do \
                  /build/obj/scripts/sign-file sha512 /build/keys/module.key.pem /build/keys/module.crt.pem $ko; done";
    let run = Run::script(script, &[]).read(&objects, "/build/obj").read(dir.path(), "/build/keys");
    sandbox.run(&run.write(&theirs, "/build/theirs"), &mut |_| ()).unwrap();
    sign_modules(&ours, signer.as_ref()).unwrap().unwrap();
    let mut compared = 0;
    for entry in fs::read_dir(&theirs).unwrap() {
        let path = entry.unwrap().path();
        let same = fs::read(&path).unwrap() == fs::read(ours.join(path.file_name().unwrap())).unwrap();
        assert!(same, "{} differs", path.display());
        compared += 1;
    }
    assert!(compared > 2, "no module of the kernel was compared");
}

#[test]
fn modinfo_names_the_signer() {
    let Some((sandbox, objects)) = kernel() else { return };
    let dir = tempfile::tempdir().unwrap();
    let signer = key_set(dir.path());
    let tree = dir.path().join("tree");
    copy_modules(&sandbox, &objects, &tree);
    sign_modules(&tree, signer.as_ref()).unwrap().unwrap();
    let show = Run::script("modinfo $(find /build/tree -name '*.ko' | sort | head -n 1)", &[]);
    let text = String::from_utf8(sandbox.output(&show.read(&tree, "/build/tree")).unwrap()).unwrap();
    for line in ["sig_id:         PKCS#7", "signer:         golden", "sig_hashalgo:   sha512"] {
        assert!(text.contains(line), "no {line:?} in {text}");
    }
    let serial = "sig_key:        6C:65:0B:BB:A0:14:BF:26:B5:52:27:99:DA:80:E2:31";
    assert!(text.contains(serial), "{text}");
}

fn scene(dir: &Path, name: &str) -> PathBuf {
    let tree = dir.join(name);
    fs::create_dir_all(tree.join("lib/deep")).unwrap();
    for (path, bytes) in
        [("lib/b.ko", "module b"), ("lib/a.ko", "module a"), ("lib/deep/c.ko", "c"), ("lib/modules.order", "")]
    {
        fs::write(tree.join(path), bytes).unwrap();
    }
    tree
}

/// Signing through an external signer yields the same bytes as signing directly.
#[test]
fn an_external_signer_yields_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let holder = key_set(dir.path());
    let once = scene(dir.path(), "once");
    sign_modules(&once, holder.as_ref()).unwrap().unwrap();
    let (public, requests) = (dir.path().join("public"), dir.path().join("requests"));
    fs::create_dir(&public).unwrap();
    fs::copy(dir.path().join("module.crt.pem"), public.join("module.crt.pem")).unwrap();
    let external = || KeySet::open(&public).unwrap().sign_later(&requests).unwrap();
    let first = scene(dir.path(), "first");
    let set = external();
    assert_eq!(sign_modules(&first, set.signer(Role::Module).unwrap().as_ref()).unwrap(), Err(Pending));
    let report = set.pending();
    assert!(report.contains("3 signatures pending"), "all are requested at once: {report}");
    for path in ["lib/a.ko", "lib/b.ko", "lib/deep/c.ko"] {
        let module = fs::read(first.join(path)).unwrap();
        assert!(!module.ends_with(b"appended~\n"), "{path} is already signed");
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(&requests).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "digest") {
            fs::write(path.with_extension("sig"), holder.sign(&fs::read(&path).unwrap(), "").unwrap().unwrap())
                .unwrap();
            names.push(path);
        }
    }
    assert_eq!((names.len(), keys::attach(&requests).unwrap().taken.len()), (3, 3));
    let second = scene(dir.path(), "second");
    sign_modules(&second, external().signer(Role::Module).unwrap().as_ref()).unwrap().unwrap();
    assert_eq!(hash_tree(&second).unwrap(), hash_tree(&once).unwrap());
    assert_ne!(hash_tree(&first).unwrap(), hash_tree(&once).unwrap());
}

/// Fails after some signatures, like a token that is unplugged.
#[derive(Debug)]
struct Unplugged(Box<dyn Signer>, AtomicUsize);

impl Signer for Unplugged {
    fn identity(&self) -> &Identity {
        self.0.identity()
    }

    fn sign(&self, digest: &[u8], what: &str) -> common::Result<OrPending<Vec<u8>>> {
        if self.1.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(Error::new(Class::Infrastructure, format!("the token is gone; cannot sign {what}")));
        }
        self.0.sign(digest, what)
    }
}

#[test]
fn a_failing_signer_leaves_no_finished_stage() {
    let Some((sandbox, _)) = kernel() else { return };
    let dir = tempfile::tempdir().unwrap();
    let holder = key_set(dir.path());
    let root = scene(dir.path(), "usr").parent().unwrap().join("usr");
    let cache_dir = dir.path().join("cache");
    let cache = Cache::new(&cache_dir, &Silent, Sources::new(concat!(env!("CARGO_PKG_NAME"), " x")));
    let env = Environment { sandbox: &sandbox, toolchain: Sha256::of(""), cache, epoch: 0, clippy: false, jobs: 1 };
    let run = |tree: &Path, signer: &dyn Signer| {
        sign_tree(&env, EXTENSION_STAGE, "6.12.0", Input::tree("modules", tree).unwrap(), signer)
    };
    let tree = root.join("lib"); // Without a lib/ of its own, as an extension's tree is.
    let error = run(&tree, &Unplugged(key_set(dir.path()), AtomicUsize::new(1))).unwrap_err();
    assert_eq!(error.class(), Class::Infrastructure);
    assert!(error.to_string().contains("cannot sign the module b.ko"), "{error}");
    assert!(!cache_dir.join("stages").exists(), "a stage was finished");
    let done = run(&tree, holder.as_ref()).unwrap();
    assert!(fs::read(done.unwrap().dir.join("signed/deep/c.ko")).unwrap().ends_with(b"appended~\n"));
}

/// openssl made `crates/keys/testdata/golden.cms`, so this test needs no tool.
#[test]
fn appends_signature_lengths_and_magic() {
    let dir = tempfile::tempdir().unwrap();
    let signer = key_set(dir.path());
    let signed = sign(b"module\n".to_vec(), signer.as_ref(), "a module").unwrap().unwrap();
    let message = include_bytes!("../../crates/keys/testdata/golden.cms");
    let info = [&[0, 0, 2, 0, 0, 0, 0, 0][..], &u32::try_from(message.len()).unwrap().to_be_bytes()].concat();
    assert_eq!(signed, [b"module\n", &message[..], &info, b"~Module signature appended~\n"].concat());
    let again = sign(signed, signer.as_ref(), "the module x.ko").unwrap_err();
    assert!(again.class() == Class::BadInput, "{again}");
    assert!(again.to_string().contains("the module x.ko is already signed"), "{again}");
}

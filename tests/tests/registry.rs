//! The program against Debian's `docker-registry`: the build's images there and back, a base that the lock names, a kernel-devel image that
//! somebody signed. skopeo is the judge.

use anyhow::{Context as _, ensure};
use common::sandbox::Run;
use fs_err as fs;
use harness::Result;
use harness::caches;
use harness::modules::{Builder, project, sample};
use harness::registry::Registry;
use harness::settings::{OUT, Settings};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const TAG: &str = "custom-solana-v1.10.3";

fn settings() -> Option<Settings> {
    Settings::with_program(OUT, Path::new(env!("CARGO_TARGET_TMPDIR")))
}

/// What the program says, on both channels, when it ends with `code`.
fn says(settings: &Settings, project: &Path, words: &[&str], code: i32) -> Result<String> {
    says_with(settings, &caches::main(settings)?, project, words, code)
}

/// The same with another cache.
fn says_with(settings: &Settings, cache: &Path, project: &Path, words: &[&str], code: i32) -> Result<String> {
    let mut command = Command::new(settings.program.as_deref().context("no program")?);
    command.args(words).arg("--project").arg(project).arg("--cache").arg(cache);
    let output = command.arg("--mirror").arg(caches::main(settings)?.join("store/sha256")).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "{words:?}: {}: {said}", output.status);
    Ok(said)
}

fn record(out: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&fs::read(out.join("build.json"))?)?)
}

/// The digest that skopeo finds under a name.
fn judged(settings: &Settings, name: &str) -> Result<String> {
    let script = "skopeo inspect --tls-verify=false --raw \"docker://$1\" | sha256sum | cut -d' ' -f1";
    let found = settings.sandbox.output(&Run::script(script, &[name]).with_network())?;
    Ok(String::from_utf8_lossy(&found).trim().to_owned())
}

#[test]
fn what_was_built_is_pushed_pulled_and_verified() -> Result<()> {
    let Some(settings) = settings() else { return Ok(()) };
    let registry = Registry::start(&settings.sandbox)?;
    let (work, out) = (tempfile::tempdir()?, settings.out.display().to_string());
    let to = format!("{}/acme", registry.address);
    let push = ["push", "--out", &out, "--registry", &to];
    let first = says(&settings, &project(), &push, 0)?;
    let images: BTreeMap<String, String> = serde_json::from_value(record(&settings.out)?["images"].take())?;
    ensure!(images.len() == 5, "{images:?}");
    for (name, digest) in &images {
        let name = format!("{to}/{}", name.rsplit('/').next().unwrap_or_default());
        ensure!(first.contains(&format!("{name}@sha256:{digest}")), "{name} is not among {first}");
        ensure!(judged(&settings, &name)? == *digest, "skopeo finds another {name}");
    }
    let again = says(&settings, &project(), &push, 0)?;
    ensure!(again.matches("(was there)").count() == images.len(), "{again}");

    let name = format!("{to}/installer:{TAG}");
    let pulled = work.path().join("installer.oci").display().to_string();
    says(&settings, &project(), &["pull", &name, "--out", &pulled], 0)?;
    let key = settings.out.join("image.pub.pem").display().to_string();
    says(&settings, &project(), &["verify", &pulled, "--key", &key, "--any-name"], 0)?;
    let said = says(&settings, &project(), &["verify", &pulled, "--key", &key], 5)?;
    ensure!(
        said.contains("signature verification failed"),
        "a copy under another name passes for the original: {said}"
    );
    let nothing = format!("{to}/installer:other");
    let other = work.path().join("other.oci").display().to_string();
    let said = says(&settings, &project(), &["pull", &nothing, "--out", &other], 2)?;
    ensure!(said.contains("has nothing named other") && !Path::new(&other).exists(), "{said}");
    Ok(())
}

/// The project by links, but for the lock, which is a copy.
fn scratch(dir: &Path) -> Result<PathBuf> {
    let (from, to) = (project().canonicalize()?, dir.join("project"));
    fs::create_dir(&to)?;
    for entry in fs::read_dir(&from)? {
        let name = entry?.file_name();
        if name == lock::FILE {
            fs::copy(from.join(&name), to.join(&name))?;
        } else if name != "target" && !name.to_string_lossy().starts_with(['_', '.']) {
            fs::os::unix::fs::symlink(from.join(&name), to.join(&name))?;
        }
    }
    Ok(to)
}

/// Copies both images of the testbed to `registry`, as the base of a stranger, and gives their references.
fn push_base(settings: &Settings, registry: &Registry) -> Result<String> {
    let key = record(&settings.out)?["inputs"]["base"].as_str().context("no base is recorded")?.to_owned();
    let base = caches::main(settings)?.join(format!("stages/testbed-base-{}/base.oci", &key[..16]));
    let mut references = Vec::new();
    for name in ["imager", "installer-base"] {
        let from = format!("oci:/build/base:testbed/{name}:v1.10.3");
        let reference = format!("{}/talos/{name}:v1.10.3", registry.address);
        let to = format!("docker://{reference}");
        let copy = Run::new(["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", &from, &to]);
        settings.sandbox.output(&copy.read(&base, "/build/base").with_network())?;
        references.push(reference);
    }
    Ok(references.join(","))
}

#[test]
fn a_base_of_a_registry_is_locked_and_then_needs_no_registry() -> Result<()> {
    let Some(settings) = settings() else { return Ok(()) };
    let registry = Registry::start(&settings.sandbox)?;
    // Everything that is locked goes through here, which is more than /tmp may have room for.
    let work = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    // Its store has no blob of an earlier run.
    let (project, cache) = (scratch(work.path())?, caches::fresh(&settings, work.path(), |_| true)?);
    let says = |words: &[&str], code| says_with(&settings, &cache, &project, words, code);
    let base = push_base(&settings, &registry)?;
    let out = |name: &str| work.path().join(name).display().to_string();

    let said = says(&["build", "--base", &base, "--out", &out("unlocked")], 2)?;
    ensure!(said.contains("is not locked") && said.contains(&format!("update --base {base}")), "{said}");
    let said = says(&["update", "--base", &base, "--offline"], 2)?;
    ensure!(said.contains("nothing can be resolved offline"), "{said}");
    let said = says(&["update", "--base", &base], 0)?;
    ensure!(said.matches("absent -> ").count() == 2, "it does not tell what changed: {said}");
    let said = says(&["update", "bases"], 0)?;
    ensure!(said.contains("is what it was"), "{said}");
    // Nothing has been pulled yet.
    let said = says(&["build", "--offline", "--base", &base, "--out", &out("offline")], 6)?;
    ensure!(said.contains("offline: inputs are missing") && !Path::new(&out("offline")).exists(), "{said}");

    // One image of the two is no base, and that is told before anything is built.
    let half = base.split(',').next().unwrap_or_default();
    says(&["update", "--base", half], 0)?;
    let said = says(&["build", "--base", half, "--out", &out("half")], 2)?;
    ensure!(said.contains("does not hold Talos's imager and installer-base images") && said.contains(half), "{said}");
    ensure!(!said.contains("toolchain"), "it began to build: {said}");
    says(&["update", "--base", &base], 0)?;

    says(&["fetch"], 0)?;
    drop(registry);
    says(&["build", "--offline", "--base", &base, "--out", &out("out")], 0)?;
    let (theirs, ours) = (Path::new(&out("out")).to_owned(), &settings.out);
    ensure!(fs::read(theirs.join("vmlinuz.efi"))? == fs::read(ours.join("vmlinuz.efi"))?, "another UKI");
    let provenance = fs::read_to_string(theirs.join("installer.provenance.json"))?;
    ensure!(provenance.contains(&base), "the provenance does not name the base");
    let lock = lock::read(&project)?;
    ensure!(lock.base.iter().all(|base| provenance.contains(&base.sha256.to_string())), "nor its digests");

    says(&["update", "--base", "testbed"], 0)?;
    ensure!(lock::read(&project)? == lock::read(&harness::modules::project())?, "the lock is not what it was before");
    Ok(())
}

#[test]
fn a_kernel_devel_image_of_a_registry_is_verified_before_it_is_used() -> Result<()> {
    let Some(settings) = settings() else { return Ok(()) };
    let registry = Registry::start(&settings.sandbox)?;
    let (to, out) = (format!("{}/acme", registry.address), settings.out.display().to_string());
    says(&settings, &project(), &["push", "kernel-devel", "--out", &out, "--registry", &to], 0)?;
    let builder = Builder::new(&settings, "registry")?;
    let reference = format!("{to}/kernel-devel:{TAG}");
    let other = builder.other_keys()?.join("image.pub.pem");
    let build = |key: Option<&Path>, name: &str| -> Result<(Option<i32>, String)> {
        let mut words = vec!["module", "build", "--kernel-devel", name];
        let key = key.map(|key| key.display().to_string());
        words.extend(key.iter().flat_map(|key| ["--kernel-devel-key", key]));
        let mut command = Command::new(settings.program.as_deref().context("no program")?);
        command.args(words).arg(sample("c")).arg("--project").arg(project()).arg("--cache").arg(&builder.cache);
        let output = command.arg("--keys").arg(&builder.keys).arg("--out").arg(builder.out()).output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let (code, said) = build(Some(&other), &reference)?;
    ensure!(code == Some(5) && said.contains("signature verification failed"), "{code:?}: {said}");
    ensure!(!builder.out().exists(), "a module was built all the same");
    let (code, said) = build(Some(&settings.out.join("image.pub.pem")), &reference)?;
    ensure!(code == Some(0) && !said.contains("vouches"), "{code:?}: {said}");
    ensure!(builder.out().join("sample_c.ko").is_file(), "no module");
    let (code, said) = build(None, &reference)?;
    ensure!(code == Some(0) && said.contains("nobody vouches for this image"), "{code:?}: {said}");
    Ok(())
}

//! The program against Debian's `docker-registry`: push and pull of the build's images, a locked base, a signed kernel-devel image.
//! skopeo is the reference tool.

use anyhow::ensure;
use common::sandbox::Run;
use fs_err as fs;
use harness::Result;
use harness::caches;
use harness::image;
use harness::modules::{Builder, project, sample};
use harness::registry::Registry;
use harness::settings::{OUT, Settings, TALOS_OUT};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const TAG: &str = "custom-solana-v1.10.3";

fn settings() -> Option<Settings> {
    Settings::with_program(OUT)
}

/// Runs the program, which must exit with `code`. Returns standard output and standard error.
fn run(settings: &Settings, project: &Path, words: &[&str], code: i32) -> Result<String> {
    run_with_cache(settings, &caches::shared(settings)?, project, words, code)
}

/// As [`run`], with another cache.
fn run_with_cache(settings: &Settings, cache: &Path, project: &Path, words: &[&str], code: i32) -> Result<String> {
    let mut command = Command::new(settings.program()?);
    command.args(words).arg("--project").arg(project).arg("--cache").arg(cache);
    let output = command.arg("--mirror").arg(caches::shared(settings)?.join("store/sha256")).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "{words:?}: {}: {text}", output.status);
    Ok(text)
}

fn record(out: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&fs::read(out.join("build.json"))?)?)
}

/// Returns the digest that skopeo reports for an image name.
fn skopeo_digest(settings: &Settings, name: &str) -> Result<String> {
    let script = "skopeo inspect --tls-verify=false --raw \"docker://$1\" | sha256sum | cut -d' ' -f1";
    let found = settings.sandbox.output(&Run::script(script, &[name]).with_network())?;
    Ok(String::from_utf8_lossy(&found).trim().to_owned())
}

#[test]
fn images_are_pushed_pulled_and_verified() -> Result<()> {
    let Some(settings) = settings() else { return Ok(()) };
    let registry = Registry::start(&settings.sandbox)?;
    let (work, out) = (tempfile::tempdir()?, settings.out.display().to_string());
    let to = format!("{}/acme", registry.address);
    let push = ["push", "--out", &out, "--registry", &to];
    let first = run(&settings, &project(), &push, 0)?;
    let images: BTreeMap<String, String> = serde_json::from_value(record(&settings.out)?["images"].take())?;
    ensure!(images.len() == 5, "{images:?}");
    for (name, digest) in &images {
        let name = format!("{to}/{}", name.rsplit('/').next().unwrap_or_default());
        ensure!(first.contains(&format!("{name}@sha256:{digest}")), "no {name} in: {first}");
        ensure!(skopeo_digest(&settings, &name)? == *digest, "skopeo reports another digest for {name}");
    }
    let again = run(&settings, &project(), &push, 0)?;
    ensure!(again.matches("(unchanged)").count() == images.len(), "{again}");

    let name = format!("{to}/installer:{TAG}");
    let pulled = work.path().join("installer.oci").display().to_string();
    run(&settings, &project(), &["pull", &name, "--out", &pulled], 0)?;
    let key = settings.out.join("image.pub.pem").display().to_string();
    run(&settings, &project(), &["verify", &pulled, "--key", &key, "--any-name"], 0)?;
    let output = run(&settings, &project(), &["verify", &pulled, "--key", &key], 5)?;
    ensure!(output.contains("signature verification failed"), "a copy under another name was accepted: {output}");
    let nothing = format!("{to}/installer:other");
    let other = work.path().join("other.oci").display().to_string();
    let output = run(&settings, &project(), &["pull", &nothing, "--out", &other], 2)?;
    ensure!(output.contains("does not contain other") && !Path::new(&other).exists(), "{output}");
    Ok(())
}

/// The digest of the installer of a build.
fn installer(out: &Path, name: &str) -> Result<String> {
    Ok(record(out)?["images"][name].as_str().unwrap_or_default().to_owned())
}

/// A build has the tag of its user wherever it has a name, so it verifies under that name; and a tag stays with its image.
#[test]
fn a_tag_is_in_every_name_and_stays_with_its_image() -> Result<()> {
    let Some(settings) = settings() else { return Ok(()) };
    let registry = Registry::start(&settings.sandbox)?;
    let work = tempfile::tempdir()?;
    let organisation = format!("{}/acme", registry.address);
    let build = |preset: &str, tag: &str| -> Result<PathBuf> {
        let out = work.path().join(format!("{preset}-{tag}"));
        let words = ["build", "--base", "testbed", "--registry", &organisation, "--preset", preset, "--tag", tag];
        let output = run(&settings, &project(), &[&words[..], &["--out", &out.display().to_string()]].concat(), 0)?;
        ensure!(output.contains("signing with development keys in "), "{output}");
        Ok(out)
    };
    let push = |out: &Path, more: &[&str], code| {
        run(&settings, &project(), &[&["push", "--out", &out.display().to_string()], more].concat(), code)
    };
    let (spec, agave) = (build("spec", "t.1")?, build("agave", "t.1")?);
    let name = format!("{organisation}/installer:t.1");
    let images: BTreeMap<String, String> = serde_json::from_value(record(&spec)?["images"].take())?;
    ensure!(images.len() == 4 && images.keys().all(|name| name.ends_with(":t.1")), "{images:?}");
    ensure!(record(&spec)?["tag"] == "t.1", "no tag in build.json");
    for (file, text) in [
        ("machine-config.yaml", format!("image: {name}\n")),
        ("installer.provenance.json", "\"tag\":\"t.1\"".to_owned()),
        ("installer.spdx.json", "\"versionInfo\":\"t.1\"".to_owned()),
    ] {
        ensure!(fs::read_to_string(spec.join(file))?.contains(&text), "no {text} in {file}");
    }
    // Signed under that name.
    let key = spec.join("image.pub.pem").display().to_string();
    run(&settings, &project(), &["verify", &spec.display().to_string(), "--key", &key], 0)?;

    push(&spec, &[], 0)?;
    let (first, second) = (installer(&spec, &name)?, installer(&agave, &name)?);
    ensure!(first != second, "both presets give one image");
    let output = push(&agave, &["installer"], 2)?;
    for word in [&first, &second, "--replace-tag"] {
        ensure!(output.contains(word), "no {word} in: {output}");
    }
    ensure!(skopeo_digest(&settings, &name)? == first, "the tag has moved");
    push(&build("agave", "t.2")?, &["installer"], 0)?;
    let output = push(&agave, &["installer", "--replace-tag"], 0)?;
    ensure!(output.contains(&format!("{name}@sha256:{second} (was sha256:{first})")), "{output}");
    ensure!(skopeo_digest(&settings, &name)? == second, "the tag has not moved");
    Ok(())
}

/// Makes a project directory of symbolic links with a copy of the lock file.
fn linked_project(dir: &Path) -> Result<PathBuf> {
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

/// Copies both images of the base to `registry`, as siderolabs', and returns their references.
fn push_base(settings: &Settings, registry: &Registry) -> Result<String> {
    let base = image::base(settings)?;
    let mut references = Vec::new();
    for name in ["imager", "installer-base"] {
        let from = format!("oci:/build/base:localhost/solana-talos/{name}:v1.10.3");
        let reference = format!("{}/talos/{name}:v1.10.3", registry.address);
        let to = format!("docker://{reference}");
        let copy = Run::new(["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", &from, &to]);
        settings.sandbox.output(&copy.read(&base, "/build/base").with_network())?;
        references.push(reference);
    }
    Ok(references.join(","))
}

#[test]
fn a_locked_base_is_built_offline() -> Result<()> {
    let Some(settings) = Settings::with_program(TALOS_OUT) else { return Ok(()) };
    let registry = Registry::start(&settings.sandbox)?;
    // Not in /tmp: all locked files are stored here.
    let work = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    // A new store without blobs of an earlier run.
    let (project, cache) = (linked_project(work.path())?, caches::fresh(&settings, work.path(), |_| true)?);
    let run = |words: &[&str], code| run_with_cache(&settings, &cache, &project, words, code);
    let base = push_base(&settings, &registry)?;
    let out = |name: &str| work.path().join(name).display().to_string();

    let output = run(&["build", "--base", &base, "--out", &out("unlocked")], 2)?;
    ensure!(output.contains("is not locked") && output.contains(&format!("update --base {base}")), "{output}");
    let output = run(&["update", "--base", &base, "--offline"], 2)?;
    ensure!(output.contains("base images offline"), "{output}");
    let output = run(&["update", "--base", &base], 0)?;
    ensure!(output.matches("absent -> ").count() == 2, "the changes are not reported: {output}");
    let output = run(&["update", "bases"], 0)?;
    ensure!(output.contains("is unchanged"), "{output}");
    // No image is pulled yet.
    let output = run(&["build", "--offline", "--base", &base, "--out", &out("offline")], 6)?;
    ensure!(output.contains("offline: inputs are missing") && !Path::new(&out("offline")).exists(), "{output}");

    // One of the two images is not a base; this fails before anything is built.
    let half = base.split(',').next().unwrap_or_default();
    run(&["update", "--base", half], 0)?;
    let output = run(&["build", "--base", half, "--out", &out("half")], 2)?;
    ensure!(
        output.contains("does not contain Talos's imager and installer-base images") && output.contains(half),
        "{output}"
    );
    ensure!(!output.contains("toolchain"), "the build started: {output}");
    run(&["update", "--base", &base], 0)?;

    run(&["fetch"], 0)?;
    drop(registry);
    run(&["build", "--offline", "--base", &base, "--out", &out("out")], 0)?;
    let (theirs, ours) = (Path::new(&out("out")).to_owned(), &settings.out);
    ensure!(fs::read(theirs.join("vmlinuz.efi"))? == fs::read(ours.join("vmlinuz.efi"))?, "the UKI differs");
    let provenance = fs::read_to_string(theirs.join("installer.provenance.json"))?;
    ensure!(provenance.contains(&base), "no base in the provenance");
    let lock = lock::read(&project)?;
    ensure!(
        lock.base.iter().all(|base| provenance.contains(&base.sha256.to_string())),
        "the digests of the base are not in the provenance"
    );

    run(&["update", "--base", "testbed"], 0)?;
    ensure!(lock::read(&project)? == lock::read(&harness::modules::project())?, "the lock was not restored");
    Ok(())
}

#[test]
fn a_kernel_devel_image_of_a_registry_is_verified_before_it_is_used() -> Result<()> {
    let Some(settings) = settings() else { return Ok(()) };
    let registry = Registry::start(&settings.sandbox)?;
    let (to, out) = (format!("{}/acme", registry.address), settings.out.display().to_string());
    run(&settings, &project(), &["push", "kernel-devel", "--out", &out, "--registry", &to], 0)?;
    let builder = Builder::new(&settings, "registry")?;
    let reference = format!("{to}/kernel-devel:{TAG}");
    let other = builder.other_keys()?.join("image.pub.pem");
    let build = |key: Option<&Path>, name: &str| -> Result<(Option<i32>, String)> {
        let mut words = vec!["module", "build", "--kernel-devel", name];
        let key = key.map(|key| key.display().to_string());
        words.extend(key.iter().flat_map(|key| ["--kernel-devel-key", key]));
        let mut command = Command::new(settings.program()?);
        command.args(words).arg(sample("c")).arg("--project").arg(project()).arg("--cache").arg(&builder.cache);
        let output = command.arg("--keys").arg(&builder.keys).arg("--out").arg(builder.out()).output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let (code, output) = build(Some(&other), &reference)?;
    ensure!(code == Some(5) && output.contains("signature verification failed"), "{code:?}: {output}");
    ensure!(!builder.out().exists(), "a module was built from an unverified image");
    let (code, output) = build(Some(&settings.out.join("image.pub.pem")), &reference)?;
    ensure!(code == Some(0) && !output.contains("is not verified"), "{code:?}: {output}");
    ensure!(builder.out().join("sample_c.ko").is_file(), "no module");
    let (code, output) = build(None, &reference)?;
    ensure!(code == Some(0) && output.contains("the kernel-devel image is not verified"), "{code:?}: {output}");
    Ok(())
}

//! A build with an external signer gives the same bytes as one with the private keys. OpenSSL is the signer.

use anyhow::ensure;
use build::stages;
use fs_err as fs;
use harness::Result;
use harness::caches;
use harness::modules::project;
use harness::outputs::comparable;
use harness::recipe::openssl_signer;
use harness::settings::{OUT, Settings};
use std::path::{Path, PathBuf};
use std::process::Command;

const PENDING_SIGNATURES: i32 = 7;
/// First the modules, then the images that contain them.
const ROUNDS: usize = 2;
/// Whether the stage in the cache's directory `name` contains nothing signed.
fn unsigned(name: &str) -> bool {
    stages::owned(&stages::TO_KERNEL, name)
        || stages::owned(&stages::TESTBED_PROGRAMS, name)
        || stages::testbed::STAGE.owns(name)
}

struct Scene {
    settings: Settings,
    cache: PathBuf,
    keys: PathBuf,
    work: tempfile::TempDir,
}

impl Scene {
    fn new() -> Result<Option<Self>> {
        let Some(settings) = Settings::with_program(OUT) else {
            return Ok(None);
        };
        let cache = caches::shared(&settings)?;
        let keys = cache.join("keys/development");
        Ok(Some(Self { settings, cache, keys, work: tempfile::tempdir()? }))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// Copies the public halves of the key set.
    fn public(&self) -> Result<PathBuf> {
        let public = self.path("public");
        fs::create_dir(&public)?;
        for entry in fs::read_dir(&self.keys)? {
            let entry = entry?;
            let name = entry.file_name();
            if [".crt.pem", ".pub.pem"].iter().any(|end| name.to_string_lossy().ends_with(end)) {
                fs::copy(entry.path(), public.join(name))?;
            }
        }
        Ok(public)
    }

    fn run(&self, cache: &Path, words: &[&str]) -> Result<(Option<i32>, String)> {
        let mut command = Command::new(self.settings.program()?);
        command.args(words).arg("--project").arg(project()).arg("--cache").arg(cache);
        let output = command.arg("--mirror").arg(self.cache.join("store/sha256")).output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// Signs the pending digests in `later`, as the external signer.
    fn sign(&self, later: &Path) -> Result<()> {
        let run = openssl_signer(&self.keys, later)?;
        Ok(self.settings.sandbox.output(&run).map(drop)?)
    }
}

#[test]
fn two_passes_give_the_same_bytes_as_one() -> Result<()> {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let text = |path: &Path| path.display().to_string();
    let (one, two, later) = (scene.path("one"), scene.path("two"), scene.path("later"));
    let (code, stderr) =
        scene.run(&scene.cache, &["build", "--base", "testbed", "--keys", &text(&scene.keys), "--out", &text(&one)])?;
    ensure!(code == Some(0), "{code:?}: {stderr}");

    let cache = caches::fresh(&scene.settings, scene.work.path(), unsigned)?;
    let public = text(&scene.public()?);
    let build = ["build", "--base", "testbed", "--keys", &public, "--sign-later", &text(&later), "--out", &text(&two)];
    for round in 1..=ROUNDS {
        let (code, stderr) = scene.run(&cache, &build)?;
        ensure!(code == Some(PENDING_SIGNATURES) && stderr.contains("pending"), "{round}: {code:?}: {stderr}");
        ensure!(!two.exists(), "round {round} left an output");
        let (code, stderr) = scene.run(&cache, &["attach", &text(&later)])?;
        ensure!(code == Some(PENDING_SIGNATURES) && stderr.contains("0 imported"), "{round}: {code:?}: {stderr}");
        scene.sign(&later)?;
        let (code, stderr) = scene.run(&cache, &["attach", &text(&later)])?;
        ensure!(code == Some(0), "{round}: {code:?}: {stderr}");
    }
    let (code, stderr) = scene.run(&cache, &build)?;
    ensure!(code == Some(0), "{code:?}: {stderr}");
    let (one, two) = (comparable(&one)?, comparable(&two)?);
    ensure!(one.0 == two.0, "{:#?} differs from {:#?}", two.0, one.0);
    ensure!(one.1 == two.1, "{:#} differs from {:#}", two.1, one.1);
    // A copy of the development keys, and its public halves alone, are recognized.
    ensure!(two.1["keys"] == "development", "{:#}", two.1);
    Ok(())
}

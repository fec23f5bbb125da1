//! The verbs that need no project, in a sandbox without the project's files, from a directory with nothing in it.

use anyhow::{Context as _, ensure};
use common::sandbox::Run;
use fs_err as fs;
use harness::Result;
use harness::registry::Registry;
use harness::settings::{OUT, Settings};
use serde_json::Value;

/// `$1` is the registry, `$2` the kernel's release, `$3` the name of the extension's image.
const VERBS: &str = r#"
pushed=$1/acme/${3##*/}
solana-talos --version
solana-talos keys init --dir keys --name acme
solana-talos keys show --dir keys
solana-talos inspect /build/out/installer.oci
solana-talos verify /build/out --key /build/out/image.pub.pem
solana-talos validate /build/out/solana-optimizer.oci --kernel "$2"
solana-talos push /build/out/solana-optimizer.oci --registry "$1/acme"
solana-talos pull "$pushed" --out pulled.oci
solana-talos inspect "$pushed"
solana-talos verify pulled.oci --key /build/out/image.pub.pem --any-name
solana-talos sign pulled.oci --keys keys --old-key /build/out/image.pub.pem --any-name
solana-talos verify pulled.oci --key keys/image.pub.pem
solana-talos attach later 2>&1 | grep 'no signing requests'
solana-talos cache show
"#;

/// Verbs that need a project, and what they say.
const OTHERS: [(&str, &str); 4] = [
    ("build", "not a solana-talos project"),
    ("push", "not a solana-talos project"),
    ("validate /build/out/solana-optimizer.oci", "give --kernel RELEASE"),
    ("cache prune --unneeded", "give --project DIR"),
];

/// Runs a script in an empty directory of the sandbox, which sees the program and the outputs of a build.
fn outside(settings: &Settings, script: &str, arguments: &[&str]) -> Result<String> {
    let empty = tempfile::tempdir()?;
    let run =
        Run::script(&format!("{{\n{script}\n}} 2>&1"), arguments).write(empty.path(), "/build/w").directory("/build/w");
    let run = run.read(settings.program()?, "/build/bin/solana-talos").read(&settings.out, "/build/out").with_network();
    let run = run.env("PATH", "/build/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    Ok(String::from_utf8(settings.sandbox.output(&run)?)?)
}

#[test]
fn verbs_on_images_and_keys_work_without_a_clone() -> Result<()> {
    let Some(settings) = Settings::with_program(OUT) else { return Ok(()) };
    let registry = Registry::start(&settings.sandbox)?;
    let record: Value = serde_json::from_slice(&fs::read(settings.out.join("build.json"))?)?;
    let release = record["release"].as_str().unwrap_or_default();
    let mut names = record["images"].as_object().into_iter().flat_map(|images| images.keys());
    let extension = names.find(|name| name.contains("/solana-optimizer:")).context("no extension was built")?;
    let printed = outside(&settings, VERBS, &[&registry.address, release, extension])?;
    for text in [
        concat!("solana-talos ", env!("CARGO_PKG_VERSION"), " ("),
        "/acme/solana-optimizer:custom-solana-v1.10.3@sha256:",
        "extension    solana-optimizer 0.1.0",
        "valid: solana-optimizer 0.1.0 with 1 module",
        "no signing requests",
        "image: ",
    ] {
        ensure!(printed.contains(text), "no {text:?} in {printed}");
    }
    Ok(())
}

#[test]
fn the_others_say_that_they_need_one() -> Result<()> {
    let Some(settings) = Settings::with_program(OUT) else { return Ok(()) };
    for (verb, text) in OTHERS {
        let script = format!("status=0; solana-talos {verb} || status=$?; echo \"exit code $status\"");
        let printed = outside(&settings, &script, &[])?;
        ensure!(printed.contains(text) && printed.contains("exit code 2"), "{verb}: {printed}");
    }
    Ok(())
}

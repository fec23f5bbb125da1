//! What goes into a release besides what is made from the command line's definition.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use attest::crates::Crate;
use attest::sbom::DebianPackage;
use build::{Context, Project, Settings};
use common::event::Silent;
use oci::FileMap;
use serde::Deserialize;
use xshell::{Shell, cmd};

use super::program::TARGET;

/// Names that licences of crates have, in upper case.
const LICENCES: [&str; 4] = ["LICEN", "COPYING", "COPYRIGHT", "NOTICE"];

/// The package with the certificate authorities.
const AUTHORITIES: &str = "ca-certificates";

/// What goes into a release.
#[derive(Debug)]
pub struct Contents {
    /// The program.
    pub program: PathBuf,
    /// The crates that it is made of.
    pub crates: Vec<Crate>,
    /// Their licences, below `share/doc`.
    pub licences: FileMap,
    /// PEM file of the certificate authorities for the image, of the pinned toolchain.
    pub authorities: PathBuf,
    /// Licence of that file.
    pub authorities_licence: PathBuf,
    /// The package that it is from.
    pub package: DebianPackage,
}

/// The part of `cargo metadata` that is read here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    manifest_path: PathBuf,
}

impl Contents {
    /// Gathers it for `program`, compiled from the source that `shell` is in.
    pub fn gather(shell: &Shell, program: &Path) -> Result<Self> {
        let manifest = "crates/cli/Cargo.toml";
        let metadata = cmd!(
            shell,
            "cargo metadata --format-version 1 --locked --filter-platform {TARGET} --manifest-path {manifest}"
        );
        let metadata = metadata.quiet().read()?;
        let crates = attest::crates::of_program(metadata.as_bytes(), &shell.read_file("Cargo.lock")?)?;
        let licences = licences(&serde_json::from_str(&metadata)?, &crates)?;
        let (rootfs, package) = authorities(shell)?;
        Ok(Self {
            program: program.to_owned(),
            crates,
            licences,
            authorities: rootfs.join("etc/ssl/certs/ca-certificates.crt"),
            authorities_licence: rootfs.join("usr/share/doc/ca-certificates/copyright"),
            package,
        })
    }
}

/// Returns the licence files of the linked crates: most licences require their text in every copy.
fn licences(metadata: &Metadata, crates: &[Crate]) -> Result<FileMap> {
    let mut files = FileMap::new();
    for package in &metadata.packages {
        let same = |part: &&Crate| part.name == package.name && part.version == package.version;
        let Some(part) = crates.iter().find(same).filter(|part| part.linked && part.sha256.is_some()) else { continue };
        let dir = package.manifest_path.parent().context("a manifest has no directory")?;
        for entry in std::fs::read_dir(dir)? {
            let (path, name) = entry.map(|entry| (entry.path(), entry.file_name().to_string_lossy().into_owned()))?;
            if path.is_file() && LICENCES.iter().any(|start| name.to_uppercase().starts_with(start)) {
                let to = format!("share/doc/solana-talos/crates/{}-{}/{name}", part.name, part.version);
                files.bytes(&to, std::fs::read(&path)?, 0o644)?;
            }
        }
    }
    Ok(files)
}

/// Returns the root filesystem of the toolchain, which is made if it is not cached, and the package of the certificate authorities in it.
fn authorities(shell: &Shell) -> Result<(PathBuf, DebianPackage)> {
    let context = Context::new(Settings {
        project: shell.current_dir(),
        cache: crate::cache()?,
        // CI's mirror of pinned files, as for `./x`.
        mirrors: Some(shell.current_dir().join("../shared/mirror")).into_iter().filter(|dir| dir.is_dir()).collect(),
        offline: false,
        jobs: 1,
        cargo_home: None,
        go_user: toolchain::go::User::read(|name| std::env::var_os(name)),
        sink: Box::new(Silent),
    });
    let project = Project::open(&context)?;
    let toolchain = project.toolchain()?;
    let mut found = build::stages::attest::debian_packages(&project, &toolchain, |entry| {
        entry.name == AUTHORITIES && matches!(entry.kind, lock::Kind::Package(_))
    });
    let package = found.pop().with_context(|| format!("{AUTHORITIES} is not locked"))?;
    Ok((toolchain.sandbox.rootfs().to_owned(), package))
}

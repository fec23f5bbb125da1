//! The layer `modules.dep`: output of `depmod` over the modules of the kernel and all extensions.
//!
//! A layer hides files of the layers below it, so the `modules.dep` of an extension would hide the kernel's.

use std::path::{Path, PathBuf};

use common::sandbox::{Run, Sandbox};
use common::{Class, Error, Result};
use contract::MODULES;
use fs_err as fs;

use crate::layers::Metadata;

/// Returns the `depmod` command line over `/build/stage` for the kernel `release`.
#[must_use]
pub fn arguments(release: &str) -> Vec<String> {
    ["depmod", "--all", "--warn", "--basedir", "/build/stage", release].map(str::to_owned).into()
}

/// Returns the metadata of the layer.
#[must_use]
pub fn metadata(release: &str) -> Metadata {
    Metadata {
        name: "modules.dep".to_owned(),
        version: release.to_owned(),
        author: "solana-talos".to_owned(),
        description: "Module dependencies of the kernel and all extensions".to_owned(),
        ..Metadata::default()
    }
}

/// Runs `depmod` over the modules of `trees` (kernel first, then extensions) and returns a tree that contains only
/// `usr/lib/modules/<release>/modules.*`, created in the empty directory `work`.
///
/// # Errors
/// [`Class::UntrustedData`] when a tree has modules of another release, or two trees have the same module.
pub fn tree(sandbox: &Sandbox, release: &str, trees: &[&Path], work: &Path) -> Result<PathBuf> {
    let stage = work.join("stage");
    let modules = stage.join("lib/modules").join(release);
    fs::create_dir_all(&modules)?;
    for (at, tree) in trees.iter().enumerate() {
        if let Some(source) = release_directory(tree, release)? {
            copy(&source, &modules, at == 0)?;
        }
    }
    sandbox.run(&Run::new(arguments(release)).write(&stage, "/build/stage"), &mut |_| {})?;
    let out = work.join("modules.dep");
    let target = out.join(MODULES).join(release);
    fs::create_dir_all(&target)?;
    for entry in fs::read_dir(&modules)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("modules.") {
            fs::copy(entry.path(), target.join(entry.file_name()))?;
        }
    }
    fs::remove_dir_all(&stage)?;
    Ok(out)
}

/// Returns `usr/lib/modules/<release>` of `tree`, if present. Rejects modules of another kernel, which cannot be loaded.
fn release_directory(tree: &Path, release: &str) -> Result<Option<PathBuf>> {
    let parent = tree.join(MODULES);
    if !parent.is_dir() {
        return Ok(None);
    }
    for entry in fs::read_dir(&parent)? {
        let entry = entry?;
        if entry.file_name() != release {
            return Err(Error::new(Class::UntrustedData, "modules are for another kernel")
                .file(entry.path())
                .why(format!("the kernel of the image is {release}"))
                .hint("build the extension for this kernel"));
        }
    }
    let directory = parent.join(release);
    Ok(directory.is_dir().then_some(directory))
}

/// Copies a module tree; module lists (`modules.builtin`, `modules.order`, …) only from the kernel.
fn copy(source: &Path, target: &Path, kernel: bool) -> Result<()> {
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        let kind = entry.file_type()?;
        let list = entry.file_name().to_string_lossy().starts_with("modules.");
        if kind.is_dir() {
            fs::create_dir_all(&to)?;
            copy(&from, &to, kernel)?;
        } else if kind.is_file() && (kernel || !list) {
            if to.exists() {
                return Err(Error::new(Class::UntrustedData, "two layers contain the same module").file(from));
            }
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(root: &Path, path: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }

    #[test]
    fn only_lists_of_the_kernel_are_copied() {
        let (kernel, extension, out) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        file(kernel.path(), "modules.order");
        file(kernel.path(), "kernel/net/a.ko");
        file(extension.path(), "modules.dep");
        file(extension.path(), "extras/b.ko");
        copy(kernel.path(), out.path(), true).unwrap();
        copy(extension.path(), out.path(), false).unwrap();
        assert!(out.path().join("modules.order").exists() && out.path().join("extras/b.ko").exists());
        assert!(!out.path().join("modules.dep").exists());
        file(extension.path(), "kernel/net/a.ko");
        assert!(copy(extension.path(), out.path(), false).is_err());
    }

    #[test]
    fn modules_of_another_release_are_rejected() {
        let tree = tempfile::tempdir().unwrap();
        assert_eq!(release_directory(tree.path(), "6.12.117-talos").unwrap(), None);
        file(tree.path(), "usr/lib/modules/6.12.28-talos/extras/a.ko");
        let error = release_directory(tree.path(), "6.12.117-talos").unwrap_err().to_string();
        assert!(error.contains("6.12.28-talos") && error.contains("6.12.117-talos"), "{error}");
        assert!(release_directory(tree.path(), "6.12.28-talos").unwrap().is_some());
    }
}

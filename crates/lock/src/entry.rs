//! The inputs as one list, for downloads, bundles and provenance.

use common::{Sha256, purl};

use crate::model::{BaseImage, List, Lock, Package};

/// Kind of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The kernel's source.
    Kernel,
    /// A package of the toolchain.
    Package(List),
    /// A crate.
    Crate,
    /// A file of a Go module.
    GoModule,
    /// The manifest of a base image.
    BaseImage,
    /// A config or layer of a base image.
    Blob,
    /// A file of a package: recorded, but stored in its package.
    File,
    /// A `Cargo.lock` of the project: recorded, but stored in the project.
    CargoLock,
}

/// One input of a build.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Name for messages.
    pub name: String,
    /// Package URL (purl-spec) or URI.
    pub uri: String,
    /// Its digest.
    pub sha256: Sha256,
    /// Size in bytes, if it is in the lock.
    pub size: Option<u64>,
    /// Its kind.
    pub kind: Kind,
}

impl Entry {
    /// Whether it is a file in the store.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        !matches!(self.kind, Kind::File | Kind::CargoLock)
    }
}

impl Lock {
    /// Returns the inputs in the lock, without crates, in a fixed order.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        let kernel = &self.kernel;
        let entry = |name: &str, uri: String, sha256, size, kind| Entry { name: name.into(), uri, sha256, size, kind };
        let source = entry(
            &kernel.package,
            purl::debian(&kernel.package, &kernel.version, &kernel.architecture),
            kernel.sha256,
            None,
            Kind::Kernel,
        );
        let cargo =
            self.cargo.iter().map(move |c| entry(&c.lock, format!("file:{}", c.lock), c.sha256, None, Kind::CargoLock));
        let files = self.file.iter().filter_map(move |f| {
            let package = self.package.iter().find(|p| p.name == f.package)?;
            Some(entry(&f.path, format!("{}#{}", package_url(package), f.path), f.sha256, None, Kind::File))
        });
        let packages = self
            .package
            .iter()
            .map(move |p| entry(&p.name, package_url(p), p.sha256, Some(p.size), Kind::Package(p.list)));
        std::iter::once(source).chain(cargo).chain(self.base.iter().flat_map(blobs)).chain(files).chain(packages)
    }
}

/// Returns the manifest of a base image, then its config and layers.
fn blobs(base: &BaseImage) -> impl Iterator<Item = Entry> {
    let manifest = Entry {
        name: base.reference.clone(),
        uri: format!("oci:{}@sha256:{}", base.reference, base.sha256),
        sha256: base.sha256,
        size: Some(base.size),
        kind: Kind::BaseImage,
    };
    let blobs = base.blob.iter().enumerate().map(|(number, blob)| Entry {
        name: format!("{} blob {number}", base.reference),
        uri: format!("oci:{}@sha256:{}#{}", base.reference, base.sha256, blob.sha256),
        sha256: blob.sha256,
        size: Some(blob.size),
        kind: Kind::Blob,
    });
    std::iter::once(manifest).chain(blobs)
}

fn package_url(package: &Package) -> String {
    purl::debian(&package.name, &package.version, &package.architecture)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::sample;

    #[test]
    fn entries_have_uri_and_digest() {
        let entries: Vec<_> = sample().entries().collect();
        let uris: Vec<_> = entries.iter().map(|e| e.uri.as_str()).collect();
        let clang = "pkg:deb/debian/clang@1:2.0~rc1%2Bb1-3?arch=amd64";
        let manifest = format!("oci:r.example/a:1@sha256:{}", Sha256::of("m"));
        assert_eq!(
            uris,
            [
                "pkg:deb/debian/linux-source@6-1?arch=all",
                "file:Cargo.lock",
                &manifest,
                &format!("{manifest}#{}", Sha256::of("b")),
                &format!("{clang}#usr/bin/x"),
                clang,
                "pkg:deb/debian/cosign@1:2.0~rc1%2Bb1-3?arch=amd64",
            ]
        );
        assert_eq!(entries[5].sha256, Sha256::of("clang"));
        let stored: Vec<_> = entries.iter().filter(|e| e.is_stored()).map(|e| e.kind).collect();
        assert_eq!(stored.len(), 5);
        assert!(!stored.contains(&Kind::File) && !stored.contains(&Kind::CargoLock));
    }
}

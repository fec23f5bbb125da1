//! SBOMs of the images: their contents and build tools.

use common::{Result, Sha256, purl};
use serde_json::Value;

use crate::crates::Crate;
use crate::go_modules::GoModule;
use crate::provenance::Material;
use crate::spdx::{Document, NO_ASSERTION, Package};
use crate::subject::Subject;

/// Supplier of Debian's packages.
const DEBIAN: &str = "Debian";
/// Supplier of crates.
const CRATES: &str = "crates.io";
/// Supplier of the kernel's source, unless Debian is.
const KERNEL: &str = "kernel.org";
/// Supplier of the sources of this project.
const PROJECT: &str = "solana-talos";
/// Hosts of Go modules that belong to the owner after the host's name.
const FORGES: [&str; 4] = ["bitbucket.org", "codeberg.org", "github.com", "gitlab.com"];

/// Media type of an SPDX document in JSON.
pub const MEDIA_TYPE: &str = "application/spdx+json";

/// The image that an SBOM describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The kernel with its modules.
    Kernel,
    /// The system extension with our module.
    Extension,
    /// The installer, which holds both and a base.
    Installer,
    /// The kernel headers and configuration for building modules.
    Devel,
}

/// Contents of the images.
#[derive(Clone, Debug)]
pub struct Ingredients {
    /// Version of this program.
    pub tool: String,
    /// The kernel.
    pub kernel: Kernel,
    /// Our module.
    pub module: Module,
    /// Debian packages of the toolchain, without the reference tools.
    pub toolchain: Vec<DebianPackage>,
    /// What the installer is built on.
    pub base: Userland,
}

/// A Debian binary package.
#[derive(Clone, Debug)]
pub struct DebianPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its package URL.
    pub purl: String,
    /// SHA-256 of the package file.
    pub sha256: Sha256,
}

/// The kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Version of the source.
    pub version: String,
    /// Kernel release, as printed by `uname -r`.
    pub release: String,
    /// The pinned source.
    pub source: Material,
    /// Digest of the overlay files.
    pub overlay: Sha256,
    /// Patches in the order of application: file name and digest.
    pub patches: Vec<(String, Sha256)>,
}

/// Our module.
#[derive(Clone, Debug)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Version of the project.
    pub version: String,
    /// Digest of its sources, including the policy.
    pub sources: Sha256,
}

/// What the installer is built on.
#[derive(Clone, Debug)]
pub enum Userland {
    /// Our testbed.
    Testbed {
        /// Its version.
        version: String,
        /// Crates of its programs.
        crates: Vec<Crate>,
    },
    /// Third-party images, known by digest, with SBOMs of their own.
    Images {
        /// The Talos version that they declare.
        version: String,
        /// Digest of the layout they were taken from.
        digest: Sha256,
        /// Registry and organisation of their names, if they have any.
        publisher: Option<String>,
    },
    /// A base of this project, with Talos's programs.
    Source(SourceBase),
}

/// What the image of a static program contains.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Digest of its file.
    pub sha256: Sha256,
    /// The crates it is made of.
    pub crates: Vec<Crate>,
    /// Debian packages whose files are beside it.
    pub packages: Vec<DebianPackage>,
}

/// What an image of a base with Talos's programs contains.
#[derive(Clone, Debug)]
pub struct SourceBase {
    /// The Talos version.
    pub version: String,
    /// Debian packages that it has files of.
    pub packages: Vec<DebianPackage>,
    /// Modules that its Go programs are built from.
    pub modules: Vec<GoModule>,
}

/// Returns the SPDX document of `image`.
pub fn document(image: &Subject, kind: Kind, ingredients: &Ingredients) -> Result<Value> {
    let publisher = image.publisher().unwrap_or(NO_ASSERTION);
    let mut sbom = Builder { document: Document::default(), ingredients, publisher };
    let main = sbom.add(image_package(image));
    match kind {
        Kind::Kernel => sbom.contains(&main, Builder::kernel),
        Kind::Extension => sbom.contains(&main, Builder::module),
        Kind::Installer => {
            sbom.contains(&main, Builder::kernel);
            sbom.contains(&main, Builder::module);
            sbom.contains(&main, Builder::base);
        }
        Kind::Devel => {
            let kernel = sbom.kernel();
            sbom.document.relate(&main, "DEV_TOOL_OF", &kernel);
        }
    }
    sbom.toolchain(&main);
    sbom.document.finish(image, &main, &ingredients.tool)
}

/// Returns the SPDX document of `image`, an image of a base with Talos's programs; `tool` is the version of this program.
pub fn base_document(image: &Subject, base: &SourceBase, tool: &str) -> Result<Value> {
    let mut document = Document::default();
    let main = add(&mut document, image_package(image));
    base.add_to(&mut document, &main);
    document.finish(image, &main, tool)
}

/// Returns the SPDX document of `image`, which contains `program`; `tool` is the version of this program.
pub fn program_document(image: &Subject, program: &Program, tool: &str) -> Result<Value> {
    let Program { name, version, sha256, crates, packages } = program;
    let mut document = Document::default();
    let main = add(&mut document, image_package(image));
    let package = Package::new("program", name, version, "APPLICATION", image.publisher().unwrap_or(NO_ASSERTION));
    let package = package.purl(purl::generic(name, version)).sha256(*sha256).licence("Apache-2.0 OR MIT");
    let package = add(&mut document, package.comment("A static program: this project and the crates it is made of."));
    document.relate(&main, "CONTAINS", &package);
    for part in crates {
        add_crate(&mut document, &package, part);
    }
    for part in packages {
        let part = add(&mut document, part.package());
        document.relate(&main, "CONTAINS", &part);
    }
    document.finish(image, &main, tool)
}

/// Adds a crate of the program `of`.
fn add_crate(document: &mut Document, of: &str, part: &Crate) {
    // Crates of this project have no archive.
    let supplier = if part.sha256.is_some() { CRATES } else { PROJECT };
    let id = format!("crate-{}-{}", part.name, part.version);
    let package = Package::new(&id, &part.name, &part.version, "LIBRARY", supplier)
        .licence(part.licence.as_deref().unwrap_or(NO_ASSERTION))
        .purl(purl::cargo(&part.name, &part.version));
    let package = match part.sha256 {
        Some(digest) => package.sha256(digest),
        None => package,
    };
    let id = add(document, package);
    if part.linked {
        document.relate(of, "STATIC_LINK", &id);
    } else {
        document.relate(&id, "BUILD_DEPENDENCY_OF", of);
    }
}

impl SourceBase {
    fn add_to(&self, document: &mut Document, main: &str) {
        for package in &self.packages {
            let package = add(document, package.package());
            document.relate(main, "CONTAINS", &package);
        }
        for GoModule { name, version, sha256 } in &self.modules {
            let package = Package::new(&format!("go-{name}-{version}"), name, version, "LIBRARY", owner(name));
            let package = package.purl(purl::golang(name, version)).sha256(*sha256);
            let module = add(document, package.comment("The checksum is that of the module's zip."));
            document.relate(main, "STATIC_LINK", &module);
        }
    }
}

impl DebianPackage {
    fn package(&self) -> Package {
        let Self { name, version, purl, sha256 } = self;
        let package = Package::new(&format!("deb-{name}"), name, version, "APPLICATION", DEBIAN);
        package.purl(purl.clone()).sha256(*sha256)
    }
}

fn image_package(image: &Subject) -> Package {
    let label = image.label();
    let (name, tag) = label.rsplit_once(':').unwrap_or((&label, NO_ASSERTION));
    Package::new("image", name, tag, "CONTAINER", image.publisher().unwrap_or(NO_ASSERTION))
        .sha256(image.digest())
        .purl(purl::oci(&label, image.digest()))
        .comment("The checksum is that of the image's manifest.")
}

/// Returns whoever publishes under the path of a Go module: its domain, on a forge with the owner.
fn owner(module: &str) -> &str {
    let mut ends = module.match_indices('/').map(|(at, _)| at);
    let (host, owner) = (ends.next(), ends.next());
    let forge = host.is_some_and(|end| FORGES.contains(&&module[..end]));
    let end = if forge { owner } else { host };
    end.map_or(module, |end| &module[..end])
}

fn add(document: &mut Document, package: Package) -> String {
    let id = package.id().to_owned();
    document.add(package);
    id
}

struct Builder<'a> {
    document: Document,
    ingredients: &'a Ingredients,
    /// Who publishes the image, and so what was compiled for it.
    publisher: &'a str,
}

impl Builder<'_> {
    fn contains(&mut self, main: &str, part: impl FnOnce(&mut Self) -> String) {
        let part = part(self);
        self.document.relate(main, "CONTAINS", &part);
    }

    fn add(&mut self, package: Package) -> String {
        add(&mut self.document, package)
    }

    /// The compiled kernel, generated from the source with the patches applied.
    fn kernel(&mut self) -> String {
        let Kernel { version, release, source, overlay, patches } = &self.ingredients.kernel;
        let kernel = Package::new("linux", "linux", release, "OPERATING-SYSTEM", self.publisher)
            .licence("GPL-2.0-only WITH Linux-syscall-note")
            .purl(purl::generic("linux", release))
            .comment("The kernel image and its modules.");
        let supplier = if source.uri.starts_with("pkg:deb/debian/") { DEBIAN } else { KERNEL };
        let source_package = Package::new("linux-source", &source.name, version, "SOURCE", supplier)
            .licence("GPL-2.0-only WITH Linux-syscall-note")
            .download(if source.uri.starts_with("https:") { &source.uri } else { NO_ASSERTION })
            .sha256(source.sha256);
        let source_package =
            if source.uri.starts_with("pkg:") { source_package.purl(source.uri.clone()) } else { source_package };
        let overlay_package = Package::new("linux-overlay", "module/kernel", version, "SOURCE", PROJECT)
            .licence("GPL-2.0-only")
            .sha256(*overlay)
            .comment("Rust abstractions laid over the kernel's source. The checksum is that of a sorted list of its files' digests.");
        let (kernel, source, overlay) = (self.add(kernel), self.add(source_package), self.add(overlay_package));
        self.document.relate(&kernel, "GENERATED_FROM", &source);
        self.document.relate(&kernel, "GENERATED_FROM", &overlay);
        for (number, (name, digest)) in patches.iter().enumerate() {
            let patch = Package::new(&format!("patch-{:04}", number + 1), name, version, "SOURCE", PROJECT);
            let patch = self.add(patch.licence("GPL-2.0-only").sha256(*digest));
            self.document.relate(&patch, "PATCH_APPLIED", &source);
        }
        kernel
    }

    fn module(&mut self) -> String {
        let Module { name, version, sources } = &self.ingredients.module;
        let module = Package::new("module", name, version, "APPLICATION", self.publisher)
            .licence("GPL-2.0-only")
            .purl(purl::generic(name, version))
            .comment("The kernel module, signed.");
        let source = Package::new("module-source", "module", version, "SOURCE", PROJECT)
            .licence("GPL-2.0-only")
            .sha256(*sources)
            .comment("The checksum is that of a sorted list of its files' digests.");
        let policy = Package::new("module-policy", "solana-optimizer-policy", version, "LIBRARY", PROJECT)
            .licence("GPL-2.0-only OR Apache-2.0 OR MIT")
            .purl(purl::generic("solana-optimizer-policy", version))
            .comment("The module's decisions: a crate of this project, compiled into the module.");
        let (module, source, policy) = (self.add(module), self.add(source), self.add(policy));
        self.document.relate(&module, "GENERATED_FROM", &source);
        self.document.relate(&module, "STATIC_LINK", &policy);
        self.document.relate(&source, "CONTAINS", &policy);
        module
    }

    fn base(&mut self) -> String {
        match &self.ingredients.base {
            Userland::Images { version, digest, publisher } => {
                let publisher = publisher.as_deref().unwrap_or(NO_ASSERTION);
                let package = Package::new("base", "base images", version, "OPERATING-SYSTEM", publisher)
                    .sha256(*digest)
                    .comment("Talos's imager and installer-base images. Their contents are listed in their own SBOMs.");
                self.add(package)
            }
            Userland::Source(source) => {
                let package = Package::new("base", "talos", &source.version, "OPERATING-SYSTEM", self.publisher)
                    .purl(purl::generic("talos", &source.version))
                    .comment("Talos's programs, built from its Go modules by this project, and programs of Debian.");
                let base = self.add(package);
                source.add_to(&mut self.document, &base);
                base
            }
            Userland::Testbed { version, crates } => {
                let package = Package::new("base", "solana-talos-guest", version, "OPERATING-SYSTEM", PROJECT)
                    .licence("Apache-2.0 OR MIT")
                    .purl(purl::generic("solana-talos-guest", version))
                    .comment("The testbed: a small userland of this project that stands in for Talos in tests.");
                let base = self.add(package);
                // The boot loader and the stub of the unified kernel image are copied from this package.
                if let Some(package) = self.ingredients.toolchain.iter().find(|p| p.name == "systemd-boot-efi") {
                    let package = self.debian(package);
                    self.document.relate(&base, "CONTAINS", &package);
                }
                for part in crates {
                    add_crate(&mut self.document, &base, part);
                }
                base
            }
        }
    }

    fn toolchain(&mut self, main: &str) {
        for package in &self.ingredients.toolchain {
            let id = self.debian(package);
            self.document.relate(&id, "BUILD_TOOL_OF", main);
        }
    }

    fn debian(&mut self, package: &DebianPackage) -> String {
        self.add(package.package())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_go_module_is_in_its_path() {
        for (module, expected) in [
            ("github.com/siderolabs/talos", "github.com/siderolabs"),
            ("github.com/BurntSushi/toml/v2", "github.com/BurntSushi"),
            ("golang.org/x/sys", "golang.org"),
            ("k8s.io/api", "k8s.io"),
            ("x.org", "x.org"),
            ("github.com/alone", "github.com/alone"),
        ] {
            assert_eq!(owner(module), expected);
        }
    }
}

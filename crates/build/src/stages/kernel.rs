//! The kernel and our module, with toolchain, source and configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use attest::Material;
use common::stage::{Finished, Input, Stage};
use common::{Class, Error, Result, Sha256};
use kernel_config::configure::{BaseConfig, Resolved};
use kernel_config::dotconfig::{DotConfig, Value};
use kernel_config::environment::Environment;
use kernel_config::fragment::Fragment;
use kernel_config::pin::Pin;
use kernel_config::profile::{Base, Profile};
use kernel_config::source::{Packing, Source};
use kernel_config::{compile, configure, external, sign, snapshot, source, upstream};
use keys::{OrPending, Pending, Role};
use serde::Deserialize;
use toolchain::{Origin, Toolchain, Versions, Wanted};

use crate::context::Context;
use crate::project::{self, Project};
use crate::signing::Signing;

/// Name of our module.
pub const MODULE: &str = "solana_optimizer";

/// Toolchain packages whose version is recorded in `build.json`.
const TOOLS: [&str; 12] = [
    "bindgen",
    "binutils",
    "clang-19",
    "dwarves",
    "kmod",
    "libc6",
    "lld-19",
    "make",
    "openssl",
    "rustc",
    "squashfs-tools",
    "systemd-boot-efi",
];

/// Origin of the kernel source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceChoice {
    /// Debian's linux-source package, including Debian's patches.
    #[default]
    Debian,
    /// The kernel.org tarball.
    Upstream,
}

/// The pinned archive with the kernel source.
#[derive(Clone, Debug)]
struct Archive {
    digest: Sha256,
    origin: Origin,
    packing: Packing,
}

impl Archive {
    fn choose(pin: &Pin, choice: SourceChoice, given: Option<Sha256>) -> Result<Self> {
        Ok(match choice {
            SourceChoice::Debian => {
                let debian = &pin.kernel.debian;
                let (origin, packing) =
                    (Origin::DebianPool(debian.pool_path()), Packing::Deb { tarball: debian.member.clone() });
                Self { digest: debian.sha256, origin, packing }
            }
            SourceChoice::Upstream => {
                let upstream = &pin.kernel.upstream;
                let origin = Origin::Url(upstream.url.clone());
                Self { digest: upstream.sha256(given)?, origin, packing: Packing::Tar }
            }
        })
    }
}

/// The kernel to build, parsed and checked before any stage runs.
#[derive(Debug)]
pub struct KernelPlan<'a> {
    /// Its inputs.
    pub project: Project<'a>,
    /// Name of the profile.
    pub name: String,
    /// Its profile.
    pub profile: Profile,
    base: Base,
    fragments: Vec<Fragment>,
    archive: Archive,
}

impl<'a> KernelPlan<'a> {
    /// Reads the kernel profile `name`; `given` is the digest of the kernel.org tarball, if the pin has none.
    pub fn read(context: &'a Context, name: &str, choice: SourceChoice, given: Option<Sha256>) -> Result<Self> {
        let pin = project::pin(context)?;
        let dir = context.path("kernel-config");
        let profile = Profile::load(&dir, name)?;
        let (base, fragments) = (profile.load_base(&dir)?, profile.load_fragments(&dir)?);
        let archive = Archive::choose(&pin, choice, given)?;
        if context.look().is_none() {
            context.store.find(&archive.digest)?; // Reports a bad file in a mirror before the toolchain is created.
        }
        Ok(Self { project: Project::with(context, pin)?, name: name.to_owned(), profile, base, fragments, archive })
    }

    /// Whether the profile starts from an upstream configuration, which is expanded first.
    #[must_use]
    pub fn expands_base(&self) -> bool {
        matches!(self.base, Base::Upstream(_))
    }

    /// Whether the kernel has Rust, as far as the fragments say.
    fn has_rust(&self) -> bool {
        let mut options = self.fragments.iter().flat_map(Fragment::options);
        options.any(|option| option.symbol == "RUST" && option.value == Value::Yes)
    }

    /// Gets the toolchain and the kernel source.
    pub fn prepare(self) -> Result<Prepared<'a>> {
        let toolchain = self.project.toolchain()?;
        let source = self.fetch()?;
        Ok(Prepared { plan: self, toolchain, source })
    }

    /// Fetches the archive. A look needs only its digest.
    fn fetch(&self) -> Result<PathBuf> {
        let (context, Archive { digest, origin, .. }) = (self.project.context, &self.archive);
        if context.look().is_some() {
            return Ok(context.store.path(digest));
        }
        context.fetcher().one(&Wanted { name: "kernel source".to_owned(), sha256: *digest, origin: origin.clone() })
    }

    /// Returns the kernel source for the provenance.
    #[must_use]
    pub fn source_material(&self) -> Material {
        let kernel = &self.project.pin.kernel;
        let (name, uri) = match self.archive.packing {
            Packing::Deb { .. } => {
                let debian = &kernel.debian;
                (debian.file_name(), common::purl::debian(&debian.package, &debian.version, &debian.arch))
            }
            Packing::Tar => (kernel.upstream.url.clone(), kernel.upstream.url.clone()),
        };
        Material { name, uri, sha256: self.archive.digest }
    }

    /// Returns the versions of the toolchain packages that compile, link, compress and sign.
    #[must_use]
    pub fn tools(&self) -> BTreeMap<String, String> {
        let versions = Versions::of(&self.project.locked.lock, |_| true);
        let version = |name: &&str| Some(((*name).to_owned(), versions.get(name)?.to_owned()));
        TOOLS.iter().filter_map(version).collect()
    }
}

/// A plan with its toolchain and source.
#[derive(Debug)]
pub struct Prepared<'a> {
    /// The plan.
    pub plan: KernelPlan<'a>,
    /// The toolchain.
    pub toolchain: Toolchain,
    /// The archive with the kernel source.
    source: PathBuf,
}

/// A compiled kernel, and what it is made of.
struct Compiled {
    source: Source,
    config: Resolved,
    certificate: PathBuf,
    kernel: compile::Kernel,
}

/// A compiled kernel with our module.
#[derive(Debug)]
pub struct Built {
    /// The patched source.
    pub source: Source,
    /// The resolved configuration.
    pub config: Resolved,
    /// The compiled kernel.
    pub kernel: compile::Kernel,
    /// PEM file of the certificate that verifies its modules.
    pub certificate: PathBuf,
    /// Stage with the kernel's modules, signed: `signed/usr/lib/modules/<release>`.
    pub modules: Finished,
    /// Stage with the root filesystem of our extension: `signed/usr/lib/modules/<release>/extras/solana_optimizer.ko`.
    pub module: Finished,
}

/// The compiled kernel as a stage input: its files, its source, and the certificate that it trusts.
pub(crate) struct KernelInput {
    /// The patched tree.
    pub source: PathBuf,
    /// The compiled kernel.
    pub kernel: compile::Kernel,
    /// PEM file of the certificate.
    pub certificate: PathBuf,
}

impl Built {
    /// Returns the kernel as an input, by its key, which covers source and certificate.
    pub(crate) fn kernel_input(&self) -> Input<KernelInput> {
        let (source, certificate) = (self.source.tree.clone(), self.certificate.clone());
        let input = KernelInput { source, kernel: self.kernel.clone(), certificate };
        Input::known_by([("kernel", self.kernel.stage.key.to_string())], input)
    }
}

impl<'a> Prepared<'a> {
    /// Returns the context.
    #[must_use]
    pub fn context(&self) -> &'a Context {
        self.plan.project.context
    }

    /// Returns the build environment of its stages.
    #[must_use]
    pub fn environment(&self) -> Environment<'_> {
        Environment {
            sandbox: &self.toolchain.sandbox,
            toolchain: self.toolchain.identity,
            cache: self.context().stages(),
            epoch: self.plan.project.pin.epoch,
            clippy: false,
            jobs: self.context().jobs,
        }
    }

    /// Returns the digest of each input by name, for `build.json`; `base` is the identity of the base.
    #[must_use]
    pub fn inputs(&self, base: &str) -> BTreeMap<String, String> {
        let locked = &self.plan.project.locked;
        BTreeMap::from([
            (self.plan.source_material().name, self.plan.archive.digest.to_string()),
            ("toolchain packages".to_owned(), self.toolchain.versions.digest().to_string()),
            (lock::FILE.to_owned(), Sha256::of(locked.lock.to_string()).to_string()),
            ("base".to_owned(), base.to_owned()),
        ])
    }

    /// Unpacks and patches the source.
    pub fn source(&self) -> Result<Source> {
        let overlay = self.context().path("module/kernel");
        let patches = self.context().path("kernel-config/patches");
        let Archive { digest, packing, .. } = &self.plan.archive;
        source::prepare(&self.environment(), &self.source, digest, packing, &overlay, &patches)
    }

    /// Returns the configuration that the fragments are merged into.
    pub fn base_config(&self, source: &Source) -> Result<BaseConfig> {
        match &self.plan.base {
            Base::Target(target) => Ok(BaseConfig::Target(target.clone())),
            Base::Upstream(minimal) => {
                let options = DotConfig::of(minimal.options().cloned());
                Ok(BaseConfig::File(upstream::expand(&self.environment(), source, &options)?.complete()))
            }
        }
    }

    /// Resolves the configuration; fails when Kconfig drops an option.
    pub fn configure(&self, source: &Source) -> Result<Resolved> {
        configure::resolve(&self.environment(), source, &self.base_config(source)?, &self.plan.fragments)
    }

    /// Compares a resolved configuration with the committed snapshot.
    pub fn snapshot_changes(&self, resolved: &Resolved) -> Result<Vec<String>> {
        let Ok(text) = std::fs::read_to_string(self.snapshot_path()) else {
            return Ok(vec!["the snapshot is missing".to_owned()]);
        };
        Ok(snapshot::changes(&text, &resolved.config)?.iter().map(ToString::to_string).collect())
    }

    /// Returns the path of the profile's snapshot.
    #[must_use]
    pub fn snapshot_path(&self) -> PathBuf {
        self.context().path(&format!("kernel-config/snapshots/{}.config", self.plan.name))
    }

    /// Builds the kernel and our module, and signs all modules.
    ///
    /// # Errors
    /// [`Class::BadInput`] if the profile has no Rust, in which the module is written.
    pub fn build(&self, signing: &Signing) -> Result<OrPending<Built>> {
        if !self.plan.has_rust() {
            return Err(Error::new(Class::BadInput, format!("the profile {} cannot have our module", self.plan.name))
                .why("the module needs CONFIG_RUST=y, and no fragment of the profile requests it")
                .hint(
                    "choose another profile, or compile the kernel only: `solana-talos kernel build --without-module`",
                ));
        }
        let Compiled { source, config, certificate, kernel } = self.compile(signing)?;
        let env = self.kernel_environment();
        // Both are tried, so that all signatures are requested in one pass, and a look finds both.
        let modules = self.sign_kernel(signing, &kernel);
        let module = external::build(&env, &source, &kernel, &self.context().path("module"), MODULE);
        let module = module.and_then(|module| {
            let tree = Input::stage("modules", &module).map(|dir| dir.join("root"));
            self.sign(signing, sign::EXTENSION_STAGE, &kernel, tree)
        });
        let (Ok(modules), Ok(module)) = (modules?, module?) else { return Ok(Err(Pending)) };
        Ok(Ok(Built { source, certificate, config, kernel, modules, module }))
    }

    /// Builds the kernel without our module, and signs its modules.
    pub fn build_kernel(&self, signing: &Signing) -> Result<OrPending<(compile::Kernel, Finished)>> {
        let kernel = self.compile(signing)?.kernel;
        Ok(self.sign_kernel(signing, &kernel)?.map(|modules| (kernel, modules)))
    }

    /// The environment in which kernel and module are compiled.
    fn kernel_environment(&self) -> Environment<'_> {
        Environment { clippy: self.plan.profile.clippy, ..self.environment() }
    }

    fn compile(&self, signing: &Signing) -> Result<Compiled> {
        let source = self.source()?;
        let config = self.configure(&source)?;
        let certificate = signing.set.certificate_file(Role::Module)?;
        let kernel = compile::compile(&self.kernel_environment(), &source, &config.path(), &certificate)?;
        self.check_release(&kernel)?;
        Ok(Compiled { source, config, certificate, kernel })
    }

    fn sign_kernel(&self, signing: &Signing, kernel: &compile::Kernel) -> Result<OrPending<Finished>> {
        let tree = Input::stage("modules", &kernel.stage).map(|dir| dir.join("modules"));
        self.sign(signing, sign::KERNEL_STAGE, kernel, tree)
    }

    fn sign(
        &self,
        signing: &Signing,
        stage: Stage,
        kernel: &compile::Kernel,
        modules: Input<PathBuf>,
    ) -> Result<OrPending<Finished>> {
        let signer = signing.set.signer(Role::Module)?;
        sign::sign_tree(&self.kernel_environment(), stage, &kernel.release, modules, signer.as_ref())
    }

    fn check_release(&self, kernel: &compile::Kernel) -> Result<()> {
        let pinned = &self.plan.project.pin.kernel.release;
        if kernel.release == *pinned {
            return Ok(());
        }
        Err(Error::new(Class::Verification, "release of the compiled kernel does not match the pin")
            .why(format!("got      {}\nexpected {pinned}", kernel.release))
            .hint("change the release in kernel-config/pin.toml together with the source"))
    }
}

//! Toolchain, source, configuration, kernel, module.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use attest::Material;
use common::stage::{Finished, Input, Stage};
use common::{Class, Error, Result, Sha256};
use kernel_config::configure::{BaseConfig, Resolved};
use kernel_config::environment::Environment;
use kernel_config::fragment::Fragment;
use kernel_config::pin::Pin;
use kernel_config::profile::{self, Profile};
use kernel_config::source::{Packing, Source};
use kernel_config::{compile, configure, external, sign, snapshot, source};
use keys::Role;
use lock::Inputs;
use toolchain::{Origin, Toolchain, Wanted};

use crate::context::Context;
use crate::pipeline::locked;
use crate::pipeline::signing::Signing;

/// Name of our module.
pub const MODULE: &str = "solana_optimizer";

/// Where the kernel's source comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SourceChoice {
    /// Debian's linux-source package, with Debian's patches
    #[default]
    Debian,
    /// The tarball of kernel.org
    Upstream,
}

/// What is known before anything of the kernel is built.
pub struct Prepared<'a> {
    context: &'a Context,
    /// The toolchain.
    pub toolchain: Toolchain,
    /// The pin file.
    pub pin: Pin,
    /// Every input by digest.
    pub locked: Inputs,
    archive: PathBuf,
    digest: Sha256,
    packing: Packing,
}

/// A profile, compiled, with our module.
pub struct Built {
    /// The patched tree.
    pub source: Source,
    /// The resolved configuration.
    pub config: Resolved,
    /// The compiled kernel.
    pub kernel: compile::Kernel,
    /// PEM file of the certificate that its modules verify with.
    pub certificate: PathBuf,
    /// Stage with the kernel's own modules, signed: `signed/usr/lib/modules/<release>`.
    pub modules: Finished,
    /// Stage with the root filesystem of our extension: `signed/usr/lib/modules/<release>/extras/solana_optimizer.ko`.
    pub module: Finished,
}

/// The compiled kernel as an input: its files, its source, and the certificate that it trusts.
pub struct KernelInput {
    /// The patched tree.
    pub source: PathBuf,
    /// The compiled kernel.
    pub kernel: compile::Kernel,
    /// PEM file of the certificate.
    pub certificate: PathBuf,
}

impl Built {
    /// The key of the kernel is of its source and its certificate, too.
    pub fn kernel_input(&self) -> Input<KernelInput> {
        let (source, certificate) = (self.source.tree.clone(), self.certificate.clone());
        let input = KernelInput { source, kernel: self.kernel.clone(), certificate };
        Input::known_by([("kernel", self.kernel.stage.key.to_string())], input)
    }
}

/// The pin file.
///
/// # Errors
/// [`Class::BadInput`] when it is malformed.
pub fn pin(context: &Context) -> Result<Pin> {
    Pin::parse("kernel-config/pin.toml", &read(&context.path("kernel-config/pin.toml"))?)
}

/// The profile `name` and its fragments, read but not yet resolved: what is wrong with them shows before anything is built.
///
/// # Errors
/// [`Class::BadInput`] when one is unknown or malformed.
pub fn profile(context: &Context, name: &str) -> Result<(Profile, Vec<Fragment>)> {
    let dir = context.path("kernel-config");
    let profile = Profile::load(&dir, name)?;
    if let profile::ConfigSource::Upstream(config) = &profile.base {
        pin(context)?.config(config)?;
    }
    let fragments = profile.load_fragments(&dir)?;
    Ok((profile, fragments))
}

/// Brings the toolchain and the pinned files.
///
/// # Errors
/// When one of them cannot be had.
pub fn prepare(context: &Context, choice: SourceChoice, given: Option<Sha256>) -> Result<Prepared<'_>> {
    let pin = pin(context)?;
    let (digest, origin, packing) = match choice {
        SourceChoice::Debian => {
            let debian = &pin.kernel.debian;
            (debian.sha256, Origin::DebianPool(debian.pool_path()), Packing::Deb { tarball: debian.member.clone() })
        }
        SourceChoice::Upstream => {
            let upstream = &pin.kernel.upstream;
            (upstream.sha256(given)?, Origin::Url(upstream.url.clone()), Packing::Tar)
        }
    };
    context.store.find(&digest)?; // A mirror with other bytes is told before the toolchain is made.
    let locked = locked::open(context, &pin)?;
    let toolchain = toolchain::bootstrap(&locked.lock, &context.fetcher(), &context.stages())?;
    let archive = fetch(context, "the kernel's source", &digest, origin)?;
    Ok(Prepared { context, toolchain, pin, locked, archive, digest, packing })
}

fn fetch(context: &Context, name: &str, digest: &Sha256, origin: Origin) -> Result<PathBuf> {
    context.fetcher().one(&Wanted { name: name.to_owned(), sha256: *digest, origin })
}

impl Prepared<'_> {
    /// Where its stages run.
    pub fn environment(&self) -> Environment<'_> {
        Environment {
            sandbox: &self.toolchain.sandbox,
            toolchain: self.toolchain.identity,
            cache: self.context.stages(),
            epoch: self.pin.epoch,
            clippy: false,
            jobs: self.context.jobs,
        }
    }

    /// The kernel's source as an input.
    pub fn source_material(&self) -> Material {
        let (name, uri) = match self.packing {
            Packing::Deb { .. } => {
                let debian = &self.pin.kernel.debian;
                (debian.file_name(), common::purl::debian(&debian.package, &debian.version, &debian.arch))
            }
            Packing::Tar => (self.pin.kernel.upstream.url.clone(), self.pin.kernel.upstream.url.clone()),
        };
        Material { name, uri, sha256: self.digest }
    }

    /// Digest of each input by name, for the record of the build; `base` is the identity of the base.
    ///
    /// # Errors
    /// When the profile cannot be read.
    pub fn inputs(&self, base: &str, name: &str) -> Result<BTreeMap<String, String>> {
        let mut inputs = BTreeMap::from([
            (self.source_material().name, self.digest.to_string()),
            ("toolchain packages".to_owned(), self.toolchain.versions.digest().to_string()),
            (lock::FILE.to_owned(), Sha256::of(self.locked.lock.to_string()).to_string()),
            ("base".to_owned(), base.to_owned()),
        ]);
        if let profile::ConfigSource::Upstream(config) = &profile(self.context, name)?.0.base {
            inputs.insert(format!("kernel configuration {config}"), self.pin.config(config)?.sha256.to_string());
        }
        Ok(inputs)
    }

    /// The patched tree.
    ///
    /// # Errors
    /// When it cannot be unpacked or a patch does not apply.
    pub fn source(&self) -> Result<Source> {
        let overlay = self.context.path("module/kernel");
        let patches = self.context.path("kernel-config/patches");
        source::prepare(&self.environment(), &self.archive, &self.digest, &self.packing, &overlay, &patches)
    }

    /// What the fragments of the profile `name` are laid over, fetched if it is somebody else's.
    ///
    /// # Errors
    /// When the profile is unknown or the file cannot be had.
    pub fn base_config(&self, name: &str) -> Result<BaseConfig> {
        match profile(self.context, name)?.0.base {
            profile::ConfigSource::Target(target) => Ok(BaseConfig::Target(target)),
            profile::ConfigSource::Upstream(name) => {
                let config = self.pin.config(&name)?;
                let origin = Origin::Url(config.url.clone());
                Ok(BaseConfig::File(fetch(self.context, &name, &config.sha256, origin)?))
            }
        }
    }

    /// The configuration of `profile`, every option checked.
    ///
    /// # Errors
    /// When the profile is unknown or Kconfig drops an option.
    pub fn configure(&self, source: &Source, name: &str) -> Result<Resolved> {
        let (_, fragments) = profile(self.context, name)?;
        let base = self.base_config(name)?;
        configure::resolve(&self.environment(), source, &base, &fragments)
    }

    /// Tells the user how a resolved configuration differs from the committed snapshot.
    ///
    /// # Errors
    /// When the snapshot is malformed.
    pub fn snapshot_changes(&self, profile: &str, resolved: &Resolved) -> Result<Vec<String>> {
        let Ok(text) = std::fs::read_to_string(self.snapshot_path(profile)) else {
            return Ok(vec!["there is no snapshot".to_owned()]);
        };
        Ok(snapshot::changes(&text, &resolved.config)?.iter().map(ToString::to_string).collect())
    }

    /// Where the snapshot of a profile stands.
    pub fn snapshot_path(&self, profile: &str) -> PathBuf {
        self.context.path(&format!("kernel-config/snapshots/{profile}.config"))
    }

    /// The kernel of the profile `name` and our module, both signed.
    ///
    /// # Errors
    /// When a stage fails, or the signatures have to come from elsewhere; then all of them have been asked for.
    pub fn build(&self, name: &str, signing: &Signing) -> Result<Built> {
        let source = self.source()?;
        let resolved = self.configure(&source, name)?;
        let env = Environment { clippy: profile(self.context, name)?.0.clippy, ..self.environment() };
        let certificate = signing.set.certificate_file(Role::Module)?;
        let kernel = compile::compile(&env, &source, &resolved.path(), &certificate)?;
        self.check_release(&kernel)?;
        let signer = signing.set.signer(Role::Module)?;
        let sign = |stage: Stage, unsigned: &Finished, tree: fn(PathBuf) -> PathBuf| {
            let modules = Input::stage("modules", unsigned).map(tree);
            sign::sign_tree(&env, stage, &kernel.release, modules, signer.as_ref())
        };
        let modules = awaited(sign(sign::KERNEL_STAGE, &kernel.stage, |dir| dir.join("modules")))?;
        let module = external::build(&env, &source, &kernel, &self.context.path("module"), MODULE)?;
        let module = sign(sign::EXTENSION_STAGE, &module, |dir| dir.join("root"))?;
        Ok(Built { source, certificate, config: resolved, kernel, modules: modules?, module })
    }

    fn check_release(&self, kernel: &compile::Kernel) -> Result<()> {
        let pinned = &self.pin.kernel.release;
        if kernel.release == *pinned {
            return Ok(());
        }
        Err(Error::new(Class::Verification, "the compiled kernel has another release than the pinned one")
            .why(format!("compiled {}\npinned   {pinned}", kernel.release))
            .hint("change the release in kernel-config/pin.toml together with the source"))
    }
}

/// Lets a stage that waits for signatures be, so that the next one asks for its own in the same round.
fn awaited<T>(result: Result<T>) -> Result<Result<T>> {
    match result {
        Err(e) if e.class() != Class::AwaitsSignatures => Err(e),
        result => Ok(result),
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| Error::io("cannot read the kernel pin", path, &e))
}

//! `solana-talos module build`: compiles and signs third-party modules against a kernel-devel image.

use std::path::{Path, PathBuf};

use build::stages::{devel_tree, packages};
use build::{KeySource, Project, Signing, names, project};
use clap::Args;
use common::event::Event;
use common::{Class, Error, Result, atomic};
use extension::manifest::Manifest;
use extension::modules::Module;
use kernel_config::devel::{CERTIFICATE, Tree};
use kernel_config::environment::Environment;
use kernel_config::{external, sign};
use keys::{Certificate, OrPending, Pending, PublicKey, Role, Signer};
use serde::Serialize;

use crate::context::Context;
use crate::options::{KeyOptions, NetworkOptions, REGISTRY};
use crate::progress::Format;
use crate::result::{self, Data};
use crate::status::Status;

#[derive(Args)]
pub struct Options {
    /// Directory with the module's Kbuild or Makefile
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// kernel-devel image of the target kernel: an OCI layout directory or an image reference [default: _out/kernel-devel.oci in the project]
    #[arg(long, value_name = "IMAGE")]
    kernel_devel: Option<String>,
    /// Verify the kernel-devel image against this public key (PEM) before running any program in it
    #[arg(long, value_name = "FILE")]
    kernel_devel_key: Option<PathBuf>,
    /// Release string of the target kernel [default: the pinned kernel's]
    #[arg(long, value_name = "RELEASE")]
    kernel: Option<String>,
    /// Output directory for the signed modules [default: _out-modules in the project]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also pack the modules as a system extension with this manifest
    #[arg(long, value_name = "MANIFEST")]
    extension: Option<PathBuf>,
    /// Registry and organisation in the extension's image name
    #[arg(long, default_value = REGISTRY, value_name = "NAME")]
    registry: String,
    #[command(flatten)]
    keys: KeyOptions,
    #[command(flatten)]
    network: NetworkOptions,
}

pub fn run(context: &Context, options: &Options) -> anyhow::Result<Status> {
    external::check_directory(&options.path)?;
    let pin = project::pin(context)?;
    let release = options.kernel.clone().unwrap_or_else(|| pin.kernel.release.clone());
    let release = release.as_str();
    let pack = options.extension.as_deref().map(|path| Pack::read(path, options)).transpose()?;
    let built = || context.path("_out/kernel-devel.oci").display().to_string();
    let devel = options.kernel_devel.clone().unwrap_or_else(built);
    devel_tree::check(&devel)?;
    let key = options.kernel_devel_key.as_deref().map(PublicKey::read).transpose()?;
    let keys = options.keys.choice();
    let given = Signing::given(context, &keys, &[Role::Module])?;
    let _hold = context.hold_cache();
    let project = Project::with(context, pin)?;
    let toolchain = project.toolchain()?;
    let network = options.network.network();
    let image = devel_tree::Given { name: &devel, key: key.as_ref(), network: &network };
    let tree = devel_tree::open(context, &toolchain, &image, release)?;
    let signing = given.map_or_else(|| Signing::development(context, &keys), Ok)?;
    warn_of_key(context, &tree, &signing)?;
    let env = Environment {
        sandbox: &toolchain.sandbox,
        toolchain: toolchain.identity,
        cache: context.stages(),
        epoch: project.pin.epoch,
        clippy: false,
        jobs: context.jobs,
    };
    let built = external::build_with(&env, &tree, &options.path)?;
    let signer = signing.set.signer(Role::Module)?;
    let Ok(modules) = signed(&built.dir.join("modules"), release, signer.as_ref())? else {
        return Ok(Status::Pending(signing.set.pending()));
    };
    let out = options.out.clone().unwrap_or_else(|| context.path("_out-modules"));
    modules.iter().try_for_each(|module| atomic::write(&out.join(&module.name), &module.bytes))?;
    let extension = match pack {
        Some(pack) => {
            Some(Packed { path: pack.write(&modules, release, &out, (project.pin.epoch, &signing))?, name: pack.name })
        }
        None => None,
    };
    let subject = signing.set.certificate(Role::Module)?.subject();
    let modules = modules.into_iter().map(|module| module.built(&subject, &out)).collect();
    let built = Built { out, keys: signing.source, modules, extension };
    match context.format() {
        Format::Text => built.report(context)?,
        Format::Json => result::print(&built)?,
    }
    Ok(Status::Done)
}

/// The result as data.
#[derive(Serialize)]
struct Built {
    out: PathBuf,
    keys: KeySource,
    modules: Vec<BuiltModule>,
    extension: Option<Packed>,
}

/// A module in the output directory.
#[derive(Serialize)]
struct BuiltModule {
    name: String,
    path: PathBuf,
    vermagic: String,
    /// Subject of the signer's certificate.
    signer: String,
}

/// The extension image.
#[derive(Serialize)]
struct Packed {
    name: String,
    path: PathBuf,
}

impl Data for Built {
    const VERB: &'static str = "module build";
}

impl Built {
    fn report(&self, context: &Context) -> anyhow::Result<()> {
        for BuiltModule { name, path, vermagic, signer } in &self.modules {
            context.answer(name)?;
            context.answer(&format!("    signer    {signer}"))?;
            context.answer(&format!("    vermagic  {vermagic}"))?;
            context.answer(&format!("    path      {}", path.display()))?;
        }
        if let Some(Packed { name, path }) = &self.extension {
            context.answer(&format!("extension\n    name      {name}\n    path      {}", path.display()))?;
        }
        Ok(())
    }
}

/// Warns when the kernel would reject the module's signature.
fn warn_of_key(context: &Context, tree: &Tree, signing: &Signing) -> Result<()> {
    let trusted = Certificate::read(&tree.dir.join(CERTIFICATE))?;
    let ours = signing.set.certificate(Role::Module)?;
    if trusted.der() != ours.der() {
        let message = format!(
            "the kernel does not have this key's certificate built in and will reject the module\n  module signer: {}, sha256:{}\n  trusted by the kernel: {}, sha256:{}",
            ours.subject(),
            ours.fingerprint(),
            trusted.subject(),
            trusted.fingerprint()
        );
        context.sink().emit(&Event::Warning { message: &message });
    }
    Ok(())
}

/// A signed module.
struct Signed {
    /// File name.
    name: String,
    bytes: Vec<u8>,
    vermagic: String,
}

impl Signed {
    /// Describes the module in the directory `out`.
    fn built(self, signer: &str, out: &Path) -> BuiltModule {
        BuiltModule {
            path: out.join(&self.name),
            name: self.name,
            vermagic: self.vermagic.trim_end().to_owned(),
            signer: signer.to_owned(),
        }
    }
}

/// Signs every module in `dir` and parses it again. All signatures are requested, also where one is pending.
fn signed(dir: &Path, release: &str, signer: &dyn Signer) -> Result<OrPending<Vec<Signed>>> {
    let mut paths: Vec<_> = fs_err::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    let mut modules = Ok(Vec::new());
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Ok(bytes) = sign::sign(fs_err::read(&path)?, signer, &format!("the module {name}"))? else {
            modules = Err(Pending);
            continue;
        };
        let read = Module::parse(&bytes, release).map_err(|why| {
            Error::new(Class::Verification, format!("module {name} would not load")).file(&path).why(why)
        })?;
        if let Ok(modules) = &mut modules {
            modules.push(Signed { name, bytes, vermagic: read.vermagic });
        }
    }
    Ok(modules)
}

/// Packs the modules as a system extension.
struct Pack {
    manifest: Manifest,
    /// Name of the image.
    name: String,
}

impl Pack {
    fn read(path: &Path, options: &Options) -> Result<Self> {
        let manifest = Manifest::read(path)?;
        let name = names::version(&options.registry, &manifest.metadata.name, &manifest.metadata.version)?;
        Ok(Self { manifest, name })
    }

    /// Writes `<name>.oci` into `out`.
    fn write(
        &self,
        modules: &[Signed],
        release: &str,
        out: &Path,
        (epoch, signing): (u64, &Signing),
    ) -> Result<PathBuf> {
        let root = tempfile::tempdir()?;
        let extras = root.path().join(format!("usr/lib/modules/{release}/extras"));
        for module in modules {
            atomic::write(&extras.join(&module.name), &module.bytes)?;
        }
        let target = extension::Target::new(contract::DEFAULT_RELEASE, release.to_owned())?;
        let files = extension::assemble::assemble(root.path(), &self.manifest, &target)?;
        let path = out.join(format!("{}.oci", self.manifest.metadata.name));
        packages::image(&path, std::slice::from_ref(&self.name), &files, epoch, &signing.annotations(None))?;
        Ok(path)
    }
}

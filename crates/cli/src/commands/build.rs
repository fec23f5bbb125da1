//! `solana-talos build`: everything, from the pinned inputs to the output directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ::attest::provenance::Parameters;
use ::attest::sbom::Kind;
use clap::Args;
use common::Sha256;
use common::event::Event;
use imager::machine_config;
use imager::preset::Preset;
use keys::Role;
use oci::Layout;

use crate::context::Context;
use crate::pipeline;
use crate::pipeline::installer::Choice;
use crate::pipeline::kernel::{Built, Prepared, SourceChoice, prepare};
use crate::pipeline::output::{self, Record};
use crate::pipeline::signing::{KeyOptions, Signing};
use crate::pipeline::{attest, base, devel, installer, names, packages};
use crate::remote::Network;

/// Packages of the toolchain whose version shows in the outputs.
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

#[derive(Args)]
pub struct Options {
    /// Kernel profile
    #[arg(long, default_value = "vm")]
    pub profile: String,
    /// Boot arguments and settings baked into the installer
    #[arg(long, default_value = "spec")]
    preset: String,
    /// What the installer is built on: `testbed` (not Talos), or Talos's imager and installer-base images as a layout directory, a tarball of
    /// one, or two references with a comma between that `update --base` has locked
    #[arg(long, default_value = "testbed", value_name = "BASE")]
    base: String,
    /// A further kernel argument; `-NAME` takes one away; repeatable
    #[arg(long = "extra-kernel-arg", value_name = "ARG", allow_hyphen_values = true)]
    extra: Vec<String>,
    /// Registry and organisation in the images' names
    #[arg(long, default_value = "ghcr.io/our-org", value_name = "NAME")]
    registry: String,
    /// Where the outputs go [default: _out in the project]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where the kernel's source comes from
    #[arg(long, value_enum, default_value = "debian")]
    source: SourceChoice,
    /// Digest of kernel.org's tarball, where the pin has none
    #[arg(long, value_name = "SHA256")]
    kernel_sha256: Option<Sha256>,
    #[command(flatten)]
    keys: KeyOptions,
    #[command(flatten)]
    network: Network,
}

/// # Errors
/// When a stage fails; nothing is left under a final name then.
pub fn run(context: &Context, options: &Options) -> anyhow::Result<()> {
    // All that can be wrong with what the user gave is told here, before anything is made.
    let preset = Preset::named(&options.preset)?;
    let installer_name = names::release(&options.registry, "installer")?;
    installer::command_line(&preset, &options.extra)?;
    pipeline::kernel::profile(context, &options.profile)?;
    packages::manifest(context)?;
    let base = base::find(context, &options.network, &options.base)?;
    let given = Signing::given(&options.keys, &[Role::Module, Role::Image])?;
    let prepared = prepare(context, options.source, options.kernel_sha256)?;
    let signing = given.map_or_else(|| Signing::development(context), Ok)?;
    let built = prepared.build(&options.profile, &signing)?;
    warn_of_snapshot(context, &prepared, &built, &options.profile)?;
    let kernel = packages::kernel(&prepared, &built, &options.registry, &signing)?;
    let extension = packages::extension(context, &prepared, &built, &options.registry, &signing)?;
    let devel = devel::image(&prepared, &built, &options.registry, &signing)?;
    let located = base::locate(context, &prepared, base, &preset)?;
    let choice = Choice { preset: &preset, extra: &options.extra, registry: &options.registry, signing: &signing };
    let installer = installer::build(context, &prepared, &built, &located, &choice)?;
    let config = context.cache.join("unfinished/machine-config.yaml");
    common::atomic::write(&config, machine_config::patch(&options.preset, &preset, &installer_name))?;
    let unsigned = [
        ("kernel", Kind::Kernel, &kernel),
        ("solana-optimizer", Kind::Extension, &extension),
        ("installer", Kind::Installer, &installer),
        ("kernel-devel", Kind::Devel, &devel),
    ];
    let subjects = attest::Subjects {
        images: &unsigned,
        parameters: parameters(options),
        release: &built.kernel.release,
        base: &located,
    };
    let attested = attest::images(context, &prepared, &signing, subjects)?;
    let mut files = attest::outputs(&attested, &unsigned);
    let loose = [
        ("vmlinuz", built.kernel.vmlinuz()),
        ("vmlinuz.efi", installer.dir.join("vmlinuz.efi")),
        ("initramfs.xz", installer.dir.join("initramfs.xz")),
        ("cmdline", installer.dir.join("cmdline")),
        ("kernel.config", built.kernel.config()),
        ("module.crt.pem", built.certificate.clone()),
        ("machine-config.yaml", config),
    ];
    files.extend(loose.map(|(name, path)| (name.to_owned(), path)));
    let stages = [
        &built.config.stage,
        &built.kernel.stage,
        &built.modules,
        &built.module,
        &kernel,
        &extension,
        &devel,
        &installer,
        &attested,
    ];
    let record = Record {
        profile: options.profile.clone(),
        preset: options.preset.clone(),
        base: options.base.clone(),
        release: built.kernel.release.clone(),
        keys: signing.name().to_owned(),
        module_certificate: Sha256::of_file(&built.certificate)?,
        image_key: signing.set.public_key(Role::Image)?.fingerprint(),
        inputs: prepared.inputs(&located.identity, &options.profile)?,
        tools: tools(&prepared),
        stages: stages.iter().map(|stage| (stage.stage, stage.key.to_string())).collect(),
        images: images(&files)?,
        outputs: BTreeMap::new(),
        seconds: BTreeMap::new(),
    };
    let out = options.out.clone().unwrap_or_else(|| context.path("_out"));
    let written = output::write(&out, &files, record, &stages)?;
    report(context, &out, written, &signing, located.testbed);
    Ok(())
}

/// What the user chose, for the provenance.
fn parameters(options: &Options) -> Parameters {
    Parameters {
        profile: options.profile.clone(),
        preset: options.preset.clone(),
        base: String::new(),
        extra_kernel_arguments: options.extra.clone(),
        registry: options.registry.clone(),
        kernel_source: match options.source {
            SourceChoice::Debian => "debian".to_owned(),
            SourceChoice::Upstream => "upstream".to_owned(),
        },
    }
}

fn tools(prepared: &Prepared<'_>) -> BTreeMap<String, String> {
    let version = |name: &&str| Some(((*name).to_owned(), prepared.toolchain.versions.get(name)?.to_owned()));
    TOOLS.iter().filter_map(version).collect()
}

/// Every image of the layouts among `files`, by name.
fn images(files: &[(String, PathBuf)]) -> common::Result<BTreeMap<String, Sha256>> {
    let mut all = BTreeMap::new();
    for (_, path) in files.iter().filter(|(name, _)| name.ends_with(".oci")) {
        for image in Layout::open(path)?.images()? {
            all.extend(image.names.into_iter().map(|name| (name, image.digest)));
        }
    }
    Ok(all)
}

fn warn_of_snapshot(context: &Context, prepared: &Prepared<'_>, built: &Built, profile: &str) -> common::Result<()> {
    let changes = prepared.snapshot_changes(profile, &built.config)?;
    if !changes.is_empty() {
        let message = format!("the kernel's configuration is not the committed snapshot: {}", changes.join(", "));
        context.sink().emit(&Event::Warning { message: &message });
    }
    Ok(())
}

fn report(context: &Context, out: &Path, written: bool, signing: &Signing, testbed: bool) {
    let note = |message: &str| context.sink().emit(&Event::Note { message });
    note(&format!("{} {}", if written { "wrote" } else { "nothing changed in" }, out.display()));
    if testbed {
        note("the installer holds the testbed, not Talos; see docs/build.md for --base");
    }
    if signing.development {
        note(
            "development keys signed this, and protect nothing: for production, `solana-talos keys init` and --keys DIR",
        );
    }
}

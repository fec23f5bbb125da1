//! The outputs of a build: one table that determines the files, the images, their SBOMs and the record.

use std::collections::BTreeMap;
use std::path::PathBuf;

use attest::sbom::Kind;
use common::stage::Finished;
use common::{Result, Sha256};
use oci::Layout;

use crate::stages::attest::{EXTENSIONS, PUBLIC_KEY, Unsigned, VERIFICATION};
use crate::stages::kernel::Built;

/// Results of the stages.
#[derive(Clone, Copy, Debug)]
pub struct Results<'a> {
    /// The kernel and our module.
    pub built: &'a Built,
    /// The kernel image.
    pub kernel: &'a Finished,
    /// The extension image.
    pub extension: &'a Finished,
    /// The kernel-devel image.
    pub devel: &'a Finished,
    /// The installer image.
    pub installer: &'a Finished,
    /// Talos's programs, if the base is Talos.
    pub programs: Option<&'a Finished>,
}

/// An output and its source.
enum Output<'a> {
    /// `<name>.oci` of a stage, to be signed; its SBOM and provenance are outputs too.
    Image(Kind, &'a Finished),
    /// A file.
    File(PathBuf),
}

/// The table of outputs by name. To add an output, add a line.
fn table<'a>(of: &Results<'a>) -> Vec<(&'static str, Output<'a>)> {
    let Results { built, kernel, extension, devel, installer, programs } = *of;
    let mut table = vec![
        ("kernel", Output::Image(Kind::Kernel, kernel)),
        ("solana-optimizer", Output::Image(Kind::Extension, extension)),
        ("installer", Output::Image(Kind::Installer, installer)),
        ("kernel-devel", Output::Image(Kind::Devel, devel)),
        ("vmlinuz", Output::File(built.kernel.vmlinuz())),
        ("vmlinuz.efi", Output::File(installer.dir.join("vmlinuz.efi"))),
        ("initramfs.xz", Output::File(installer.dir.join("initramfs.xz"))),
        ("cmdline", Output::File(installer.dir.join("cmdline"))),
        ("kernel.config", Output::File(built.kernel.config())),
        ("module.crt.pem", Output::File(built.certificate.clone())),
    ];
    if let Some(programs) = programs {
        table.push(("talosctl", Output::File(programs.dir.join("bin/talosctl"))));
    }
    table
}

/// Content of an entry of the output directory.
#[derive(Clone, Debug)]
pub enum Content {
    /// A file or directory.
    Path(PathBuf),
    /// A text.
    Text(String),
}

/// Returns the images to sign.
#[must_use]
pub fn images<'a>(of: &Results<'a>) -> Vec<Unsigned<'a>> {
    let image = |(name, output)| match output {
        Output::Image(kind, stage) => Some(Unsigned { name, kind, stage }),
        Output::File(_) => None,
    };
    table(of).into_iter().filter_map(image).collect()
}

/// Returns the entries of the output directory by name; `attested` is the stage with the signed images.
#[must_use]
pub fn files(of: &Results<'_>, attested: &Finished, machine_config: String) -> Vec<(String, Content)> {
    let signed = |name: String| (name.clone(), Content::Path(attested.dir.join(name)));
    let mut files = Vec::new();
    for (name, output) in table(of) {
        match output {
            Output::Image(..) => files.extend(EXTENSIONS.map(|extension| signed(format!("{name}.{extension}")))),
            Output::File(path) => files.push((name.to_owned(), Content::Path(path))),
        }
    }
    files.extend([PUBLIC_KEY, VERIFICATION].map(|name| signed(name.to_owned())));
    files.push(("machine-config.yaml".to_owned(), Content::Text(machine_config)));
    files
}

/// Returns the stages for the record.
#[must_use]
pub fn stages<'a>(of: &Results<'a>, attested: &'a Finished) -> Vec<&'a Finished> {
    let Built { config, kernel, modules, module, .. } = of.built;
    let images = images(of).into_iter().map(|image| image.stage);
    [&config.stage, &kernel.stage, modules, module].into_iter().chain(images).chain([attested]).collect()
}

/// Returns the digest of every image in the layouts among `files`, by image name.
pub fn digests(files: &[(String, Content)]) -> Result<BTreeMap<String, Sha256>> {
    let mut all = BTreeMap::new();
    for (name, content) in files {
        if let Content::Path(path) = content
            && name.ends_with(".oci")
        {
            for image in Layout::open(path)?.images()? {
                all.extend(image.names.into_iter().map(|name| (name, image.digest)));
            }
        }
    }
    Ok(all)
}

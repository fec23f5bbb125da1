//! The last stage of a build: attaches SBOM, provenance and signatures to every image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use attest::provenance::{Build, Parameters};
use attest::sbom::{self, DebianPackage, Ingredients, Kernel, Kind, Module};
use attest::{Demand, Material, Predicates, SigningSession, Subject, WithoutLayers, subjects, talos};
use common::stage::{Finished, Input, Stage, Work, hash_tree};
use common::{Result, Sha256, atomic};
use keys::{KeySet, OrPending, Role};
use oci::Layout;
use oci::types::canonical;
use serde_json::Value;
use toolchain::Toolchain;

use crate::context::Context;
use crate::project::Project;
use crate::signing::Signing;
use crate::stages::base::TalosBase;
use crate::stages::kernel::{MODULE, Prepared};

/// Signs the images.
pub const STAGE: Stage = Stage::ours("attested-images", env!("CARGO_PKG_NAME"));

/// Public key that verifies the images.
pub const PUBLIC_KEY: &str = "image.pub.pem";
/// Machine configuration document with which Talos 1.13.8 and later verify the images.
pub const VERIFICATION: &str = "image-verification.yaml";
/// Directories of the project that end up in images, which the provenance lists as inputs.
const TREES: [&str; 8] = [
    "extension",
    "imager/base",
    "imager/contract/lines",
    "imager/presets",
    "kernel-config",
    "module",
    "tests/guest",
    "crates/toolchain",
];

/// An unsigned image.
#[derive(Clone, Copy, Debug)]
pub struct Unsigned<'a> {
    /// Its name in the output.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// The stage with `<name>.oci`.
    pub stage: &'a Finished,
}

/// File name extensions of an image's outputs, the layout first.
pub const EXTENSIONS: [&str; 3] = ["oci", "spdx.json", "provenance.json"];

/// Attaches SBOM and provenance to every image and signs them with the image key.
pub fn images(
    prepared: &Prepared<'_>,
    signing: &Signing,
    base: &TalosBase,
    release: &str,
    parameters: &Parameters,
    images: &[Unsigned<'_>],
) -> Result<OrPending<Finished>> {
    let ingredients = ingredients(prepared, release, base)?;
    let materials = materials(prepared, signing, base)?;
    let internal = BTreeMap::from([
        ("epoch".to_owned(), Value::from(prepared.plan.project.pin.epoch)),
        ("kernelRelease".to_owned(), Value::from(release)),
    ]);
    let build = Build { parameters, internal, materials: &materials, tool: env!("CARGO_PKG_VERSION") };
    let provenance = build.predicate()?;
    let stated = |Unsigned { name, kind, stage }: &Unsigned<'_>| {
        Stated::new(name, &stage.dir, |image| sbom::document(image, *kind, &ingredients))
    };
    let images = images.iter().map(stated).collect::<Result<_>>()?;
    signed(prepared.context(), STAGE, signing, Some(provenance), images)
}

/// Runs `stage`, which signs the images with the image key, with their SBOMs and `provenance`: `<name>.oci` and its documents.
pub fn signed(
    context: &Context,
    stage: Stage,
    signing: &Signing,
    provenance: Option<Value>,
    images: Vec<Input<Stated>>,
) -> Result<OrPending<Finished>> {
    let key = signing.set.public_key(Role::Image)?.fingerprint().to_string();
    let digest = Sha256::of(canonical(&provenance)?).to_string();
    let keys = Input::known_by([("key", key)], &signing.set);
    let provenance = Input::known_by([("provenance", digest)], provenance);
    context.stages().try_run(stage, (keys, provenance, images), sign)
}

/// An unsigned layout with the SBOM of each of its images.
#[derive(Debug)]
pub struct Stated {
    name: &'static str,
    from: PathBuf,
    documents: BTreeMap<Sha256, Value>,
}

impl Stated {
    /// Opens `<name>.oci` in `dir`; `sbom` returns the SBOM of an image.
    pub fn new(name: &'static str, dir: &Path, sbom: impl Fn(&Subject) -> Result<Value>) -> Result<Input<Self>> {
        let from = dir.join(format!("{name}.oci"));
        let (mut entries, mut documents) = (Vec::new(), BTreeMap::new());
        for image in subjects(&Layout::open(&from)?)? {
            let sbom = sbom(&image)?;
            let both = [image.digest(), Sha256::of(canonical(&sbom)?)].map(|digest| digest.to_string());
            entries.push((name, both.join(" ")));
            documents.insert(image.digest(), sbom);
        }
        Ok(Input::known_by(entries, Self { name, from, documents }))
    }
}

type Inputs<'a> = (Input<&'a KeySet>, Input<Option<Value>>, Vec<Input<Stated>>);

fn sign(work: &mut Work<'_>, (keys, provenance, images): Inputs<'_>) -> Result<OrPending<()>> {
    let signer = keys.signer(Role::Image)?;
    let mut session = SigningSession::new(signer.as_ref())?;
    let mut names = BTreeSet::new();
    for image in &images {
        let mut predicates = |subject: &Subject| {
            names.extend(subject.names.iter().cloned());
            let sbom = image.documents.get(&subject.digest()).cloned();
            Ok(Predicates { sbom, provenance: provenance.clone() })
        };
        let dest = work.dir().join(format!("{}.oci", image.name));
        attest::sign(&Layout::open(&image.from)?, &dest, &mut session, &mut predicates)?;
    }
    if let Err(pending) = session.finish() {
        return Ok(Err(pending));
    }
    write_documents(work.dir(), &names, keys.public_key(Role::Image)?).map(Ok)
}

/// Writes the SBOM and provenance of every layout in `dir` next to it, then the public key and the document for Talos.
pub fn write_documents(dir: &Path, names: &BTreeSet<String>, key: &keys::PublicKey) -> Result<()> {
    for path in layouts(dir)? {
        let layout = Layout::open(&path)?;
        for image in subjects(&layout)? {
            // The layers were verified when they were copied.
            let image = attest::verify(&WithoutLayers(&layout), &image, key, Demand::Signature)?;
            for (extension, document) in [("spdx.json", &image.sbom), ("provenance.json", &image.provenance)] {
                if let Some(document) = document {
                    atomic::write(&path.with_extension(extension), canonical(document)?)?;
                }
            }
        }
    }
    atomic::write(&dir.join(PUBLIC_KEY), key.to_pem()?)?;
    atomic::write(&dir.join(VERIFICATION), talos::image_verification(names, key)?)
}

/// Returns the layouts `*.oci` in `dir`, sorted; none if it is not a directory.
pub fn layouts(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !dir.is_dir() {
        return Ok(found);
    }
    for entry in fs_err::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "oci") && path.join("oci-layout").is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Returns every input by digest: the locked ones, and those of this project and the user.
fn materials(prepared: &Prepared<'_>, signing: &Signing, base: &TalosBase) -> Result<Vec<Material>> {
    let own = |part: &str| format!("pkg:generic/solana-talos@{}#{part}", env!("CARGO_PKG_VERSION"));
    // The kernel source is added below; it may be kernel.org's instead of the locked one. The testbed has no Go programs.
    let locked = prepared.plan.project.locked.entries();
    let unused = |kind| kind == lock::Kind::Kernel || kind == lock::Kind::GoModule && base.is_testbed();
    let locked = locked.filter(|entry| !unused(entry.kind));
    let mut materials: Vec<_> = locked
        .map(|entry| {
            let uri = if entry.kind == lock::Kind::CargoLock { own(&entry.name) } else { entry.uri };
            Material { name: entry.name, uri, sha256: entry.sha256 }
        })
        .collect();
    materials.push(prepared.plan.source_material());
    materials.push(Material { name: "base".to_owned(), uri: base.uri(), sha256: base.identity.parse()? });
    // The certificate is compiled into the kernel.
    let certificate = signing.set.certificate(Role::Module)?.fingerprint();
    let name = "module certificate".to_owned();
    materials.push(Material { uri: own("module.crt.pem"), name, sha256: certificate });
    for tree in TREES {
        let sha256 = hash_tree(&prepared.context().path(tree))?;
        materials.push(Material { name: format!("project {tree}"), uri: own(tree), sha256 });
    }
    Ok(materials)
}

fn ingredients(prepared: &Prepared<'_>, release: &str, base: &TalosBase) -> Result<Ingredients> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(Ingredients {
        tool: version.clone(),
        kernel: Kernel {
            version: prepared.plan.project.pin.kernel.version.clone(),
            release: release.to_owned(),
            source: prepared.plan.source_material(),
            overlay: hash_tree(&prepared.context().path("module/kernel"))?,
            patches: patches(&prepared.context().path("kernel-config/patches"))?,
        },
        module: Module { name: MODULE.to_owned(), version, sources: hash_tree(&prepared.context().path("module"))? },
        toolchain: makers(prepared),
        base: base.contents.clone(),
    })
}

fn patches(dir: &Path) -> Result<Vec<(String, Sha256)>> {
    let mut patches = Vec::new();
    for entry in fs_err::read_dir(dir)? {
        let path = entry?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| name.ends_with(".patch")) {
            patches.push((name.to_owned(), Sha256::of_file(&path)?));
        }
    }
    patches.sort();
    Ok(patches)
}

/// Returns the toolchain packages that produce outputs: those of `crates/toolchain/packages.list` and their dependencies.
fn makers(prepared: &Prepared<'_>) -> Vec<DebianPackage> {
    let makes = |entry: &lock::Entry| entry.kind == lock::Kind::Package(lock::List::Packages);
    debian_packages(&prepared.plan.project, &prepared.toolchain, makes)
}

/// Returns the locked entries that `wanted` accepts, which must be packages of `toolchain`.
pub fn debian_packages(
    project: &Project<'_>,
    toolchain: &Toolchain,
    wanted: impl Fn(&lock::Entry) -> bool,
) -> Vec<DebianPackage> {
    let package = |entry: lock::Entry| DebianPackage {
        version: toolchain.versions.get(&entry.name).unwrap_or_default().to_owned(),
        name: entry.name,
        purl: entry.uri,
        sha256: entry.sha256,
    };
    project.locked.lock.entries().filter(wanted).map(package).collect()
}

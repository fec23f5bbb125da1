//! The last stage of a build: bills of materials, provenance and signatures beside every image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use attest::provenance::{Build, Parameters};
use attest::sbom::{self, DebianPackage, Ingredients, Kernel, Kind, Module, Userland};
use attest::{Demand, Material, Predicates, SigningSession, Subject, WithoutLayers, crates, subjects, talos};
use common::stage::{Finished, Input, Stage, Work, hash_tree};
use common::{Class, Error, Result, Sha256, atomic};
use kernel_config::environment::Tools;
use keys::{KeySet, OrPending, Role};
use oci::Layout;
use oci::types::canonical;
use serde_json::Value;

use crate::signing::Signing;
use crate::stages::base::TalosBase;
use crate::stages::kernel::{MODULE, Prepared};
use crate::stages::testbed;

/// Signs the images.
pub const STAGE: Stage = Stage::ours("attested-images", env!("CARGO_PKG_NAME"));

/// Public half of the key that signed the images.
pub const PUBLIC_KEY: &str = "image.pub.pem";
/// Machine configuration by which Talos 1.13.8 and later verify the images.
pub const VERIFICATION: &str = "image-verification.yaml";
/// Parts of the project that end up in images, and so are inputs like any other.
const TREES: [&str; 7] = [
    "extension",
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
    /// What it is.
    pub kind: Kind,
    /// The stage that holds `<name>.oci`.
    pub stage: &'a Finished,
}

/// Extensions of the files that belong to an image, of the layout first.
pub const EXTENSIONS: [&str; 3] = ["oci", "spdx.json", "provenance.json"];

/// Every image with what belongs beside it, signed with the image key.
///
/// # Errors
/// When an image cannot be read, or a signature does not verify.
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
    let mut unsigned = Vec::new();
    for Unsigned { name, kind, stage } in images {
        let from = stage.dir.join(format!("{name}.oci"));
        let (mut entries, mut documents) = (Vec::new(), BTreeMap::new());
        for image in subjects(&Layout::open(&from)?)? {
            let sbom = sbom::document(&image, *kind, &ingredients)?;
            let both = [image.digest(), Sha256::of(canonical(&sbom)?)].map(|digest| digest.to_string());
            entries.push((*name, both.join(" ")));
            documents.insert(image.digest(), sbom);
        }
        unsigned.push(Input::known_by(entries, Stated { name, from, documents }));
    }
    let key = signing.set.public_key(Role::Image)?.fingerprint().to_string();
    let digest = Sha256::of(canonical(&provenance)?).to_string();
    let inputs = (
        prepared.environment().tools(),
        Input::known_by([("key", key)], &signing.set),
        Input::known_by([("provenance", digest)], provenance),
        unsigned,
    );
    prepared.context().stages().try_run(STAGE, inputs, sign)
}

/// An unsigned image with the SBOM of each platform.
struct Stated {
    name: &'static str,
    from: PathBuf,
    documents: BTreeMap<Sha256, Value>,
}

type Inputs<'a> = (Input<Tools<'a>>, Input<&'a KeySet>, Input<Value>, Vec<Input<Stated>>);

fn sign(work: &mut Work<'_>, (_, keys, provenance, images): Inputs<'_>) -> Result<OrPending<()>> {
    let signer = keys.signer(Role::Image)?;
    let mut session = SigningSession::new(signer.as_ref())?;
    let mut names = BTreeSet::new();
    for image in &images {
        let mut predicates = |subject: &Subject| {
            names.extend(subject.names.iter().cloned());
            let sbom = image.documents.get(&subject.digest()).cloned();
            Ok(Predicates { sbom, provenance: Some(provenance.clone()) })
        };
        let dest = work.dir().join(format!("{}.oci", image.name));
        attest::sign(&Layout::open(&image.from)?, &dest, &mut session, &mut predicates)?;
    }
    if let Err(pending) = session.finish() {
        return Ok(Err(pending));
    }
    write_beside(work.dir(), &names, keys.public_key(Role::Image)?).map(Ok)
}

/// Writes the documents of every layout in `dir` beside it, the public key and the document for Talos.
///
/// # Errors
/// When a layout is not what `key` has signed.
pub fn write_beside(dir: &Path, names: &BTreeSet<String>, key: &keys::PublicKey) -> Result<()> {
    for path in layouts(dir)? {
        let layout = Layout::open(&path)?;
        for image in subjects(&layout)? {
            // The layers were compared with their digests as they were copied.
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

/// The layouts `*.oci` in `dir`, sorted.
///
/// # Errors
/// When the directory cannot be listed.
pub fn layouts(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(|e| Error::io("cannot list a directory of layouts", dir, &e))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::io("cannot list a directory of layouts", dir, &e))?.path();
        if path.extension().is_some_and(|extension| extension == "oci") && path.join("oci-layout").is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Everything that went in, by digest: the lock, and what it does not name because it is of this project or the user gave it.
fn materials(prepared: &Prepared<'_>, signing: &Signing, base: &TalosBase) -> Result<Vec<Material>> {
    let own = |part: &str| format!("pkg:generic/solana-talos@{}#{part}", env!("CARGO_PKG_VERSION"));
    // The kernel's source may be the other one.
    let locked = prepared.plan.project.locked.entries().filter(|entry| entry.kind != lock::Kind::Kernel);
    let mut materials: Vec<_> = locked
        .map(|entry| {
            let uri = if entry.kind == lock::Kind::CargoLock { own(&entry.name) } else { entry.uri };
            Material { name: entry.name, uri, sha256: entry.sha256 }
        })
        .collect();
    materials.push(prepared.source_material());
    materials.push(Material { name: "base".to_owned(), uri: base.uri(), sha256: base.identity.parse()? });
    // It is compiled into the kernel, and so decides over every image.
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
            source: prepared.source_material(),
            overlay: hash_tree(&prepared.context().path("module/kernel"))?,
            patches: patches(&prepared.context().path("kernel-config/patches"))?,
        },
        module: Module { name: MODULE.to_owned(), version, sources: hash_tree(&prepared.context().path("module"))? },
        toolchain: makers(prepared),
        base: contents(prepared, base)?,
    })
}

fn patches(dir: &Path) -> Result<Vec<(String, Sha256)>> {
    let io = |e: std::io::Error| Error::io("cannot list the patches", dir, &e);
    let mut patches = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| name.ends_with(".patch")) {
            patches.push((name.to_owned(), Sha256::of_file(&path)?));
        }
    }
    patches.sort();
    Ok(patches)
}

/// Packages of the toolchain that make outputs: what `crates/toolchain/packages.list` came to.
fn makers(prepared: &Prepared<'_>) -> Vec<DebianPackage> {
    let entries =
        prepared.plan.project.locked.lock.entries().filter(|e| e.kind == lock::Kind::Package(lock::List::Packages));
    let version = |name: &str| prepared.toolchain.versions.get(name).unwrap_or_default().to_owned();
    entries
        .map(|entry| DebianPackage {
            version: version(&entry.name),
            name: entry.name,
            purl: entry.uri,
            sha256: entry.sha256,
        })
        .collect()
}

fn contents(prepared: &Prepared<'_>, base: &TalosBase) -> Result<Userland> {
    if !base.testbed {
        let digest = base.identity.parse()?;
        return Ok(Userland::Images { version: contract::DEFAULT_RELEASE.to_owned(), digest });
    }
    let metadata = testbed::metadata(prepared)?.dir.join("metadata.json");
    let lock = prepared.context().path("tests/guest/Cargo.lock");
    let read = |path: &Path| std::fs::read(path).map_err(|e| Error::io("cannot read what the crates are", path, &e));
    let lock_text = String::from_utf8(read(&lock)?)
        .map_err(|e| Error::new(Class::BadInput, "cannot read what the crates are").file(&lock).why(e))?;
    let crates = crates::of_program(&read(&metadata)?, &lock_text).map_err(|e| e.file(&lock))?;
    Ok(Userland::Testbed { version: env!("CARGO_PKG_VERSION").to_owned(), crates })
}

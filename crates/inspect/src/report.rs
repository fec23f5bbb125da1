//! What `solana-talos inspect` says of a layout.

use std::collections::BTreeMap;
use std::io::Read as _;

use common::{Class, Error, Result, Sha256};
use oci::types::Named as _;
use oci::{Artifact, Image, Layout, Limits};
use serde::Serialize;
use serde_json::Value;

use crate::contents::{Certificate, Contents, Extension, Kind, Signer, Uki};

/// Artifact type of a bill of materials (SPDX in JSON).
const SPDX: &str = "application/spdx+json";
/// Where sigstore's bundles say what they state.
const PREDICATE: &str = "dev.sigstore.bundle.predicateType";
/// A bill of materials has some hundred kilobytes.
const SBOM_MAX: u64 = 64 << 20;

/// Everything about one layout.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Its images.
    pub images: Vec<ImageReport>,
    /// Artifacts about images that are not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strays: Vec<Attached>,
}

/// Everything about one image.
#[derive(Debug, Serialize)]
pub struct ImageReport {
    /// Names that the index gives it.
    pub names: Vec<String>,
    /// Digest of the manifest.
    pub digest: Sha256,
    /// What it is for.
    pub kind: Kind,
    /// When it says it was made.
    pub created: Option<String>,
    /// Layers, lowest first.
    pub layers: Vec<LayerReport>,
    /// Regular files, those inside of initramfs and squashfs included.
    pub files: usize,
    /// The kernel's release.
    pub release: Option<String>,
    /// Number of options that are set, where the kernel carries its configuration.
    pub config_options: Option<usize>,
    /// Certificates in the kernel.
    pub certificates: Vec<Certificate>,
    /// Unified kernel images.
    pub ukis: Vec<Uki>,
    /// Modules.
    pub modules: Modules,
    /// Layers that the initramfs lists.
    pub extensions: Vec<Extension>,
    /// The manifest of an extension.
    pub manifest: Option<Extension>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// Signatures and attestations that are there, not verified.
    pub attached: Vec<Attached>,
    /// The bill of materials.
    pub sbom: Option<Sbom>,
    /// What a given key says, where one was given.
    pub verified: Option<Verdict>,
    /// What could not be read.
    pub problems: Vec<String>,
}

/// One layer.
#[derive(Debug, Serialize)]
pub struct LayerReport {
    /// Digest of the blob.
    pub digest: Sha256,
    /// Digest of the tar.
    pub diff_id: Sha256,
    /// Bytes of the blob.
    pub size: u64,
    /// How it is packed.
    pub media_type: String,
}

/// The modules of an image.
#[derive(Debug, Default, Serialize)]
pub struct Modules {
    /// How many.
    pub count: usize,
    /// Releases they were built for, and how many for each.
    pub releases: BTreeMap<String, usize>,
    /// Who signed them.
    pub signers: Vec<Signed>,
    /// Paths of those without a signature, or with one that cannot be read.
    pub unsigned: Vec<String>,
}

/// What one signer signed.
#[derive(Debug, Serialize)]
pub struct Signed {
    /// Who.
    #[serde(flatten)]
    pub signer: Signer,
    /// How many modules.
    pub modules: usize,
    /// SHA-256 of the signer's key, where the kernel beside them has the certificate.
    pub key: Option<Sha256>,
}

/// A signature or attestation.
#[derive(Clone, Debug, Serialize)]
pub struct Attached {
    /// Its artifact type, or the kind of cosign's tag.
    pub what: String,
    /// What it states, where it says.
    pub predicate: Option<String>,
    /// Digest of its manifest.
    pub digest: Sha256,
}

/// A bill of materials, counted.
#[derive(Clone, Debug, Serialize)]
pub struct Sbom {
    /// Name of the document.
    pub name: String,
    /// Packages by kind: the type of their package URL.
    pub kinds: BTreeMap<String, usize>,
    /// Version by kind and name.
    #[serde(skip)]
    pub packages: BTreeMap<String, String>,
}

/// What verifying gave.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Whether all that was demanded is there and signed with the key.
    pub good: bool,
    /// What, or why not.
    pub detail: String,
}

/// Reads everything of `layout`.
///
/// # Errors
/// As [`Contents::read`]; [`Class::BadInput`] when there is no image.
pub fn report(layout: &Layout, limits: Limits) -> Result<(Report, Vec<Contents>)> {
    let (images, artifacts) = (layout.images()?, layout.artifacts()?);
    if images.is_empty() {
        return Err(Error::new(Class::BadInput, "the layout holds no image for linux/amd64"));
    }
    let mut reports = Vec::new();
    let mut all = Vec::new();
    for image in &images {
        let contents = Contents::read(layout, image, limits)?;
        reports.push(about(layout, image, &artifacts, &contents)?);
        all.push(contents);
    }
    let stray = |artifact: &&Artifact| !images.iter().any(|image| is_about(artifact, image));
    let strays = artifacts.iter().filter(stray).map(attached).collect::<Result<_>>()?;
    Ok((Report { images: reports, strays }, all))
}

fn about(layout: &Layout, image: &Image, artifacts: &[Artifact], contents: &Contents) -> Result<ImageReport> {
    let ours: Vec<_> = artifacts.iter().filter(|artifact| is_about(artifact, image)).collect();
    let mut problems = contents.problems.clone();
    let sbom = ours
        .iter()
        .find(|a| a.manifest.artifact_type().as_ref().is_some_and(|kind| kind.as_ref() == SPDX))
        .and_then(|artifact| sbom(layout, artifact).map_err(|e| problems.push(e.to_string())).ok());
    let layer = |layer: &oci::Layer| {
        Ok(LayerReport {
            digest: layer.descriptor.sha256()?,
            diff_id: layer.diff_id,
            size: layer.descriptor.size(),
            media_type: layer.descriptor.media_type().to_string(),
        })
    };
    let kernel = contents.kernel();
    Ok(ImageReport {
        names: image.names.clone(),
        digest: image.digest,
        kind: contents.kind(),
        created: image.config.created.clone(),
        layers: image.layers.iter().map(layer).collect::<Result<_>>()?,
        files: contents.files.len(),
        release: contents.release().map(str::to_owned),
        config_options: kernel.and_then(|kernel| Some(kernel.config.as_ref()?.len())),
        certificates: kernel.map(|kernel| kernel.certificates.clone()).unwrap_or_default(),
        ukis: contents.ukis.clone(),
        modules: modules(contents),
        extensions: contents.extensions.clone(),
        manifest: contents.manifest.clone(),
        annotations: image.manifest.annotations().clone().into_iter().flatten().collect(),
        attached: ours.into_iter().map(attached).collect::<Result<_>>()?,
        sbom,
        verified: None,
        problems,
    })
}

fn modules(contents: &Contents) -> Modules {
    let mut found = Modules { count: contents.modules.len(), ..Modules::default() };
    let mut signers: BTreeMap<Signer, usize> = BTreeMap::new();
    for (path, module) in &contents.modules {
        *found.releases.entry(module.release.clone().unwrap_or_else(|| "unknown".to_owned())).or_default() += 1;
        match &module.signer {
            Some(signer) => *signers.entry(signer.clone()).or_default() += 1,
            None => found.unsigned.push(path.clone()),
        }
    }
    let certificates: Vec<_> = contents.kernels.values().flat_map(|kernel| &kernel.certificates).collect();
    let signed = |(signer, modules): (Signer, usize)| {
        let of = certificates.iter().find(|c| c.issuer == signer.issuer && c.serial == signer.serial);
        Signed { key: of.map(|certificate| certificate.key), signer, modules }
    };
    found.signers = signers.into_iter().map(signed).collect();
    found
}

/// By its subject, or by cosign's tag `sha256-<hex>.sig`.
fn is_about(artifact: &Artifact, image: &Image) -> bool {
    let tag = format!("sha256-{}.", image.digest);
    artifact.manifest.subject().as_ref().is_some_and(|subject| subject.is(image.digest))
        || artifact.name().is_some_and(|name| name.starts_with(&tag))
}

fn attached(artifact: &Artifact) -> Result<Attached> {
    let tag = artifact.name().and_then(|name| name.rsplit_once('.')).map(|(_, kind)| format!("cosign tag .{kind}"));
    let kind = artifact.manifest.artifact_type().as_ref().map(ToString::to_string);
    Ok(Attached {
        what: tag.or(kind).unwrap_or_else(|| "artifact".to_owned()),
        predicate: artifact.manifest.annotations().as_ref().and_then(|all| all.get(PREDICATE)).cloned(),
        digest: artifact.descriptor.sha256()?,
    })
}

fn sbom(layout: &Layout, artifact: &Artifact) -> Result<Sbom> {
    let bad = |why: &dyn std::fmt::Display| Error::new(Class::BadInput, "cannot read the bill of materials").why(why);
    let blob = artifact.manifest.layers().first().ok_or_else(|| bad(&"its artifact is empty"))?;
    if blob.size() > SBOM_MAX {
        return Err(bad(&format!("it has {} bytes", blob.size())));
    }
    let mut text = Vec::new();
    layout.blob(blob)?.read_to_end(&mut text)?;
    spdx(&serde_json::from_slice(&text).map_err(|e| bad(&e))?)
}

/// Counts the packages of an SPDX 2.3 document.
///
/// # Errors
/// [`Class::BadInput`] when it lists none.
pub fn spdx(document: &Value) -> Result<Sbom> {
    let list = document["packages"].as_array();
    let list = list.ok_or_else(|| Error::new(Class::BadInput, "the bill of materials lists no packages"))?;
    let name = document["name"].as_str().unwrap_or_default().to_owned();
    let mut sbom = Sbom { name, kinds: BTreeMap::new(), packages: BTreeMap::new() };
    for package in list {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let references = package["externalRefs"].as_array().map(Vec::as_slice).unwrap_or_default();
        let purl = references.iter().find_map(|r| r["referenceLocator"].as_str()?.strip_prefix("pkg:"));
        let kind = purl.and_then(|purl| purl.split('/').next());
        let kind = kind.map_or_else(|| text("primaryPackagePurpose").to_lowercase(), str::to_owned);
        let kind = if kind.is_empty() { "other".to_owned() } else { kind };
        *sbom.kinds.entry(kind.clone()).or_default() += 1;
        let key = format!("{kind} {}", text("name"));
        // Two versions of one crate stand beside each other.
        let versions = sbom.packages.entry(key).or_default();
        let separator = if versions.is_empty() { "" } else { ", " };
        versions.push_str(&format!("{separator}{}", text("versionInfo")));
    }
    Ok(sbom)
}

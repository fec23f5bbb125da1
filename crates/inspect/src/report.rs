//! The report of `solana-talos inspect` on a layout.

use std::collections::BTreeMap;
use std::io::Read as _;

use common::{Class, Error, Result, Sha256};
use oci::layout::cosign_subject;
use oci::types::Named as _;
use oci::{Artifact, Image, Layout, Limits};
use serde::Serialize;
use serde_json::Value;

use crate::contents::{Certificate, Contents, Extension, Kind, Signer, Uki};

/// Artifact type of an SBOM (SPDX in JSON).
const SPDX: &str = "application/spdx+json";
/// Annotation of sigstore bundles with the predicate type.
const PREDICATE: &str = "dev.sigstore.bundle.predicateType";
/// Largest SBOM; usual ones have some hundred kilobytes.
const SBOM_MAX: u64 = 64 << 20;

/// Report on one layout.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Images.
    pub images: Vec<ImageReport>,
    /// Artifacts that belong to no image of the layout.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strays: Vec<Attached>,
}

/// Report on one image.
#[derive(Debug, Serialize)]
pub struct ImageReport {
    /// Names in the index.
    pub names: Vec<String>,
    /// Digest of the manifest.
    pub digest: Sha256,
    /// Purpose.
    pub kind: Kind,
    /// Creation time in the image config.
    pub created: Option<String>,
    /// Layers, lowest first.
    pub layers: Vec<LayerReport>,
    /// Number of regular files, including those inside initramfs and squashfs.
    pub files: usize,
    /// The kernel's release.
    pub release: Option<String>,
    /// Number of options that are set, if the kernel has its configuration built in.
    pub config_options: Option<usize>,
    /// Certificates in the kernel.
    pub certificates: Vec<Certificate>,
    /// Unified kernel images.
    pub ukis: Vec<Uki>,
    /// Modules.
    pub modules: Modules,
    /// Layers listed in the initramfs.
    pub extensions: Vec<Extension>,
    /// The manifest of an extension.
    pub manifest: Option<Extension>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// Attached signatures and attestations, not verified.
    pub attached: Vec<Attached>,
    /// The SBOM.
    pub sbom: Option<Sbom>,
    /// Result of the verification, if a key was given.
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
    /// Media type.
    pub media_type: String,
}

/// The modules of an image.
#[derive(Debug, Default, Serialize)]
pub struct Modules {
    /// Number of modules.
    pub count: usize,
    /// Number of modules by release.
    pub releases: BTreeMap<String, usize>,
    /// Signers.
    pub signers: Vec<Signed>,
    /// Paths of modules without a readable signature.
    pub unsigned: Vec<String>,
}

/// Modules of one signer.
#[derive(Debug, Serialize)]
pub struct Signed {
    /// Signer.
    #[serde(flatten)]
    pub signer: Signer,
    /// Number of modules.
    pub modules: usize,
    /// SHA-256 of the signer's key, if the kernel in the image has the certificate.
    pub key: Option<Sha256>,
}

/// A signature or attestation.
#[derive(Clone, Debug, Serialize)]
pub struct Attached {
    /// Artifact type, or kind of cosign tag.
    pub what: String,
    /// Predicate type, if known.
    pub predicate: Option<String>,
    /// Digest of its manifest.
    pub digest: Sha256,
}

/// Summary of an SBOM.
#[derive(Clone, Debug, Serialize)]
pub struct Sbom {
    /// Name of the document.
    pub name: String,
    /// Number of packages by type of their package URL.
    pub kinds: BTreeMap<String, usize>,
    /// Version by kind and name.
    #[serde(skip)]
    pub packages: BTreeMap<String, String>,
}

/// Result of the verification.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Whether everything required is present and signed with the key.
    pub good: bool,
    /// What was verified, or the error.
    pub detail: String,
}

/// Reads all images of `layout`.
///
/// # Errors
/// As [`Contents::read`]; [`Class::UntrustedData`] when there is no image.
pub fn report(layout: &Layout, limits: Limits) -> Result<(Report, Vec<Contents>)> {
    let (images, artifacts) = (layout.images()?, layout.artifacts()?);
    if images.is_empty() {
        let kinds: Vec<_> =
            artifacts.iter().map(|artifact| format!("an artifact of type {}", kind(artifact))).collect();
        let error = Error::new(Class::UntrustedData, "there is no image for linux/amd64");
        return Err(if kinds.is_empty() { error } else { error.why(format!("there is {}", kinds.join(", "))) });
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

/// Whether `artifact` refers to `image`, by subject or by cosign's tag `sha256-<hex>.sig`.
fn is_about(artifact: &Artifact, image: &Image) -> bool {
    let tag = format!("sha256-{}.", image.digest);
    artifact.manifest.subject().as_ref().is_some_and(|subject| subject.is(image.digest))
        || artifact.name().is_some_and(|name| name.starts_with(&tag))
}

/// The type of an artifact: its own, or else that of its config (image-spec, manifest.md, `artifactType`).
fn kind(artifact: &Artifact) -> String {
    artifact.manifest.artifact_type().as_ref().unwrap_or(artifact.manifest.config().media_type()).to_string()
}

fn attached(artifact: &Artifact) -> Result<Attached> {
    let tag = artifact.name().filter(|name| cosign_subject(name).is_some()).and_then(|name| name.rsplit_once('.'));
    Ok(Attached {
        what: tag.map_or_else(|| kind(artifact), |(_, kind)| format!("cosign tag .{kind}")),
        predicate: artifact.manifest.annotations().as_ref().and_then(|all| all.get(PREDICATE)).cloned(),
        digest: artifact.descriptor.sha256()?,
    })
}

fn sbom(layout: &Layout, artifact: &Artifact) -> Result<Sbom> {
    let bad = |why: &dyn std::fmt::Display| Error::new(Class::UntrustedData, "SBOM is malformed").why(why);
    let blob = artifact.manifest.layers().first().ok_or_else(|| bad(&"the artifact is empty"))?;
    if blob.size() > SBOM_MAX {
        return Err(bad(&format!("{} bytes (max {SBOM_MAX})", blob.size())));
    }
    let mut text = Vec::new();
    layout.blob(blob)?.read_to_end(&mut text)?;
    spdx(&serde_json::from_slice(&text).map_err(|e| bad(&e))?)
}

/// Counts the packages of an SPDX 2.3 document.
pub fn spdx(document: &Value) -> Result<Sbom> {
    let list = document["packages"].as_array();
    let list = list.ok_or_else(|| Error::new(Class::UntrustedData, "SBOM lists no packages"))?;
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
        // There may be two versions of one crate.
        let versions = sbom.packages.entry(key).or_default();
        let separator = if versions.is_empty() { "" } else { ", " };
        versions.push_str(&format!("{separator}{}", text("versionInfo")));
    }
    Ok(sbom)
}

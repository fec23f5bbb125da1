//! Shared by the tests.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use attest::crates::Crate;
use attest::go_modules::GoModule;
use attest::provenance::{Build, Parameters};
use attest::sbom::{self, DebianPackage, Ingredients, Kernel, Module, SourceBase, Userland};
use attest::{Material, Predicates, SigningSession, Subject, sign};
use common::{Result, Sha256};
use keys::{Algorithm, Identity, OrPending, Pending, PublicKey, Signer};
use oci::types::{self, Descriptor};
use oci::{FileMap, Layout, NewImage, Writer};
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::EncodePublicKey as _;

pub const EPOCH: u64 = 1_735_689_600;
pub const NAMES: [&str; 2] = ["ghcr.io/our-org/sample:latest", "ghcr.io/our-org/sample:v1"];

/// A key whose secret is a small number, with deterministic nonces (RFC 6979).
pub struct TestKey {
    key: SigningKey,
    identity: Identity,
}

impl std::fmt::Debug for TestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TestKey")
    }
}

impl TestKey {
    pub fn number(number: u8) -> Self {
        let mut secret = [0; 32];
        secret[31] = number;
        let key = SigningKey::from_slice(&secret).unwrap();
        let public = PublicKey::from_der(key.verifying_key().to_public_key_der().unwrap().as_bytes()).unwrap();
        Self { key, identity: Identity { algorithm: Algorithm::EcdsaP256Sha256, public, certificate: None } }
    }

    pub fn public(&self) -> PublicKey {
        self.identity.public.clone()
    }
}

impl Signer for TestKey {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn sign(&self, digest: &[u8], _what: &str) -> Result<OrPending<Vec<u8>>> {
        let signature: DerSignature = self.key.sign_prehash(digest).unwrap();
        Ok(Ok(signature.as_bytes().to_vec()))
    }
}

/// An external signer: records requests, and returns the signatures that are available.
#[derive(Debug)]
pub struct Detached {
    pub key: TestKey,
    pub requests: Mutex<BTreeMap<Vec<u8>, String>>,
    pub signatures: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Signer for Detached {
    fn identity(&self) -> &Identity {
        &self.key.identity
    }

    fn sign(&self, digest: &[u8], what: &str) -> Result<OrPending<Vec<u8>>> {
        self.requests.lock().unwrap().insert(digest.to_vec(), what.to_owned());
        Ok(self.signatures.get(digest).cloned().ok_or(Pending))
    }
}

/// Writes a layout with one image that contains `text`, with the names [`NAMES`].
pub fn layout(dest: &Path, text: &str) -> Layout {
    named_layout(dest, text, &NAMES)
}

pub fn named_layout(dest: &Path, text: &str, names: &[&str]) -> Layout {
    let mut files = FileMap::new();
    files.bytes("etc/motd", text, 0o644).unwrap();
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let image = NewImage { names: &names, created: EPOCH, ..NewImage::default() };
    Writer::one_image(dest, &files, image).unwrap();
    Layout::open(dest).unwrap()
}

pub fn material(name: &str, uri: &str) -> Material {
    Material { name: name.to_owned(), uri: uri.to_owned(), sha256: Sha256::of(name) }
}

pub fn ingredients() -> Ingredients {
    let part = |name: &str, linked| Crate {
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        licence: Some("MIT OR Apache-2.0".to_owned()),
        sha256: Some(Sha256::of(name)),
        linked,
    };
    Ingredients {
        tool: "0.1.0".to_owned(),
        kernel: Kernel {
            version: "6.12.117".to_owned(),
            release: "6.12.117-talos".to_owned(),
            source: material(
                "linux-source-6.12_6.12.117-1_all.deb",
                "pkg:deb/debian/linux-source-6.12@6.12.117-1?arch=all",
            ),
            overlay: Sha256::of("overlay"),
            patches: vec![
                ("0001-one.patch".to_owned(), Sha256::of("1")),
                ("0002-two.patch".to_owned(), Sha256::of("2")),
            ],
        },
        module: Module {
            name: "solana_optimizer".to_owned(),
            version: "0.1.0".to_owned(),
            sources: Sha256::of("module"),
        },
        toolchain: [
            ("clang-19", "1:19.1.7-3+b1"),
            ("libstdc++6", "14.2.0-19"),
            ("systemd-boot-efi", "257.13-1~deb13u1"),
        ]
        .map(|(name, version)| DebianPackage {
            name: name.to_owned(),
            version: version.to_owned(),
            purl: common::purl::debian(name, version, "amd64"),
            sha256: Sha256::of(name),
        })
        .into(),
        base: Userland::Testbed { version: "0.1.0".to_owned(), crates: vec![part("rustix", true), part("syn", false)] },
    }
}

/// A base with one Debian package and two Go modules.
pub fn source_base() -> SourceBase {
    let module =
        |name: &str| GoModule { name: name.to_owned(), version: "v1.0.0".to_owned(), sha256: Sha256::of(name) };
    SourceBase {
        version: "v1.10.3".to_owned(),
        packages: ingredients().toolchain.split_off(2),
        modules: vec![module("github.com/BurntSushi/toml"), module("x.org/y/v2")],
    }
}

/// An SBOM of each kind for `image`, by name.
pub fn documents(image: &Subject) -> Vec<(&'static str, serde_json::Value)> {
    let of = |kind, ingredients: &Ingredients| sbom::document(image, kind, ingredients).unwrap();
    let (testbed, mut images, mut talos) = (ingredients(), ingredients(), ingredients());
    let publisher = Some("ghcr.io/siderolabs".to_owned());
    images.base = Userland::Images { version: "v1.10.3".to_owned(), digest: Sha256::of("base"), publisher };
    talos.base = Userland::Source(source_base());
    vec![
        ("base", sbom::base_document(image, &source_base(), "0.1.0").unwrap()),
        ("devel", of(sbom::Kind::Devel, &testbed)),
        ("extension", of(sbom::Kind::Extension, &testbed)),
        ("images", of(sbom::Kind::Installer, &images)),
        ("installer", of(sbom::Kind::Installer, &testbed)),
        ("kernel", of(sbom::Kind::Kernel, &testbed)),
        ("talos", of(sbom::Kind::Installer, &talos)),
    ]
}

pub fn parameters() -> Parameters {
    Parameters {
        profile: "vm".to_owned(),
        preset: "spec".to_owned(),
        base: "testbed".to_owned(),
        extra_kernel_arguments: vec!["quiet".to_owned()],
        registry: "ghcr.io/our-org".to_owned(),
        tag: "v1".to_owned(),
        kernel_source: "debian".to_owned(),
    }
}

pub fn predicates(image: &Subject) -> Result<Predicates> {
    let build = Build {
        parameters: &parameters(),
        internal: BTreeMap::from([("kernelRelease".to_owned(), "6.12.117-talos".into())]),
        materials: &[
            material("linux-source-6.12_6.12.117-1_all.deb", "pkg:deb/debian/linux-source-6.12@6.12.117-1?arch=all"),
            material("base", "pkg:oci/installer-base"),
        ],
        tool: "0.1.0",
    };
    let sbom = sbom::document(image, sbom::Kind::Installer, &ingredients())?;
    Ok(Predicates { sbom: Some(sbom), provenance: Some(build.predicate()?) })
}

/// Signs the layout at `path` in place, with all predicates.
pub fn signed(path: &Path, key: &dyn Signer) -> Layout {
    let layout = Layout::open(path).unwrap();
    let mut session = SigningSession::new(key).unwrap();
    sign(&layout, path, &mut session, &mut predicates).unwrap();
    session.finish().unwrap();
    Layout::open(path).unwrap()
}

/// Writes a layout with one signed image.
pub fn sample(path: &Path, text: &str, key: &dyn Signer) -> Layout {
    layout(path, text);
    signed(path, key)
}

/// Edits the entries of the index.
pub fn edit_index(path: &Path, edit: impl FnOnce(&mut Vec<Descriptor>)) {
    let mut entries = Layout::open(path).unwrap().index().unwrap().manifests().clone();
    edit(&mut entries);
    std::fs::write(path.join("index.json"), types::canonical(&types::index(entries)).unwrap()).unwrap();
}

/// Points `entry` at other content.
pub fn point(entry: &mut Descriptor, digest: Sha256, size: u64) {
    entry.set_digest(digest.oci().parse().unwrap()).set_size(size);
}

/// Stores `bytes` as a blob.
pub fn put(path: &Path, bytes: &[u8]) -> (Sha256, u64) {
    let digest = Sha256::of(bytes);
    std::fs::write(path.join("blobs/sha256").join(digest.to_string()), bytes).unwrap();
    (digest, bytes.len() as u64)
}

pub fn blob(path: &Path, digest: Sha256) -> Vec<u8> {
    std::fs::read(path.join("blobs/sha256").join(digest.to_string())).unwrap()
}

/// Returns the content of all files below `dir` by name.
pub fn tree(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(tree(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
    found
}

/// Compares with the golden file `name`; `UPDATE_GOLDEN=1` rewrites it.
pub fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name} changed: if intended, rewrite it with UPDATE_GOLDEN=1");
}

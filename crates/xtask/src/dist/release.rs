//! The files of a release.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use attest::{Predicates, SigningSession, Subject, sbom};
use common::{Sha256, atomic};
use fs_err as fs;
use keys::{KeySet, Role};
use oci::types::RunConfig;
use oci::{Entry, FileMap, Layout, NewImage, Writer, layer, tarball};

use super::contents::Contents;
use super::texts;

/// Name of the program and of its image.
pub const NAME: &str = "solana-talos";

/// The image in a release.
const IMAGE: &str = "solana-talos.oci.tar";

/// The checksums of all other files.
pub const SUMS: &str = "SHA256SUMS";

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How writing a release ended.
#[derive(Debug)]
pub enum Outcome {
    /// It is complete.
    Written,
    /// Signatures of an external signer are pending: which, and what to do next.
    Pending(String),
}

/// Writes a release to the directory `out`, replacing an earlier one. Every time in it is `time`; the image is named below `registry`; the image
/// key of `set` signs.
pub fn write(out: &Path, contents: &Contents, time: u64, registry: &str, set: Option<&KeySet>) -> Result<Outcome> {
    check_replaceable(out)?;
    let work = atomic::sibling(out, "part");
    atomic::empty_dir(&work)?;
    let signer = set.map(|set| set.signer(Role::Image)).transpose()?;
    let mut session = signer.as_deref().map(SigningSession::new).transpose()?;
    fs::copy(&contents.program, work.join(NAME))?;
    archive(&work, contents, time)?;
    image(&work, contents, time, registry, session.as_mut())?;
    if let Some(session) = &session {
        fs::write(work.join("image.pub.pem"), session.key().to_pem()?)?;
    }
    sums(&work, session.as_mut())?;
    if let (Some(set), Some(Err(_))) = (set, session.map(|session| session.finish())) {
        atomic::remove_dir(&work)?;
        return Ok(Outcome::Pending(set.pending()));
    }
    atomic::replace_dir(&work, out)?;
    Ok(Outcome::Written)
}

/// Fails if `out` is something else than an earlier release: it is replaced as a whole.
fn check_replaceable(out: &Path) -> Result<()> {
    let empty = std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
    let replaceable = out.symlink_metadata().is_err() || empty || out.join(IMAGE).is_file();
    ensure!(
        replaceable,
        "cannot write a release to {}: the directory exists and holds something else; choose another name",
        out.display()
    );
    Ok(())
}

/// The program with completions, manual pages and licences, to be unpacked in `/usr/local`.
fn archive(work: &Path, contents: &Contents, time: u64) -> Result<()> {
    let mut files = contents.licences.clone();
    files.host(&format!("bin/{NAME}"), &contents.program, 0o755)?;
    texts::add(&mut files)?;
    let path = work.join(format!("{NAME}-{VERSION}-linux-amd64.tar.gz"));
    layer::write(&files, time, fs::File::create(path)?)?;
    Ok(())
}

/// The image of the program, with certificate authorities, its signatures and its SBOM; and the SBOM as a file.
fn image(
    work: &Path,
    contents: &Contents,
    time: u64,
    registry: &str,
    session: Option<&mut SigningSession<'_>>,
) -> Result<()> {
    let layout = work.join("layout");
    let names = [format!("{registry}/{NAME}:v{VERSION}")];
    let config = RunConfig { entrypoint: Some(vec![format!("/usr/bin/{NAME}")]), ..RunConfig::default() };
    Writer::one_image(
        &layout,
        &root(contents)?,
        NewImage { names: &names, created: time, config, ..NewImage::default() },
    )?;
    let opened = Layout::open(&layout)?;
    let subject = attest::subjects(&opened)?.pop().context("the layout has no image")?;
    let document = document(&subject, contents)?;
    fs::write(work.join(format!("{NAME}.spdx.json")), serde_json::to_vec_pretty(&document)?)?;
    if let Some(session) = session {
        let mut predicates = |_: &Subject| Ok(Predicates { sbom: Some(document.clone()), provenance: None });
        attest::sign(&opened, &layout, session, &mut predicates)?;
    }
    tarball::pack(&layout, &work.join(IMAGE))?;
    Ok(atomic::remove_dir(&layout)?)
}

/// The root of the image: what a program finds in the same places on Debian.
fn root(contents: &Contents) -> Result<FileMap> {
    let mut files = FileMap::new();
    files.host(&format!("usr/bin/{NAME}"), &contents.program, 0o755)?;
    files.host("etc/ssl/certs/ca-certificates.crt", &contents.authorities, 0o644)?;
    files.host("usr/share/doc/ca-certificates/copyright", &contents.authorities_licence, 0o644)?;
    for (path, entry) in contents.licences.iter().filter(|(_, entry)| matches!(entry, Entry::File { .. })) {
        files.insert(&format!("usr/{path}"), entry.clone())?;
    }
    files.insert("tmp", Entry::Dir { mode: 0o1777 })?;
    Ok(files)
}

fn document(subject: &Subject, contents: &Contents) -> Result<serde_json::Value> {
    let program = sbom::Program {
        name: NAME.to_owned(),
        version: VERSION.to_owned(),
        sha256: Sha256::of_file(&contents.program)?,
        crates: contents.crates.clone(),
        packages: vec![contents.package.clone()],
    };
    Ok(sbom::program_document(subject, &program, VERSION)?)
}

/// The digests of all other files, and a detached signature of them.
fn sums(work: &Path, session: Option<&mut SigningSession<'_>>) -> Result<()> {
    let mut names: Vec<_> = fs::read_dir(work)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort_unstable();
    let line = |name: &String| Ok(format!("{}  {name}\n", Sha256::of_file(&work.join(name))?));
    let text = names.iter().map(line).collect::<Result<String>>()?;
    fs::write(work.join(SUMS), &text)?;
    let signature = session.map(|session| session.sign(text.as_bytes(), SUMS)).transpose()?;
    match signature.flatten() {
        Some(signature) => Ok(fs::write(work.join(format!("{SUMS}.sig")), signature)?),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use attest::crates::Crate;
    use attest::sbom::DebianPackage;
    use common::sandbox::{Run, Sandbox};
    use keys::{Algorithm, PublicKey};
    use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};

    use super::*;

    const TIME: u64 = 1_796_000_000;
    const REGISTRY: &str = "example.org/acme";

    /// Stand-ins for the program and what goes with it, and a key set with an image key.
    struct Scene {
        dir: tempfile::TempDir,
        contents: Contents,
    }

    impl Scene {
        fn new(program: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let file = |name: &str, text: &str| {
                let path = dir.path().join(name);
                atomic::write(&path, text).unwrap();
                path
            };
            let key = p256::SecretKey::from_slice(&[7; 32]).unwrap();
            let private = file("keys/image.key.pem", &key.to_pkcs8_pem(LineEnding::LF).unwrap());
            fs::set_permissions(private, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            let public = key.public_key().to_public_key_pem(LineEnding::LF).unwrap();
            file("keys/image.pub.pem", &public);
            file("public/image.pub.pem", &public);
            let mut licences = FileMap::new();
            licences.bytes("share/doc/solana-talos/crates/demo-1.0.0/LICENSE", "as is", 0o644).unwrap();
            let sha256 = Some(Sha256::of("demo"));
            let demo = Crate {
                name: "demo".into(),
                version: "1.0.0".into(),
                licence: Some("MIT".into()),
                sha256,
                linked: true,
            };
            let package = DebianPackage {
                name: "ca-certificates".into(),
                version: "1".into(),
                purl: "pkg:deb/debian/ca-certificates@1".into(),
                sha256: Sha256::of("deb"),
            };
            let contents = Contents {
                program: file("program", program),
                crates: vec![demo],
                licences,
                authorities: file("authorities.crt", "-----BEGIN CERTIFICATE-----"),
                authorities_licence: file("copyright", "MPL"),
                package,
            };
            Self { dir, contents }
        }

        fn keys(&self, name: &str) -> KeySet {
            KeySet::open(&self.dir.path().join(name)).unwrap()
        }

        fn write(&self, out: &Path, set: Option<&KeySet>) -> Outcome {
            write(out, &self.contents, TIME, REGISTRY, set).unwrap()
        }
    }

    fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
        let entry = |entry: std::io::Result<fs::DirEntry>| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap())
        };
        fs::read_dir(dir).unwrap().map(entry).collect()
    }

    #[test]
    fn equal_contents_give_equal_bytes_and_others_give_others() {
        let release = |program: &str| {
            let scene = Scene::new(program);
            let out = scene.dir.path().join("out");
            assert!(matches!(scene.write(&out, Some(&scene.keys("keys"))), Outcome::Written));
            files(&out)
        };
        let (first, second, other) = (release("a"), release("a"), release("b"));
        assert!(first == second, "two releases differ");
        let archive = format!("solana-talos-{VERSION}-linux-amd64.tar.gz");
        let all = [
            "SHA256SUMS",
            "SHA256SUMS.sig",
            "image.pub.pem",
            NAME,
            &archive,
            "solana-talos.oci.tar",
            "solana-talos.spdx.json",
        ];
        assert_eq!(first.keys().map(String::as_str).collect::<Vec<_>>(), all);
        for name in all {
            assert_eq!(first[name] == other[name], name == "image.pub.pem", "{name}");
        }
    }

    #[test]
    fn the_checksums_are_signed_and_cover_every_other_file() {
        let scene = Scene::new("a");
        let out = scene.dir.path().join("out");
        scene.write(&out, Some(&scene.keys("keys")));
        let files = files(&out);
        let sums = String::from_utf8(files[SUMS].clone()).unwrap();
        let listed: Vec<_> = sums.lines().map(|line| line.split_once("  ").unwrap()).collect();
        assert_eq!(listed.len(), files.len() - 2);
        for (digest, name) in listed {
            assert_eq!(digest, Sha256::of(&files[name]).to_string(), "{name}");
        }
        let key = PublicKey::from_pem(&files["image.pub.pem"]).unwrap();
        let verify =
            |text: &str| key.verify(Algorithm::EcdsaP256Sha256, Sha256::of(text).bytes(), &files["SHA256SUMS.sig"]);
        verify(&sums).unwrap();
        verify(&sums.replacen('a', "b", 1)).unwrap_err();
    }

    #[test]
    fn without_keys_nothing_is_signed_and_with_an_external_signer_nothing_is_written() {
        let scene = Scene::new("a");
        let out = scene.dir.path().join("out");
        let set = scene.keys("public").sign_later(&scene.dir.path().join("later")).unwrap();
        let Outcome::Pending(what) = scene.write(&out, Some(&set)) else { panic!("it is signed") };
        assert!(what.contains("later") && !out.exists(), "{what}");
        scene.write(&out, None);
        assert!(out.join(SUMS).exists() && !out.join("SHA256SUMS.sig").exists());
    }

    #[test]
    fn only_a_release_is_replaced() {
        let scene = Scene::new("a");
        let out = scene.dir.path().join("out");
        scene.write(&out, None);
        scene.write(&out, None);
        let error = write(&scene.dir.path().join("keys"), &scene.contents, TIME, REGISTRY, None).unwrap_err();
        assert!(error.to_string().contains("holds something else"), "{error}");
        assert!(scene.dir.path().join("keys/image.key.pem").exists());
    }

    /// The commands of docs/install.md.
    const CHECK: &str = r#"
sha256sum --check --quiet SHA256SUMS
openssl dgst -sha256 -verify image.pub.pem -signature SHA256SUMS.sig SHA256SUMS
mkdir /tmp/layout /tmp/local
tar -xf solana-talos.oci.tar -C /tmp/layout
cosign verify --local-image --key image.pub.pem --insecure-ignore-tlog /tmp/layout >/dev/null 2>&1
skopeo --tmpdir /tmp inspect --format '{{.Created}}' "oci-archive:solana-talos.oci.tar:$1"
tar -xzf solana-talos-*-linux-amd64.tar.gz -C /tmp/local
cat /tmp/local/bin/solana-talos
bash -n /tmp/local/share/bash-completion/completions/solana-talos
echo changed >>image.pub.pem
if sha256sum --check --quiet SHA256SUMS >/dev/null 2>&1; then exit 9; fi
"#;

    #[test]
    fn reference_tools_take_the_release() {
        let Some(rootfs) = skip::toolchain(&["openssl", "cosign", "skopeo", "bash"]) else { return };
        let scene = Scene::new("the program");
        let out = scene.dir.path().join("out");
        scene.write(&out, Some(&scene.keys("keys")));
        let name = format!("{REGISTRY}/{NAME}:v{VERSION}");
        let run = Run::script(CHECK, &[&name]).write(&out, "/build/out").directory("/build/out");
        let printed = String::from_utf8(Sandbox::new(rootfs).output(&run).unwrap()).unwrap();
        assert_eq!(printed, "Verified OK\n2026-11-30 00:53:20 +0000 UTC\nthe program");
    }
}

//! Replays the corpus, complete and truncated, so that CI covers what the fuzzer found; and writes the seeds.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

use std::path::{Path, PathBuf};

use formats::samples::{bzimage_of, elf, gzip, pe, xz, zstd};
use fuzz::TARGETS;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(corpus(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn no_input_panics() {
    for (target, _) in TARGETS {
        let inputs = inputs(target);
        assert!(!inputs.is_empty(), "{target} has no corpus: UPDATE_CORPUS=1 cargo test -p solana-talos-fuzz");
        for input in inputs {
            let bytes = std::fs::read(&input).unwrap();
            // Report the input: the panic message does not name it.
            let name = input.file_name().unwrap().to_owned();
            for cut in [8, 7, 4, 1] {
                let part = bytes[..bytes.len() * cut / 8].to_vec();
                let result = std::panic::catch_unwind(move || fuzz::run(target, &part));
                assert!(result.is_ok(), "{target} panics on the first {cut}/8 of {name:?}");
            }
        }
    }
}

/// Each target has a libFuzzer program and a corpus, and there are no others.
#[test]
fn targets_programs_and_corpora_match() {
    let names = |dir: &str, end: &str| {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = entries.filter_map(|name| name.strip_suffix(end).map(str::to_owned)).collect();
        names.sort();
        names
    };
    let targets: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("libfuzzer/targets", ".rs"), targets);
    assert_eq!(names("corpus", ""), targets);
}

/// A seed that is rejected at once is useless to the fuzzer.
#[test]
fn seeds_are_valid() {
    let read = |target: &str, name: &str| std::fs::read(corpus(target).join(name)).unwrap();
    let text = |target: &str, name: &str| String::from_utf8(read(target, name)).unwrap();
    formats::pe_append::Appender::new(&read("pe", "stub")).unwrap();
    assert!(imager::initramfs::inspect(&read("initramfs", "layers")).unwrap().layers.is_some());
    kernel_config::devel::Record::parse(&text("record", "record")).unwrap();
    extension::service::Service::parse(&text("service", "hello"), "hello").unwrap();
    let document = |name: &str| text("evidence", name).split_once('\n').unwrap().1.to_owned();
    attest::simple::Payload::parse(document("payload").as_bytes()).unwrap();
    attest::bundle::Bundle::parse(document("bundle").as_bytes()).unwrap();
    serde_json::from_str::<attest::dsse::Envelope>(&document("envelope")).unwrap();
    attest::encoding::decode(text("evidence", "payload").lines().next().unwrap()).unwrap();
}

/// With `UPDATE_CORPUS=1`, writes the seeds; otherwise checks that they exist.
#[test]
fn the_seeds_exist() {
    for (target, name, bytes) in seeds() {
        let path = corpus(target).join(name);
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            std::fs::create_dir_all(corpus(target)).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        assert!(path.is_file(), "{} is missing: UPDATE_CORPUS=1 cargo test -p solana-talos-fuzz", path.display());
    }
}

type Seed = (&'static str, &'static str, Vec<u8>);

fn seeds() -> Vec<Seed> {
    let mut seeds = texts();
    seeds.extend(evidence());
    let data = |name: &str| {
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../inspect/tests/data").join(name)).unwrap()
    };
    seeds.extend(formats::samples::SQUASHFS.map(|(name, bytes)| ("squashfs", name, bytes.to_vec())));
    seeds.push(("module", "signature.p7s", data("signature.p7s")));
    let message = data("signature.p7s");
    let info = [&[0, 0, 2, 0, 0, 0, 0, 0], &u32::try_from(message.len()).unwrap().to_be_bytes()[..]].concat();
    seeds.push(("module", "signed", [&module()[..], &message, &info, b"~Module signature appended~\n"].concat()));
    seeds.push(("module", "elf", module()));
    let archive = cpio();
    seeds.push(("cpio", "two-files", archive.clone()));
    let packed = zstd(&archive);
    seeds.push(("initramfs", "plain-and-zstd", [archive.clone(), packed.clone()].concat()));
    seeds.push(("initramfs", "xz", xz(&archive)));
    seeds.push(("initramfs", "gzip", gzip(&archive)));
    let tar = tar();
    seeds.push(("tar", "kinds", tar.clone()));
    seeds.push(("layer", "plain", [&[0], &tar[..]].concat()));
    seeds.push(("layer", "gzip", [&[1], &gzip(&tar)[..]].concat()));
    seeds.push(("layer", "zstd", [&[2], &zstd(&tar)[..]].concat()));
    seeds.push(("layer", "extension", [&[0], &extension()[..]].concat()));
    seeds.push(("initramfs", "layers", layers()));
    seeds.push(("pe", "sections", uki()));
    seeds.push(("pe", "stub", stub()));
    seeds.push(("kernel", "bzimage", kernel()));
    seeds.push(("compare", "archives", [&packed[..], &zstd::encode_all(&cpio()[..], 19).unwrap()].concat()));
    seeds.push(("compare", "programs", [module(), module()].concat()));
    seeds
}

/// Attestations of the image with an empty manifest, with invalid signatures.
fn evidence() -> Vec<Seed> {
    let payload = r#"{"critical":{"identity":{"docker-reference":"ghcr.io/a/b"},"image":{"docker-manifest-digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},"type":"cosign container image signature"},"optional":null}"#;
    let statement = r#"{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"a","digest":{"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}],"predicateType":"https://spdx.dev/Document","predicate":{}}"#;
    let envelope = format!(
        r#"{{"payload":"{}","payloadType":"application/vnd.in-toto+json","signatures":[{{"sig":"MEUC"}}]}}"#,
        attest::encoding::encode(statement.as_bytes())
    );
    let bundle = format!(
        r#"{{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{{"publicKey":{{"hint":"aa"}}}},"dsseEnvelope":{envelope}}}"#
    );
    [("payload", payload), ("envelope", &envelope), ("bundle", &bundle)]
        .map(|(name, document)| ("evidence", name, format!("MEUCIQ==\n{document}").into_bytes()))
        .into()
}

fn texts() -> Vec<Seed> {
    let text = |target, name, text: &str| (target, name, text.as_bytes().to_vec());
    let index = r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"@1","size":#1,"annotations":{"org.opencontainers.image.ref.name":"ghcr.io/a/b:c"}}]}"#;
    let config = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let manifest = r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"@0","size":#0},"layers":[]}"#;
    let artifact = r#"{"schemaVersion":2,"artifactType":"application/spdx+json","subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"@1","size":#1},"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"@0","size":#0},"layers":[{"mediaType":"application/spdx+json","digest":"@0","size":#0}]}"#;
    let with_artifact = index.replace(
        "}}]}",
        r#"}},{"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/spdx+json","digest":"@2","size":#2}]}"#,
    );
    let join = |documents: &[&str]| {
        documents.join("\u{1}").into_bytes().iter().map(|b| if *b == 1 { 0xff } else { *b }).collect()
    };
    let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    vec![
        ("layout", "image", join(&[index, config, manifest])),
        ("layout", "artifact", join(&[&with_artifact, config, manifest, artifact])),
        text("reference", "tag", "ghcr.io/our-org/kernel:custom-solana-v1.10.3"),
        text("reference", "digest", &format!("127.0.0.1:5000/a/b-c__d.e:latest@{digest}")),
        text(
            "record",
            "record",
            &format!(
                r#"{{"schema":1,"release":"6.12.117-talos","toolchain":"{0}","compilers":{{"gcc-14":"14.2.0-19"}},"config":"{0}","certificate":"{0}"}}"#,
                &digest[7..]
            ),
        ),
        text(
            "service",
            "hello",
            "name: hello\ncontainer:\n  entrypoint: ./hello\n  args: [-v]\n  mounts:\n  - {source: /run, destination: /run, type: bind, options: [rbind, ro]}\n  security: {writeableSysfs: true, rootfsPropagation: shared}\ndepends:\n- service: cri\n- network: [addresses]\n- time: true\nrestart: untilSuccess\nlogToConsole: true\n",
        ),
        text("manifest", "extension", include_str!("../../../extension/solana-optimizer.yaml")),
        text(
            "yaml_layers",
            "two",
            "layers:\n- image: 0.sqsh\n  metadata: {name: a, version: v1}\n- image: 1.sqsh\n  metadata:\n    name: b\n    version: v1\n    description: |\n      two\n      lines\n    compatibility: {talos: {version: \">= v1.10.0\"}}\n",
        ),
        text("dotconfig", "short", "# Linux\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x y\"\nCONFIG_D=0x10\n"),
        text(
            "attestation",
            "statement",
            &format!(
                r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"name":"a","digest":{{"sha256":"{}"}}}}],"predicateType":"https://spdx.dev/Document","predicate":{{"spdxVersion":"SPDX-2.3"}}}}"#,
                &digest[7..]
            ),
        ),
        text(
            "attestation",
            "payload",
            &format!(
                r#"{{"critical":{{"identity":{{"docker-reference":"ghcr.io/a/b"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
            ),
        ),
        text(
            "attestation",
            "bundle",
            r#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":"aa"}},"dsseEnvelope":{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"MEUC"}]}}"#,
        ),
        text(
            "attestation",
            "spdx",
            r#"{"spdxVersion":"SPDX-2.3","name":"kernel","packages":[{"name":"make","versionInfo":"4.4","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:deb/debian/make@4.4"}]}]}"#,
        ),
        text("keys", "public.pem", KEY),
        text(
            "registry",
            "challenge",
            r#"Bearer realm="https://auth.example/token",service="ghcr.io",scope="repository:a/b:pull,push", Basic realm=x"#,
        ),
        text("registry", "token", r#"{"token":"abc","access_token":"def","expires_in":300}"#),
        text(
            "registry",
            "logins",
            r#"{"auths":{"ghcr.io":{"auth":"dXNlcjpwYXNz"}},"credHelpers":{"quay.io":"pass"},"credsStore":"x"}"#,
        ),
        text("registry", "helper", r#"{"ServerURL":"ghcr.io","Username":"u","Secret":"s"}"#),
        text("registry", "errors", r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down","detail":{"a":1}}]}"#),
        text("registry", "referrers", &index.replace("@1", digest).replace("#1", "7")),
    ]
}

/// A public key whose private key was not kept.
const KEY: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEv/55w91owiIDVFl61BxXHhXbgBKc
Qxj6uQEZt53O2+XPPTba1NF7r6+YzqpBQE2iOXrVinMp59USLcbHPLu+BA==
-----END PUBLIC KEY-----
";

fn cpio() -> Vec<u8> {
    let mut writer = formats::cpio::Writer::default();
    writer.file("extensions.yaml", 0o644, b"layers: []\n".to_vec()).unwrap();
    writer.symlink("bin", "usr/bin").unwrap();
    writer.finish(7)
}

/// An initramfs that lists one layer.
fn layers() -> Vec<u8> {
    let mut writer = formats::cpio::Writer::default();
    writer.file("init", 0o755, b"\x7fELF".to_vec()).unwrap();
    writer.file("0.sqsh", 0o644, b"hsqs".to_vec()).unwrap();
    let list = b"layers:\n- image: 0.sqsh\n  metadata: {name: a, version: v1}\n";
    writer.file("extensions.yaml", 0o644, list.to_vec()).unwrap();
    zstd(&writer.finish(7))
}

/// The tar of an image with something for every part of a report.
fn extension() -> Vec<u8> {
    let manifest = include_bytes!("../../../extension/solana-optimizer.yaml");
    pack(&[
        (tar::EntryType::Regular, "manifest.yaml", "", manifest),
        (tar::EntryType::Regular, "rootfs/usr/lib/modules/6.12.117-talos/extras/a.ko", "", &module()),
        (tar::EntryType::Regular, "usr/install/amd64/vmlinuz.efi", "", &uki()),
        (tar::EntryType::Regular, "usr/install/amd64/initramfs.xz", "", &layers()),
        (tar::EntryType::Regular, "boot/vmlinuz", "", &kernel()),
    ])
}

fn tar() -> Vec<u8> {
    use tar::EntryType as T;
    pack(&[
        (T::Directory, "a", "", b""),
        (T::Regular, "a/file", "", b"hello"),
        (T::XHeader, "pax", "", b"12 path=b/c\n"),
        (T::Regular, "short", "", b"x"),
        (T::GNULongName, "long", "", &b"d/".repeat(60)),
        (T::Symlink, "x", "../a", b""),
        (T::Link, "h", "a/file", b""),
        (T::Regular, "a/.wh.file", "", b""),
    ])
}

fn pack(entries: &[(tar::EntryType, &str, &str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for &(kind, path, link, data) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(data.len() as u64);
        header.set_path(path).unwrap();
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        header.set_cksum();
        tar.append(&header, data).unwrap();
    }
    tar.into_inner().unwrap()
}

/// An ELF file with a `.modinfo`.
fn module() -> Vec<u8> {
    elf(&[(".modinfo", b"\0license=GPL\0vermagic=6.12.117-talos SMP\0")])
}

/// A unified kernel image.
fn uki() -> Vec<u8> {
    pe(&[".sbat", ".osrel", ".cmdline", ".uname", ".linux", ".initrd", ".profile"].map(|name| (name, &b"xxxxx"[..])))
}

/// A PE image with space for another section.
fn stub() -> Vec<u8> {
    let mut bytes = uki();
    (bytes[0x46], bytes[0x58 + 108]) = (3, 0);
    bytes
}

/// A bzImage with an EFI stub and a built-in configuration.
fn kernel() -> Vec<u8> {
    let vmlinux = [b"IKCFG_ST", &gzip(b"CONFIG_A=y\n")[..], b"IKCFG_ED"].concat();
    bzimage_of("6.12.117-talos", &zstd(&vmlinux))
}

//! Verifies signed images with cosign, skopeo, oras and an SPDX validator from the toolchain's root filesystem (`SOLANA_TALOS_ROOTFS`).
//! The registry is Debian's, on loopback in a network namespace.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::{Path, PathBuf};

use attest::subjects;
use common::sandbox::{Run, Sandbox};
use oci::types::{self, Manifest, Named as _};
use oci::{Artifact, Layout};
use support::{TestKey, blob, named_layout, put, signed};

const NAME: &str = "ghcr.io/our-org/sample:v1";

/// Starts a registry and defines functions: `push LAYOUT REPOSITORY TAG` pushes an image with its referrers and cosign tags; `policy KEY`
/// writes a policy for skopeo that requires the key for images of ghcr.io, which the loopback registry replaces.
const PRELUDE: &str = r#"
mkdir /tmp/registry /tmp/registries.d
cat >/tmp/registry.yml <<END
version: 0.1
storage: {filesystem: {rootdirectory: /tmp/registry}}
http: {addr: "127.0.0.1:5000"}
END
docker-registry serve /tmp/registry.yml >/tmp/registry.log 2>&1 &
tries=0
until oras repo ls --plain-http 127.0.0.1:5000 >/dev/null 2>&1; do
    tries=$((tries + 1)); [ $tries -lt 100 ] || { cat /tmp/registry.log >&2; exit 1; }
    sleep 0.1
done
REPO=127.0.0.1:5000/our-org/sample
cat >/tmp/registries.d/loopback.yaml <<END
docker:
  127.0.0.1:5000:
    use-sigstore-attachments: true
END
hex() { cat $1.digest; }
push() {
    oras cp -r --from-oci-layout $1@sha256:$(hex $1) $2:$3 --to-plain-http >/dev/null
    for kind in sig att; do
        oras cp --from-oci-layout $1:sha256-$(hex $1).$kind $2:sha256-$(hex $1).$kind --to-plain-http >/dev/null
    done
}
policy() {
    cat >/tmp/policy.json <<END
{"default": [{"type": "reject"}], "transports": {"docker": {"127.0.0.1:5000": [{"type": "sigstoreSigned", "keyPath": "/build/w/$1",
 "signedIdentity": {"type": "remapIdentity", "prefix": "127.0.0.1:5000", "signedPrefix": "ghcr.io"}}]}}}
END
}
copy() { rm -rf /tmp/out; skopeo --policy /tmp/policy.json --registries.d /tmp/registries.d copy --src-tls-verify=false docker://$1 dir:/tmp/out; }
verify() { cosign verify --key $1 --insecure-ignore-tlog --allow-http-registry $2 2>&1; }
attested() { cosign verify-attestation ${BUNDLE-} --key $1 --insecure-ignore-tlog --allow-http-registry --type $2 $3; }
# Expects a command to fail with a message.
refused() {
    wanted=$1; shift
    if "$@" >/tmp/refused 2>&1; then echo "NOT REFUSED: $*" >&2; cat /tmp/refused >&2; exit 1; fi
    grep -q "$wanted" /tmp/refused || { echo "refused, but not with \"$wanted\": $*" >&2; cat /tmp/refused >&2; exit 1; }
}
"#;

struct Scene {
    sandbox: Sandbox,
    dir: tempfile::TempDir,
    key: TestKey,
}

impl Scene {
    /// Creates a signed layout `a`, its key `key.pem` and another key `other.pem`; `None` skips the test.
    fn new() -> Option<Self> {
        let sandbox = toolchain(&["cosign", "skopeo", "oras", "docker-registry"])?;
        let scene = Self { sandbox, dir: tempfile::tempdir().unwrap(), key: TestKey::number(1) };
        for (name, key) in [("key.pem", &scene.key), ("other.pem", &TestKey::number(2))] {
            std::fs::write(scene.path(name), key.public().to_pem().unwrap()).unwrap();
        }
        scene.layout("a", "hello\n");
        Some(scene)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a signed layout.
    fn layout(&self, name: &str, text: &str) -> Layout {
        named_layout(&self.path(name), text, &[NAME]);
        self.note_digest(name);
        signed(&self.path(name), &self.key)
    }

    /// Saves the image digest for the scripts, which cannot parse JSON.
    fn note_digest(&self, name: &str) {
        let digest = Layout::open(&self.path(name)).unwrap().images().unwrap()[0].digest;
        std::fs::write(self.path(&format!("{name}.digest")), digest.to_string()).unwrap();
    }

    fn run(&self, script: &str) -> String {
        self.script(&Run::script(&format!("{PRELUDE}\n{script}"), &[]))
    }

    fn script(&self, run: &Run) -> String {
        let mut run = run.clone().write(self.dir.path(), "/build/w").directory("/build/w");
        if let Some(cosign) = cosign3() {
            run = run.read(&cosign, "/build/cosign3");
        }
        match self.sandbox.output(&run) {
            Ok(out) => String::from_utf8(out).unwrap(),
            Err(e) => panic!("{e}"),
        }
    }
}

fn toolchain(programs: &[&str]) -> Option<Sandbox> {
    skip::toolchain(programs).map(Sandbox::new)
}

fn cosign3() -> Option<PathBuf> {
    std::env::var_os("COSIGN3").map(PathBuf::from).filter(|path| path.is_file())
}

#[test]
fn cosign_verifies_a_layout_without_a_registry() {
    let Some(scene) = Scene::new() else { return };
    let out = scene.run(
        r#"
cosign verify --local-image --key key.pem --insecure-ignore-tlog a 2>/dev/null
cosign verify-attestation --local-image --key key.pem --insecure-ignore-tlog --type spdxjson a >/dev/null
cosign verify-attestation --local-image --key key.pem --insecure-ignore-tlog --type slsaprovenance1 a >/dev/null
refused "invalid signature" cosign verify --local-image --key other.pem --insecure-ignore-tlog a
refused "none of the attestations matched" cosign verify-attestation --local-image --key key.pem --insecure-ignore-tlog --type vuln a
"#,
    );
    let payload: serde_json::Value = serde_json::from_str(out.trim()).unwrap();
    assert_eq!(payload[0]["critical"]["identity"]["docker-reference"], NAME);
    let digest = std::fs::read_to_string(scene.path("a.digest")).unwrap();
    assert_eq!(payload[0]["critical"]["image"]["docker-manifest-digest"], format!("sha256:{digest}"));
}

#[test]
fn cosign_verifies_in_a_registry_with_the_right_key_only() {
    let Some(scene) = Scene::new() else { return };
    let out = scene.run(
        r#"
push a $REPO v1
verify key.pem $REPO:v1 | grep 'verified against the specified public key'
attested key.pem spdxjson $REPO:v1 >spdx.json
attested key.pem slsaprovenance1 $REPO:v1 >slsa.json
refused "invalid signature" verify other.pem $REPO:v1
refused "no matching attestations" attested other.pem spdxjson $REPO:v1
"#,
    );
    assert!(out.contains("verified against"), "{out}");
    let predicate = |file: &str| {
        let envelope: serde_json::Value = serde_json::from_slice(&std::fs::read(scene.path(file)).unwrap()).unwrap();
        let payload = attest::encoding::decode(envelope["payload"].as_str().unwrap()).unwrap();
        serde_json::from_slice::<serde_json::Value>(&payload).unwrap()["predicate"].clone()
    };
    assert_eq!(predicate("spdx.json")["spdxVersion"], "SPDX-2.3");
    assert_eq!(predicate("slsa.json")["buildDefinition"]["externalParameters"]["profile"], "vm");
}

/// An empty trusted root prevents cosign from downloading sigstore's.
#[test]
fn cosign_verifies_the_bundles_attached_to_the_image() {
    let Some(scene) = Scene::new() else { return };
    let out = scene.run(
        r#"
echo '{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}' >/tmp/root.json
BUNDLE="--new-bundle-format --trusted-root /tmp/root.json"
push a $REPO v1
attested key.pem spdxjson $REPO:v1 >/dev/null
attested key.pem slsaprovenance1 $REPO:v1 >/dev/null
attested key.pem https://sigstore.dev/cosign/sign/v1 $REPO:v1
refused "accepted signatures do not match threshold" attested other.pem spdxjson $REPO:v1
"#,
    );
    let envelope: serde_json::Value = serde_json::from_str(out.trim()).unwrap();
    let payload = attest::encoding::decode(envelope["payload"].as_str().unwrap()).unwrap();
    let statement: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(statement["subject"][0]["name"], NAME);
}

#[test]
fn cosign_rejects_unsigned_and_replayed_images() {
    let Some(scene) = Scene::new() else { return };
    changed_manifest(&scene);
    replayed(&scene);
    scene.run(
        r#"
push a $REPO v1
verify key.pem $REPO:v1 >/dev/null
# Another manifest under the tag.
oras cp --from-oci-layout changed@sha256:$(hex changed) $REPO:v1 --to-plain-http >/dev/null
refused "no signatures found" verify key.pem $REPO:v1
# The signature removed.
push a $REPO v1
oras manifest delete --plain-http --force $REPO@$(oras resolve --plain-http $REPO:sha256-$(hex a).sig) >/dev/null 2>&1 || {
    rm -r /tmp/registry/docker/registry/v2/repositories/our-org/sample/_manifests/tags/sha256-$(hex a).sig
}
refused "no signatures found" verify key.pem $REPO:v1
# Signatures and attestations of one image under the tags of another.
push replayed $REPO v2
refused "invalid or missing digest in claim" verify key.pem $REPO:v2
refused "no matching attestations" attested key.pem spdxjson $REPO:v2
"#,
    );
}

#[test]
fn skopeo_copies_only_signed_images_under_a_policy() {
    let Some(scene) = Scene::new() else { return };
    changed_manifest(&scene);
    replayed(&scene);
    scene.run(
        r#"
push a $REPO v1
policy key.pem; copy $REPO:v1
test "$(sha256sum </tmp/out/manifest.json)" = "$(hex a)  -"
copy $REPO@sha256:$(hex a)
policy other.pem; refused "cryptographic signature verification failed" copy $REPO:v1
# During key rotation, either key is enough (docs/keys.md).
sed -i 's|"keyPath": "\([^"]*\)"|"keyPaths": ["\1", "/build/w/key.pem"]|' /tmp/policy.json
grep -q other.pem.*key.pem /tmp/policy.json; copy $REPO:v1
policy key.pem
# The tag is part of the signed name: another tag is rejected, a digest is accepted.
oras cp --from-plain-http --to-plain-http $REPO:v1 $REPO:v9 >/dev/null
refused 'sample:v1.* is not accepted' copy $REPO:v9
# A signature of another image.
push replayed $REPO v1
refused "Source image rejected" copy $REPO:v1
# No signature.
oras cp --from-oci-layout changed@sha256:$(hex changed) $REPO:v1 --to-plain-http >/dev/null
refused "A signature was required, but no signature exists" copy $REPO:v1
# A registry that serves another layer.
push a $REPO v1
layer=$(oras manifest fetch --plain-http $REPO:v1 | sed 's/.*"layers":\[{"digest":"sha256:\([0-9a-f]*\)".*/\1/')
data=/tmp/registry/docker/registry/v2/blobs/sha256/$(echo $layer | cut -c1-2)/$layer/data
printf '\001' | dd of=$data bs=1 seek=9 conv=notrunc 2>/dev/null
refused "igest did not match" copy $REPO:v1
"#,
    );
}

/// The script and the commands of docs/verification.md.
#[test]
fn openssl_verifies_with_the_documented_script() {
    let Some(scene) = Scene::new() else { return };
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/verification.md")).unwrap();
    let (_, block) = page.split_once("```python\n").unwrap();
    std::fs::write(scene.path("take.py"), block.split_once("```").unwrap().0).unwrap();
    let out = scene.run(
        r#"
python3 take.py a
openssl dgst -sha256 -verify key.pem -signature signature payload
refused "Verification failure" openssl dgst -sha256 -verify other.pem -signature signature payload
sha256sum a/blobs/sha256/$(hex a) | cut -d ' ' -f 1
"#,
    );
    let digest = std::fs::read_to_string(scene.path("a.digest")).unwrap();
    assert_eq!(out, format!("sha256:{digest}\nVerified OK\n{digest}\n"));
}

#[test]
fn oras_discovers_all_referrers() {
    let Some(scene) = Scene::new() else { return };
    let out = scene.run("push a $REPO v1; oras discover --plain-http --format json $REPO:v1");
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    let list = found["manifests"].as_array().or(found["referrers"].as_array()).expect(&out);
    let mut kinds: Vec<_> = list.iter().map(|m| m["artifactType"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
    assert_eq!(kinds, ["application/spdx+json", bundle, bundle, bundle]);
}

/// Cosign 3 prefers bundles, in a registry and in a layout.
#[test]
fn cosign_3_verifies() {
    let Some(scene) = Scene::new() else { return };
    if cosign3().is_none() {
        return skip::skipped(
            "COSIGN3 names no cosign 3; build one with `go install github.com/sigstore/cosign/v3/cmd/cosign@latest`",
        );
    }
    replayed(&scene);
    let out = scene.run(
        r#"
/build/cosign3 version | grep '^GitVersion'
cosign() { /build/cosign3 "$@"; }
cosign verify --local-image --key key.pem --insecure-ignore-tlog a >/dev/null 2>&1
refused "." cosign verify --local-image --key other.pem --insecure-ignore-tlog a
push a $REPO v1
verify key.pem $REPO:v1 | grep 'verified against the specified public key'
attested key.pem spdxjson $REPO:v1 >/dev/null 2>&1
attested key.pem slsaprovenance1 $REPO:v1 >/dev/null 2>&1
refused "." verify other.pem $REPO:v1
refused "." attested other.pem slsaprovenance1 $REPO:v1
push replayed $REPO v2
refused "." verify key.pem $REPO:v2
"#,
    );
    assert!(out.contains("verified against"), "{out}");
}

/// Names of the documents that [`Scene::documents`] writes.
const DOCUMENTS: [&str; 7] = ["base", "devel", "extension", "images", "installer", "kernel", "talos"];

impl Scene {
    /// Creates a scene with packages of PyPI in `py`; `None` skips the test.
    fn with_python(packages: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let sandbox = skip::python(packages, dir.path())?;
        Some(Self { sandbox, dir, key: TestKey::number(1) })
    }

    /// Writes an SBOM of each kind, `<name>.spdx.json`, and returns them.
    fn documents(&self) -> Vec<(&'static str, serde_json::Value)> {
        let image = &subjects(&self.layout("a", "hello\n")).unwrap()[0];
        let documents = support::documents(image);
        let names: Vec<_> = documents.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, DOCUMENTS);
        for (name, document) in &documents {
            self.write(name, document);
        }
        documents
    }

    fn write(&self, name: &str, document: &serde_json::Value) {
        std::fs::write(self.path(&format!("{name}.spdx.json")), types::canonical(document).unwrap()).unwrap();
    }
}

/// The validator is `spdx-tools` from PyPI, installed into a temporary directory.
#[test]
fn an_spdx_validator_accepts_the_sboms() {
    let Some(scene) = Scene::with_python("spdx-tools==0.8.5") else { return };
    scene.documents();
    let validate = r#"
export PYTHONPATH=py
for name do
    python3 -m spdx_tools.spdx.clitools.pyspdxtools --version SPDX-2.3 -i $name.spdx.json 2>&1
    echo $name is valid
done
for change in s/GENERATED_FROM/GENERATED_BY_HAND/ 's/SPDXRef-linux"/SPDXRef-windows"/' 's/Organization: Debian/Debian/'; do
    sed "$change" kernel.spdx.json >wrong.spdx.json
    if python3 -m spdx_tools.spdx.clitools.pyspdxtools -i wrong.spdx.json >/dev/null 2>&1; then echo "accepted: $change"; fi
done
"#;
    let out = scene.script(&Run::script(validate, &DOCUMENTS));
    assert_eq!(out, DOCUMENTS.map(|name| format!("{name} is valid\n")).concat());
}

/// The checker is `ntia-conformance-checker` from PyPI. It passes over packages that the document does not describe, contain or link, such as
/// build tools; so each document is also checked with all of its packages described.
#[test]
fn a_checker_of_the_ntia_minimum_elements_accepts_the_sboms() {
    let Some(scene) = Scene::with_python("ntia-conformance-checker==6.0.0 spdx-tools==0.8.5") else { return };
    for (name, mut document) in scene.documents() {
        describe_all(&mut document);
        scene.write(&format!("{name}-all"), &document);
        // The last package is one of the toolchain, or else of the base.
        let last = document["packages"].as_array_mut().unwrap().last_mut().unwrap();
        last["supplier"] = "NOASSERTION".into();
        scene.write(&format!("{name}-wrong"), &document);
    }
    let check = r#"
export PYTHONPATH=py
check() { python3 -m ntia_conformance_checker.main --comply ntia $1.spdx.json >report 2>&1; }
for name do
    check $name && echo $name has all || cat report
    check $name-all && ! grep -q floating report && echo $name-all has all || cat report
    if check $name-wrong; then echo $name without a supplier is accepted; fi
    grep -q 'component suppliers provided? *| False' report
done
"#;
    let out = scene.script(&Run::script(check, &DOCUMENTS));
    assert_eq!(out, DOCUMENTS.map(|name| format!("{name} has all\n{name}-all has all\n")).concat());
}

/// Adds a relationship from the document to each of its packages.
fn describe_all(document: &mut serde_json::Value) {
    let packages: Vec<_> = document["packages"].as_array().unwrap().iter().map(|p| p["SPDXID"].clone()).collect();
    let relationships = document["relationships"].as_array_mut().unwrap();
    relationships.retain(|relationship| relationship["relationshipType"] != "DESCRIBES");
    relationships.extend(packages.into_iter().map(|id| {
        serde_json::json!({"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": id})
    }));
}

/// Writes the layout `changed`: the image of `a` with an added annotation, unsigned.
fn changed_manifest(scene: &Scene) {
    let path = scene.path("changed");
    let layout = named_layout(&path, "hello\n", &[NAME]);
    let image = layout.images().unwrap()[0].digest;
    let mut manifest: Manifest = serde_json::from_slice(&blob(&path, image)).unwrap();
    manifest.set_annotations(types::annotations([("changed", "yes")]));
    let (digest, size) = put(&path, &types::canonical(&manifest).unwrap());
    support::edit_index(&path, |entries| support::point(&mut entries[0], digest, size));
    scene.note_digest("changed");
}

/// Writes the layout `replayed`: another image with the signatures and attestations of `a` attached.
fn replayed(scene: &Scene) {
    let path = scene.path("replayed");
    let (from, to) = (Layout::open(&scene.path("a")).unwrap(), named_layout(&path, "evil\n", &[NAME]));
    scene.note_digest("replayed");
    let old = subjects(&from).unwrap().remove(0);
    let new = subjects(&to).unwrap().remove(0);
    copy_blobs(&scene.path("a"), &path);
    for Artifact { descriptor, mut manifest } in from.artifacts().unwrap() {
        if manifest.subject().is_some() {
            manifest.set_subject(Some(new.manifest.clone()));
        }
        let (digest, size) = put(&path, &types::canonical(&manifest).unwrap());
        let mut entry = descriptor;
        support::point(&mut entry, digest, size);
        if let Some(name) = entry.annotation(types::REF_NAME) {
            let name = name.replace(&old.digest().to_string(), &new.digest().to_string());
            entry.annotate(types::REF_NAME, &name);
        }
        support::edit_index(&path, |entries| entries.push(entry));
    }
}

fn copy_blobs(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from.join("blobs/sha256")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join("blobs/sha256").join(entry.file_name())).unwrap();
    }
}

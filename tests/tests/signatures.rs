//! cosign verifies the signatures and attestations in the output directory, without a registry and without our code.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use common::sandbox::Run;
use harness::settings::{OUT, Settings};
use serde_json::Value;

const IMAGES: [&str; 4] = ["installer", "kernel", "kernel-devel", "solana-optimizer"];

/// Prints one line for each signature or attestation; exits with 9 if another key verifies one.
const VERIFY: &str = r#"
export COSIGN_EXPERIMENTAL=0
openssl ecparam -genkey -name prime256v1 -noout -out /tmp/other.key 2>/dev/null
openssl ec -in /tmp/other.key -pubout -out /tmp/other.pem 2>/dev/null
local="--local-image --insecure-ignore-tlog"
for image do
    cosign verify $local --key /build/_out/image.pub.pem /build/_out/$image.oci 2>/dev/null
    if cosign verify $local --key /tmp/other.pem /build/_out/$image.oci >/dev/null 2>&1; then exit 9; fi
    for type in spdxjson slsaprovenance1; do
        cosign verify-attestation $local --key /build/_out/image.pub.pem --type $type /build/_out/$image.oci 2>/dev/null
        if cosign verify-attestation $local --key /tmp/other.pem --type $type /build/_out/$image.oci >/dev/null 2>&1; then exit 9; fi
    done
done
"#;

#[test]
fn cosign_verifies_every_image_and_its_attestations() {
    let Some(settings) = Settings::from_env(OUT) else { return };
    let run = Run::script(VERIFY, &IMAGES).read(&settings.out, "/build/_out");
    let out = String::from_utf8(settings.sandbox.output(&run).unwrap()).unwrap();
    let lines: Vec<Value> =
        out.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3 * IMAGES.len(), "{out}");
    let record: Value = serde_json::from_slice(&std::fs::read(settings.out.join("build.json")).unwrap()).unwrap();
    let mut signed = 0;
    for (image, claims) in IMAGES.iter().zip(lines.chunks(3)) {
        for payload in claims[0].as_array().unwrap() {
            let name = payload["critical"]["identity"]["docker-reference"].as_str().unwrap();
            let digest = payload["critical"]["image"]["docker-manifest-digest"].as_str().unwrap();
            assert_eq!(format!("sha256:{}", record["images"][name].as_str().unwrap()), digest, "{name}");
            signed += 1;
        }
        for (claim, file) in claims[1..].iter().zip(["spdx", "provenance"]) {
            let expected = std::fs::read(settings.out.join(format!("{image}.{file}.json"))).unwrap();
            assert_eq!(statement(claim)["predicate"], serde_json::from_slice::<Value>(&expected).unwrap(), "{image}");
        }
    }
    assert_eq!(signed, record["images"].as_object().unwrap().len(), "an image name of build.json is not signed");
    let sbom = statement(&lines[1])["predicate"]["packages"].clone();
    let has = |name: &str| sbom.as_array().unwrap().iter().any(|package| package["name"] == name);
    for part in ["linux", "solana_optimizer", "clang-19", "rustix", "systemd-boot-efi"] {
        assert!(has(part), "no {part} in the installer's SBOM");
    }
    assert!(!has("qemu-system-x86") && !has("windows-sys"), "the SBOM lists packages that are not in the image");
}

#[test]
fn sboms_and_provenance_contain_no_path_of_this_machine() {
    let Some(settings) = Settings::from_env(OUT) else { return };
    for image in IMAGES {
        for file in ["spdx", "provenance"] {
            let text = std::fs::read_to_string(settings.out.join(format!("{image}.{file}.json"))).unwrap();
            // File names are relative to the project, locations are package URLs.
            for word in ["\"/", "file:", "localhost"] {
                assert!(!text.contains(word), "{word:?} in {image}.{file}.json");
            }
        }
    }
}

/// Decodes the statement in an envelope that cosign printed.
fn statement(envelope: &Value) -> Value {
    use base64::Engine as _;
    let payload = base64::engine::general_purpose::STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

//! What the build signed, judged by cosign over the output itself, without a registry and without our code.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use common::sandbox::Run;
use harness::settings::{OUT, Settings};
use serde_json::Value;

const IMAGES: [&str; 4] = ["installer", "kernel", "kernel-devel", "solana-optimizer"];

/// Prints one line a claim; what has to be refused stops the script when it is not.
const JUDGE: &str = r#"
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
fn cosign_verifies_every_image_of_the_output_and_what_is_said_of_it() {
    let Some(settings) = Settings::from_env(OUT, "target/tmp".as_ref()) else { return };
    let run = Run::script(JUDGE, &IMAGES).read(&settings.out, "/build/_out");
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
            let beside = std::fs::read(settings.out.join(format!("{image}.{file}.json"))).unwrap();
            assert_eq!(statement(claim)["predicate"], serde_json::from_slice::<Value>(&beside).unwrap(), "{image}");
        }
    }
    assert_eq!(signed, record["images"].as_object().unwrap().len(), "a name of build.json is not signed");
    let sbom = statement(&lines[1])["predicate"]["packages"].clone();
    let has = |name: &str| sbom.as_array().unwrap().iter().any(|package| package["name"] == name);
    for part in ["linux", "solana_optimizer", "clang-19", "rustix", "systemd-boot-efi"] {
        assert!(has(part), "the installer's bill of materials lacks {part}");
    }
    assert!(!has("qemu-system-x86") && !has("windows-sys"), "it lists what is no part of it");
}

/// What is stated holds elsewhere.
#[test]
fn the_documents_name_no_path_of_a_machine() {
    let Some(settings) = Settings::from_env(OUT, "target/tmp".as_ref()) else { return };
    for image in IMAGES {
        for file in ["spdx", "provenance"] {
            let text = std::fs::read_to_string(settings.out.join(format!("{image}.{file}.json"))).unwrap();
            // Names of files are relative to the project, addresses are package URLs.
            for word in ["\"/", "file:", "localhost"] {
                assert!(!text.contains(word), "{image}.{file}.json holds {word:?}");
            }
        }
    }
}

/// The statement in an envelope that cosign printed.
fn statement(envelope: &Value) -> Value {
    use base64::Engine as _;
    let payload = base64::engine::general_purpose::STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

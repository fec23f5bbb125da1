//! Reads a kernel module: its release and signer. The signature is not verified.

use cms::cert::IssuerAndSerialNumber;
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedData, SignerIdentifier};
use common::text::hex;
use common::{Class, Error, Result, Sha256};
use der::asn1::ObjectIdentifier;
use der::{Decode as _, Encode as _};
use serde::Serialize;

use formats::{elf, module_signature};

/// `id-signedData` (RFC 5652, section 5.1).
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
/// Largest signature; usual ones have about a kilobyte.
const MESSAGE_MAX: usize = 1 << 20;

/// A kernel module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Module {
    /// The kernel release it was built for, the first word of `vermagic`.
    pub release: Option<String>,
    /// Digest of the module without its signature.
    pub sha256: Sha256,
    /// Signer; `None` if not signed.
    pub signer: Option<Signer>,
    /// Why the signature cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The signer according to a signature.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Signer {
    /// Issuer of the certificate (RFC 4514); empty if the signer is identified by key identifier.
    pub issuer: String,
    /// Serial number of the certificate, or the key identifier, in hexadecimal.
    pub serial: String,
    /// Digest algorithm.
    pub digest: String,
    /// Signature algorithm.
    pub signature: String,
}

/// Reads the module in `bytes`.
pub(super) fn read(bytes: &[u8]) -> Module {
    let release = vermagic(bytes);
    let Some((body, message)) = module_signature::split(bytes) else {
        return Module { release, sha256: Sha256::of(bytes), signer: None, problem: None };
    };
    let sha256 = Sha256::of(&bytes[body]);
    match signer(&bytes[message]) {
        Ok(signer) => Module { release, sha256, signer: Some(signer), problem: None },
        Err(e) => Module { release, sha256, signer: None, problem: Some(e.to_string()) },
    }
}

/// Parses a detached PKCS#7 message (RFC 5652) and returns its first signer.
pub fn signer(message: &[u8]) -> Result<Signer> {
    let bad = |why: String| Error::new(Class::UntrustedData, "module signature is malformed").why(why);
    if message.len() > MESSAGE_MAX {
        return Err(bad(format!("{} bytes (max {MESSAGE_MAX})", message.len())));
    }
    let info = ContentInfo::from_der(message).map_err(|e| bad(e.to_string()))?;
    if info.content_type != SIGNED_DATA {
        return Err(bad(format!("the content has the type {}, expected signedData", info.content_type)));
    }
    let data: SignedData = info.content.decode_as().map_err(|e| bad(e.to_string()))?;
    let signer = data.signer_infos.0.iter().next().ok_or_else(|| bad("it has no signer".to_owned()))?;
    let (issuer, serial) = match &signer.sid {
        SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber { issuer, serial_number }) => {
            (issuer.to_string(), hex(serial_number.as_bytes()))
        }
        SignerIdentifier::SubjectKeyIdentifier(id) => (String::new(), hex(id.0.as_bytes())),
    };
    Ok(Signer { issuer, serial, digest: name(signer.digest_alg.oid), signature: name(signer.signature_algorithm.oid) })
}

/// Returns the name of an algorithm (RFC 8017, RFC 5758, RFC 5754).
pub(super) fn name(oid: ObjectIdentifier) -> String {
    let known = [
        ("2.16.840.1.101.3.4.2.1", "sha256"),
        ("2.16.840.1.101.3.4.2.2", "sha384"),
        ("2.16.840.1.101.3.4.2.3", "sha512"),
        ("1.2.840.113549.1.1.1", "rsa"),
        ("1.2.840.113549.1.1.11", "rsa with sha256"),
        ("1.2.840.113549.1.1.12", "rsa with sha384"),
        ("1.2.840.113549.1.1.13", "rsa with sha512"),
        ("1.2.840.10045.4.3.2", "ecdsa with sha256"),
        ("1.2.840.10045.4.3.3", "ecdsa with sha384"),
        ("1.2.840.10045.4.3.4", "ecdsa with sha512"),
    ];
    let text = oid.to_string();
    known.iter().find(|(oid, _)| *oid == text).map_or(text, |(_, name)| (*name).to_owned())
}

/// Returns the digest of a public key's DER: the fingerprint that `keys show` prints.
pub(super) fn fingerprint(key: &x509_cert::spki::SubjectPublicKeyInfoOwned) -> Option<Sha256> {
    key.to_der().ok().map(Sha256::of)
}

/// Returns the first word of `vermagic` in `.modinfo`, which holds NUL-separated strings.
fn vermagic(bytes: &[u8]) -> Option<String> {
    let section = elf::sections(bytes)?.into_iter().find(|section| section.name == ".modinfo")?;
    let strings = bytes.get(section.range)?.split(|&byte| byte == 0);
    let value = strings.filter_map(|s| std::str::from_utf8(s).ok()).find_map(|s| s.strip_prefix("vermagic="))?;
    value.split(' ').next().map(str::to_owned)
}

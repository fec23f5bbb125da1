//! What a kernel module says of itself: its release, and who signed it. Whether the signature is good only the kernel can say.

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
/// A signature has about a kilobyte.
const MESSAGE_MAX: usize = 1 << 20;

/// A kernel module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Module {
    /// The kernel release it was built for, the first word of `vermagic`.
    pub release: Option<String>,
    /// Digest of the module without its signature.
    pub sha256: Sha256,
    /// Who signed it; `None` for what is not signed.
    pub signer: Option<Signer>,
    /// Why its signature cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Whose a signature says it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Signer {
    /// Name of the certificate's issuer, as RFC 4514 writes it; empty where the signer is named by key identifier.
    pub issuer: String,
    /// Serial number of the certificate, or the key's identifier, in hexadecimal.
    pub serial: String,
    /// The digest that is signed.
    pub digest: String,
    /// How it is signed.
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

/// Reads a detached PKCS#7 message (RFC 5652), of which the first signer counts.
///
/// # Errors
/// [`Class::BadInput`] when it is none, or nobody signed it.
pub fn signer(message: &[u8]) -> Result<Signer> {
    let bad = |why: String| Error::new(Class::BadInput, "cannot read a module's signature").why(why);
    if message.len() > MESSAGE_MAX {
        return Err(bad(format!("it has {} bytes", message.len())));
    }
    let info = ContentInfo::from_der(message).map_err(|e| bad(e.to_string()))?;
    if info.content_type != SIGNED_DATA {
        return Err(bad(format!("its content is of the type {}", info.content_type)));
    }
    let data: SignedData = info.content.decode_as().map_err(|e| bad(e.to_string()))?;
    let signer = data.signer_infos.0.iter().next().ok_or_else(|| bad("nobody signed it".to_owned()))?;
    let (issuer, serial) = match &signer.sid {
        SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber { issuer, serial_number }) => {
            (issuer.to_string(), hex(serial_number.as_bytes()))
        }
        SignerIdentifier::SubjectKeyIdentifier(id) => (String::new(), hex(id.0.as_bytes())),
    };
    Ok(Signer { issuer, serial, digest: name(signer.digest_alg.oid), signature: name(signer.signature_algorithm.oid) })
}

/// What the algorithms of our keys are called (RFC 8017, RFC 5758, RFC 5754).
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

/// Digest of a public key's DER, the fingerprint that `keys show` prints.
pub(super) fn fingerprint(key: &x509_cert::spki::SubjectPublicKeyInfoOwned) -> Option<Sha256> {
    key.to_der().ok().map(Sha256::of)
}

/// The first word of `vermagic` in `.modinfo`, where strings stand between NULs.
fn vermagic(bytes: &[u8]) -> Option<String> {
    let section = elf::sections(bytes)?.into_iter().find(|section| section.name == ".modinfo")?;
    let strings = bytes.get(section.range)?.split(|&byte| byte == 0);
    let value = strings.filter_map(|s| std::str::from_utf8(s).ok()).find_map(|s| s.strip_prefix("vermagic="))?;
    value.split(' ').next().map(str::to_owned)
}

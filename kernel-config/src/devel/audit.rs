//! Detects private keys in files by their encoding: PEM (RFC 7468, RFC 1421) and DER (RFC 5958, RFC 8017 appendix A.1.2, RFC 5915).

use std::path::Path;

use common::{Class, Error, Result};

/// OID rsaEncryption with its NULL, then an OCTET STRING (a public key has a BIT STRING).
const PKCS8_RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x04";
/// OID ecPublicKey; the curve's OID and the OCTET STRING follow.
const EC: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01";
/// OID Ed25519, then the OCTET STRING in an OCTET STRING.
const PKCS8_ED25519: &[u8] = b"\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
/// Version 1 of an `ECPrivateKey`, then the OCTET STRING.
const SEC1: &[u8] = b"\x02\x01\x01\x04";
/// OID PBES2: an `EncryptedPrivateKeyInfo`.
const PBES2: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0d\x30";

/// Returns the kind of private key that `bytes` contain, if any.
///
/// A PEM header alone, as in scripts and documents, does not count: base64 must follow.
#[must_use]
pub fn private_key(bytes: &[u8]) -> Option<&'static str> {
    let has = |needle: &[u8]| find(bytes, needle).next().is_some();
    if find(bytes, b"PRIVATE KEY-----").any(|at| is_pem(bytes, at)) {
        return Some("a PEM private key");
    }
    if has(PKCS8_RSA) || has(PKCS8_ED25519) || find(bytes, EC).any(|at| is_pkcs8_ec(&bytes[at + EC.len()..])) {
        return Some("a PKCS#8 private key");
    }
    if has(PBES2) {
        return Some("an encrypted PKCS#8 private key");
    }
    if find(bytes, b"\x30\x82").any(|at| bytes.get(at + 4..at + 13).is_some_and(is_pkcs1)) {
        return Some("a PKCS#1 private key");
    }
    find(bytes, SEC1).any(|at| is_sec1(&bytes[..at], bytes.get(at + SEC1.len()))).then_some("a SEC 1 private key")
}

/// Refuses a tree with a private key in a file.
///
/// # Errors
/// [`Class::Verification`] naming the first such file, never its content.
pub(super) fn refuse_private_keys(dir: &Path) -> Result<()> {
    let mut entries: Vec<_> = fs_err::read_dir(dir)?.collect::<std::io::Result<_>>()?;
    entries.sort_by_key(fs_err::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            refuse_private_keys(&path)?;
        } else if kind.is_file()
            && let Some(what) = private_key(&fs_err::read(&path)?)
        {
            return Err(Error::new(Class::Verification, "the kernel-devel tree contains a private key")
                .file(path)
                .why(format!("found {what}"))
                .hint("find out how it got into the kernel's objects; no image was written"));
        }
    }
    Ok(())
}

fn find<'a>(bytes: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    memchr::memmem::find_iter(bytes, needle)
}

/// Returns whether `BEGIN … PRIVATE KEY-----` at `at` is followed by a line of base64 or an old PEM header.
fn is_pem(bytes: &[u8], at: usize) -> bool {
    let begins = bytes[at.saturating_sub(32)..at].windows(6).any(|window| window == b"BEGIN ");
    let rest = &bytes[at + b"PRIVATE KEY-----".len()..];
    // Line ends of Unix and DOS, and escaped ones in a program's string.
    let line: Vec<u8> = rest.iter().copied().skip_while(|byte| b"\r\n\\rn ".contains(byte)).take(40).collect();
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    begins && (line.starts_with(b"Proc-Type:") || (line.len() == 40 && line.iter().all(base64)))
}

/// Returns whether a curve's OID and an OCTET STRING follow.
fn is_pkcs8_ec(rest: &[u8]) -> bool {
    matches!(rest, [6, length, curve @ ..] if curve.get(usize::from(*length)) == Some(&4))
}

/// Returns whether the content of a SEQUENCE starts like an `RSAPrivateKey`: version 0, then a modulus of at least 1024 bits.
fn is_pkcs1(content: &[u8]) -> bool {
    matches!(content, [2, 1, 0, 2, 0x82, high, _, 0, _] if *high <= 8)
        || matches!(content, [2, 1, 0, 2, 0x81, _, 0, ..])
}

/// Returns whether `before` ends with the header of a SEQUENCE of the right length, and the OCTET STRING has the length of a
/// P-256, P-384 or P-521 scalar.
fn is_sec1(before: &[u8], length: Option<&u8>) -> bool {
    match length {
        Some(0x20) => matches!(before, [.., 0x30, 0x25 | 0x31 | 0x6b | 0x77]),
        Some(0x30 | 0x42) => matches!(before, [.., 0x30, 0x81, _]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodings of keys without key material.
    fn encodings() -> Vec<(&'static str, Vec<u8>)> {
        let body = "A".repeat(64);
        let curve = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
        vec![
            ("PEM", format!("x\n-----BEGIN PRIVATE KEY-----\n{body}\n").into_bytes()),
            ("PEM", format!("-----BEGIN EC PRIVATE KEY-----\r\n{body}\r\n").into_bytes()),
            ("PEM", format!("const K: &str = \"-----BEGIN RSA PRIVATE KEY-----\\n{body}\\n").into_bytes()),
            ("PEM", b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n".to_vec()),
            ("PKCS#8", [b"\x30\x82\x09\x42\x02\x01\x00\x30\x0d", PKCS8_RSA, b"\x82\x09\x2c"].concat()),
            ("PKCS#8", [b"\x30\x81\x87\x02\x01\x00\x30\x13", EC, curve, b"\x04\x6d"].concat()),
            ("PKCS#8", [b"\x30\x2e\x02\x01\x00\x30\x05", PKCS8_ED25519, &[7; 32]].concat()),
            ("encrypted", [b"\x30\x82\x01\x00\x30\x57", PBES2].concat()),
            ("PKCS#1", b"\x30\x82\x04\xa4\x02\x01\x00\x02\x82\x01\x01\x00\xc3".to_vec()),
            ("PKCS#1", b"\x30\x82\x02\x5d\x02\x01\x00\x02\x81\x81\x00\xc3\x01".to_vec()),
            ("SEC 1", [b"\x30\x77", SEC1, b"\x20", &[7; 32]].concat()),
            ("SEC 1", [b"\x30\x81\xa4", SEC1, b"\x30", &[7; 48]].concat()),
        ]
    }

    #[test]
    fn every_encoding_is_found_anywhere_in_a_file() {
        for (form, bytes) in encodings() {
            for around in [[b"".as_slice(), b""], [b"\x7fELF junk \x30\x82", b"tail"]] {
                let file = [around[0], &bytes, around[1]].concat();
                assert!(private_key(&file).is_some_and(|what| what.contains(form)), "{form}: {bytes:02x?}");
            }
        }
    }

    #[test]
    fn public_keys_and_bare_headers_are_not_found() {
        let curve = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
        for harmless in [
            b"-----BEGIN CERTIFICATE-----\nMIIFxTCCA62gAwIBAgIU".to_vec(),
            b"grep -q '-----BEGIN PRIVATE KEY-----' \"$1\"".to_vec(),
            b"-----END PRIVATE KEY-----\n".to_vec(),
            [&PKCS8_RSA[..PKCS8_RSA.len() - 1], b"\x03\x82\x02\x0f"].concat(),
            [EC, curve, b"\x03\x42\x00"].concat(),
            EC.to_vec(),
            [SEC1, b"\x20"].concat(),
            b"\x30\x82\x04".to_vec(),
            Vec::new(),
        ] {
            assert_eq!(private_key(&harmless), None, "{}", String::from_utf8_lossy(&harmless));
        }
    }

    #[test]
    fn the_error_names_the_file_and_not_the_key() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("scripts/deep")).unwrap();
        std::fs::write(dir.path().join("scripts/deep/a"), "harmless").unwrap();
        refuse_private_keys(dir.path()).unwrap();
        std::fs::write(dir.path().join("scripts/deep/b"), &encodings()[0].1).unwrap();
        let error = refuse_private_keys(dir.path()).unwrap_err();
        assert_eq!(error.class(), Class::Verification);
        assert!(error.to_string().contains("scripts/deep/b") && !error.to_string().contains("AAAA"), "{error}");
    }
}

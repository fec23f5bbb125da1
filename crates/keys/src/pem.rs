//! Reads and writes PEM files (RFC 7468).

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use common::{Class, Error, Result};
use x509_cert::der::pem::{self, LineEnding};
use zeroize::Zeroizing;

/// Maximum size of a key or certificate file in bytes.
const LIMIT: u64 = 64 * 1024;

/// Start of a block (RFC 7468 section 2).
const BEGIN: &[u8] = b"-----BEGIN ";

/// Encodes `der` as PEM.
pub fn encode(label: &'static str, der: &[u8]) -> Result<Zeroizing<String>> {
    let text = pem::encode_string(label, LineEnding::LF, der);
    text.map(Zeroizing::new).map_err(|e| Error::new(Class::BadInput, "cannot encode PEM").why(e))
}

/// Reads the first PEM block of the file at `path`, which must have the label `label`.
pub fn read(path: &Path, label: &str) -> Result<Zeroizing<Vec<u8>>> {
    let text = read_bounded(path)?;
    decode(&text, label).map_err(|e| e.file(path))
}

/// Like [`read`], for a file that must not contain a second block.
pub fn read_single(path: &Path, label: &str) -> Result<Zeroizing<Vec<u8>>> {
    let text = read_bounded(path)?;
    let blocks = text.windows(BEGIN.len()).filter(|w| *w == BEGIN).count();
    if blocks > 1 {
        let why = format!("it contains {blocks} PEM blocks, expected one {label:?}");
        return Err(malformed(why, "keep only the key's own certificate in this file, without its chain").file(path));
    }
    decode(&text, label).map_err(|e| e.file(path))
}

/// Reads the private key at `path` (PKCS#8, RFC 5958).
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    require_owner_only(path, "private key")?;
    read(path, "PRIVATE KEY")
}

/// Rejects a file with a secret that users other than its owner can access.
pub fn require_owner_only(path: &Path, secret: &str) -> Result<()> {
    let mode = fs_err::metadata(path)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(Error::new(Class::BadInput, format!("{secret} file is accessible to other users"))
        .file(path)
        .why(format!("its mode is {:04o}", mode & 0o7777))
        .hint(format!("run `chmod 600 {}`; replace the {secret} if somebody may have read it", path.display())))
}

fn read_bounded(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    use std::io::Read as _;
    let mut bytes = Zeroizing::new(Vec::new());
    std::fs::File::open(path)
        .and_then(|file| file.take(LIMIT + 1).read_to_end(&mut bytes))
        .map_err(|e| Error::io("cannot read the key or certificate", path, &e))?;
    if bytes.len() as u64 > LIMIT {
        return Err(malformed(format!("it is larger than {LIMIT} bytes"), label_hint("")).file(path));
    }
    Ok(bytes)
}

/// Decodes the first PEM block of `text`, which must have the label `label`. Text around the block is ignored.
pub fn decode(text: &[u8], label: &str) -> Result<Zeroizing<Vec<u8>>> {
    let block = first_block(text).ok_or_else(|| malformed("it contains no PEM block", label_hint(label)))?;
    let found = pem::decode_label(block).map_err(|e| malformed(e, label_hint(label)))?;
    if found != label {
        return Err(malformed(format!("it contains a {found:?}, expected a {label:?}"), label_hint(found)));
    }
    let (_, bytes) = pem::decode_vec(block).map_err(|e| malformed(e, label_hint(label)))?;
    Ok(Zeroizing::new(bytes))
}

/// From `-----BEGIN ` to the last dash of the first `-----END …-----`.
fn first_block(text: &[u8]) -> Option<&[u8]> {
    let find = |text: &[u8], word: &[u8]| text.windows(word.len()).position(|w| w == word);
    let block = &text[find(text, BEGIN)?..];
    let end = find(block, b"-----END ")? + 9;
    Some(&block[..end + find(&block[end..], b"-----")? + 5])
}

fn malformed(why: impl std::fmt::Display, hint: &str) -> Error {
    Error::new(Class::BadInput, "invalid PEM file").why(why).hint(hint)
}

fn label_hint(label: &str) -> &'static str {
    match label {
        "ENCRYPTED PRIVATE KEY" => {
            "keys with a passphrase are not supported: keep the key in a PKCS#11 token, or decrypt it with `openssl pkey` onto a tmpfs"
        }
        "RSA PRIVATE KEY" | "EC PRIVATE KEY" | "EC PARAMETERS" => {
            "convert it to PKCS#8: `openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW`"
        }
        _ => "expected PKCS#8 (`BEGIN PRIVATE KEY`) for private keys, else `BEGIN CERTIFICATE` or `BEGIN PUBLIC KEY`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_ignores_text_around_the_block() {
        let text = encode("PUBLIC KEY", &[1, 2, 3]).unwrap();
        let around = format!("subject=x\n{}trailing\n", text.as_str());
        assert_eq!(decode(around.as_bytes(), "PUBLIC KEY").unwrap().as_slice(), [1, 2, 3]);
    }

    #[test]
    fn hints_how_to_convert_other_kinds_of_keys() {
        for (label, word) in
            [("ENCRYPTED PRIVATE KEY", "passphrase"), ("RSA PRIVATE KEY", "pkcs8"), ("CERTIFICATE", "PKCS#8")]
        {
            let text = encode(label, &[1]).unwrap();
            let error = decode(text.as_bytes(), "PRIVATE KEY").unwrap_err().to_string();
            assert!(error.contains(word) && error.contains(label), "{error}");
        }
        for bad in
            [&b""[..], b"-----BEGIN ", b"-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----", b"\xff\xfe"]
        {
            assert_eq!(decode(bad, "PRIVATE KEY").unwrap_err().class(), Class::BadInput);
        }
    }
}

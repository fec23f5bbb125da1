//! PEM files (RFC 7468), read with errors that name the file, and written.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use common::{Class, Error, Result};
use x509_cert::der::pem::{self, LineEnding};
use zeroize::Zeroizing;

/// Larger than any key or certificate of ours.
const LIMIT: u64 = 64 * 1024;

/// What a block begins with (RFC 7468 section 2).
const BEGIN: &[u8] = b"-----BEGIN ";

/// PEM text of `der`.
pub fn encode(label: &'static str, der: &[u8]) -> Result<Zeroizing<String>> {
    let text = pem::encode_string(label, LineEnding::LF, der);
    text.map(Zeroizing::new).map_err(|e| Error::new(Class::BadInput, "cannot write PEM").why(e))
}

/// The bytes of the file at `path`, whose label has to be `label`.
pub fn read(path: &Path, label: &str) -> Result<Zeroizing<Vec<u8>>> {
    let text = read_bounded(path)?;
    decode(&text, label).map_err(|e| e.file(path))
}

/// The same, for a file that may hold no second block.
pub fn read_only_block(path: &Path, label: &str) -> Result<Zeroizing<Vec<u8>>> {
    let text = read_bounded(path)?;
    let blocks = text.windows(BEGIN.len()).filter(|w| *w == BEGIN).count();
    if blocks > 1 {
        let why = format!("it holds {blocks} PEM blocks, where one {label:?} is expected");
        return Err(malformed(why, "keep the key's own certificate alone in this file, without its chain").file(path));
    }
    decode(&text, label).map_err(|e| e.file(path))
}

/// The private key at `path` (PKCS#8, RFC 5958), which nobody but its owner may read.
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let mode =
        std::fs::metadata(path).map_err(|e| Error::io("cannot read a private key", path, &e))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Error::new(Class::BadInput, "others may read a private key")
            .file(path)
            .why(format!("its mode is {:04o}", mode & 0o7777))
            .hint(format!("if nobody has taken it: `chmod 600 {}`", path.display())));
    }
    read(path, "PRIVATE KEY")
}

fn read_bounded(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    use std::io::Read as _;
    let io = |e: &std::io::Error| Error::io("cannot read a key or certificate", path, e);
    let mut bytes = Zeroizing::new(Vec::new());
    std::fs::File::open(path).map_err(|e| io(&e))?.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|e| io(&e))?;
    if bytes.len() as u64 > LIMIT {
        return Err(malformed("the file is too large for a key or certificate", label_hint("")).file(path));
    }
    Ok(bytes)
}

/// What the first PEM block of `text` holds, whose label has to be `label`. Text around the block does not count.
pub fn decode(text: &[u8], label: &str) -> Result<Zeroizing<Vec<u8>>> {
    let block = first_block(text).ok_or_else(|| malformed("it holds no PEM block", label_hint(label)))?;
    let found = pem::decode_label(block).map_err(|e| malformed(e, label_hint(label)))?;
    if found != label {
        return Err(malformed(format!("it holds a {found:?}, not a {label:?}"), label_hint(found)));
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
    Error::new(Class::BadInput, "this is not the PEM file it should be").why(why).hint(hint)
}

fn label_hint(label: &str) -> &'static str {
    match label {
        "ENCRYPTED PRIVATE KEY" => {
            "keys with a passphrase are not read: keep the key in a PKCS#11 token, or decrypt it with `openssl pkey` onto a tmpfs"
        }
        "RSA PRIVATE KEY" | "EC PRIVATE KEY" | "EC PARAMETERS" => {
            "make it PKCS#8: `openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW`"
        }
        _ => {
            "private keys are PKCS#8 (`BEGIN PRIVATE KEY`), certificates `BEGIN CERTIFICATE`, public keys `BEGIN PUBLIC KEY`"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_skips_text_around_it() {
        let text = encode("PUBLIC KEY", &[1, 2, 3]).unwrap();
        let around = format!("subject=x\n{}trailing\n", text.as_str());
        assert_eq!(decode(around.as_bytes(), "PUBLIC KEY").unwrap().as_slice(), [1, 2, 3]);
    }

    #[test]
    fn says_what_to_do_with_other_kinds_of_keys() {
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

//! PKCS#11 URIs (RFC 7512): which key, in which token, through which module.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use common::{Class, Error, Result};

/// A PKCS#11 URI that names a private key.
#[derive(Clone, PartialEq, Eq)]
pub struct Uri {
    /// `module-path`: the library that talks to the token.
    pub module: PathBuf,
    /// `token`: label of the token.
    pub token: Option<String>,
    /// `serial` of the token.
    pub serial: Option<String>,
    /// `manufacturer` of the token.
    pub manufacturer: Option<String>,
    /// `model` of the token.
    pub model: Option<String>,
    /// `slot-id`.
    pub slot: Option<u64>,
    /// `object`: label of the key.
    pub object: Option<String>,
    /// `id` of the key.
    pub id: Option<Vec<u8>>,
    /// `pin-source`: a file with the PIN.
    pub pin_file: Option<PathBuf>,
    text: String,
}

/// The text it was parsed from; it holds no PIN.
impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Uri {
    /// Whether `text` is meant to be one.
    #[must_use]
    pub fn looks_like_one(text: &str) -> bool {
        text.starts_with("pkcs11:")
    }

    /// Parses `text`.
    ///
    /// # Errors
    /// [`Class::BadInput`] when it is malformed, names no key or no `module-path`, or holds a PIN. The error never shows a PIN.
    pub fn parse(text: &str) -> Result<Self> {
        let rest = text.strip_prefix("pkcs11:").ok_or_else(|| bad("it does not begin with pkcs11:"))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut query = attributes(query, '&')?;
        if query.remove("pin-value").is_some() {
            return Err(bad("it holds a PIN (pin-value)")
                .hint("put the PIN into a file that only you may read, and name it: pin-source=file:/path"));
        }
        let mut path = attributes(path, ';')?;
        if path.remove("type").is_some_and(|kind| kind != b"private") {
            return Err(bad("its type is not private: it has to name a private key"));
        }
        let module = query.remove("module-path").map(utf8).transpose()?.map(PathBuf::from);
        let module = module.filter(|module| module.is_absolute());
        let uri = Self {
            module: module.ok_or_else(|| {
                bad("it has no absolute module-path, such as module-path=/usr/lib/softhsm/libsofthsm2.so")
            })?,
            token: path.remove("token").map(utf8).transpose()?,
            serial: path.remove("serial").map(utf8).transpose()?,
            manufacturer: path.remove("manufacturer").map(utf8).transpose()?,
            model: path.remove("model").map(utf8).transpose()?,
            slot: path.remove("slot-id").map(utf8).transpose()?.map(|n| number(&n)).transpose()?,
            object: path.remove("object").map(utf8).transpose()?,
            id: path.remove("id"),
            pin_file: query.remove("pin-source").map(utf8).transpose()?.map(|source| pin_file(&source)).transpose()?,
            text: text.to_owned(),
        };
        if let Some(name) = path.keys().chain(query.keys()).next() {
            return Err(bad(&format!("its attribute {name} is not known here")));
        }
        if uri.object.is_none() && uri.id.is_none() {
            return Err(bad("it names no key: give object=LABEL or id=%01"));
        }
        Ok(uri)
    }
}

fn bad(why: &str) -> Error {
    Error::new(Class::BadInput, "this PKCS#11 URI cannot be used").why(why).hint(
        "its form is pkcs11:token=LABEL;object=LABEL?module-path=/path/to/module.so&pin-source=file:/path/to/pin (RFC 7512)",
    )
}

/// The attributes of one part, percent-decoded (RFC 7512 section 2.3: none may come twice).
fn attributes(text: &str, separator: char) -> Result<BTreeMap<&str, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for attribute in text.split(separator).filter(|a| !a.is_empty()) {
        let (name, value) = attribute.split_once('=').ok_or_else(|| bad("an attribute has no value"))?;
        if found.insert(name, decode(value)?).is_some() {
            return Err(bad(&format!("its attribute {name} comes twice")));
        }
    }
    Ok(found)
}

fn decode(text: &str) -> Result<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|d| u8::try_from(d).ok());
        match (digit(bytes.next()), digit(bytes.next())) {
            (Some(high), Some(low)) => decoded.push(high << 4 | low),
            _ => return Err(bad("a percent sign is not followed by two hexadecimal digits")),
        }
    }
    Ok(decoded)
}

fn utf8(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| bad("an attribute is not UTF-8"))
}

fn number(text: &str) -> Result<u64> {
    text.parse().map_err(|_| bad("slot-id is no number"))
}

/// An absolute path, or a `file` URI of one (RFC 8089).
fn pin_file(source: &str) -> Result<PathBuf> {
    let path = source.strip_prefix("file://").or_else(|| source.strip_prefix("file:")).unwrap_or(source);
    let path = PathBuf::from(path);
    if path.is_absolute() { Ok(path) } else { Err(bad("pin-source is no absolute path of a file")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_rfc_writes() {
        let uri = Uri::parse(
            "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;id=%69%95%3e;object=my-key;type=private\
             ?module-path=/usr/lib/x.so&pin-source=file:/etc/token_pin",
        )
        .unwrap();
        assert_eq!(uri.token.as_deref(), Some("The Software PKCS#11 Softtoken"));
        assert_eq!(uri.id.as_deref(), Some(&[0x69, 0x95, 0x3e][..]));
        assert_eq!(uri.pin_file.as_deref(), Some("/etc/token_pin".as_ref()));
        assert_eq!((uri.slot, uri.object.as_deref()), (None, Some("my-key")));
    }

    #[test]
    fn refuses_what_names_no_key_or_holds_a_pin() {
        for (text, word) in [
            ("file:/x", "does not begin"),
            ("pkcs11:object=a", "module-path"),
            ("pkcs11:object=a?module-path=x.so", "module-path"),
            ("pkcs11:token=a?module-path=/x.so", "names no key"),
            ("pkcs11:object=a;object=b?module-path=/x.so", "twice"),
            ("pkcs11:object=%4?module-path=/x.so", "percent"),
            ("pkcs11:object=%ff?module-path=/x.so", "UTF-8"),
            ("pkcs11:object=a;type=cert?module-path=/x.so", "type"),
            ("pkcs11:object=a;x-y=1?module-path=/x.so", "x-y is not known"),
            ("pkcs11:object=a?module-path=/x.so&pin-source=pin", "pin-source"),
            ("pkcs11:object=a;slot-id=x?module-path=/x.so", "slot-id"),
            ("pkcs11:object?module-path=/x.so", "no value"),
        ] {
            let error = Uri::parse(text).unwrap_err();
            assert!(error.class() == Class::BadInput && error.to_string().contains(word), "{text}: {error}");
        }
        let error = Uri::parse("pkcs11:object=a?module-path=/x.so&pin-value=8888").unwrap_err().to_string();
        assert!(error.contains("pin-source") && !error.contains("8888"), "{error}");
    }
}

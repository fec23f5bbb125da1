//! PKCS#11 URIs (RFC 7512): which key, in which token, through which module.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use common::{Class, Error, Result};

/// A PKCS#11 URI of a private key.
#[derive(Clone, PartialEq, Eq)]
pub struct Uri {
    /// `module-path`: the PKCS#11 library of the token, or with `module-name` its directory.
    pub module: PathBuf,
    /// `module-name`: the library's name without suffix.
    pub module_name: Option<String>,
    /// `library-manufacturer`.
    pub library_manufacturer: Option<String>,
    /// `library-description`.
    pub library_description: Option<String>,
    /// `library-version`: major and minor.
    pub library_version: Option<(u8, u8)>,
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
    /// `slot-manufacturer`.
    pub slot_manufacturer: Option<String>,
    /// `slot-description`.
    pub slot_description: Option<String>,
    /// `object`: label of the key.
    pub object: Option<String>,
    /// `id` of the key.
    pub id: Option<Vec<u8>>,
    /// `pin-source`: a file with the PIN.
    pub pin_file: Option<PathBuf>,
    text: String,
}

/// The text it was parsed from, which contains no PIN.
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
    /// Whether `text` has the scheme `pkcs11:`.
    pub fn is_pkcs11(text: &str) -> bool {
        text.starts_with("pkcs11:")
    }

    /// Parses `text`. A URI that contains a PIN is rejected; errors never show a PIN.
    pub fn parse(text: &str) -> Result<Self> {
        let rest = text.strip_prefix("pkcs11:").ok_or_else(|| bad("it does not start with pkcs11:"))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut query = attributes(query, '&')?;
        if query.remove("pin-value").is_some() {
            return Err(bad("it contains a PIN (pin-value)")
                .hint("put the PIN into a file with mode 0600 and name that file: pin-source=file:/path"));
        }
        let mut path = attributes(path, ';')?;
        if path.remove("type").is_some_and(|kind| kind != b"private") {
            return Err(bad("its type is not private"));
        }
        let module = take(&mut query, "module-path")?.map(PathBuf::from).filter(|module| module.is_absolute());
        let slot = take(&mut path, "slot-id")?.map(|n| n.parse().map_err(|_| bad("slot-id is not a number")));
        let uri = Self {
            module: module.ok_or_else(|| {
                bad("it has no absolute module-path, such as module-path=/usr/lib/softhsm/libsofthsm2.so")
            })?,
            module_name: take(&mut query, "module-name")?.map(module_name).transpose()?,
            library_manufacturer: take(&mut path, "library-manufacturer")?,
            library_description: take(&mut path, "library-description")?,
            library_version: take(&mut path, "library-version")?.map(|text| version(&text)).transpose()?,
            token: take(&mut path, "token")?,
            serial: take(&mut path, "serial")?,
            manufacturer: take(&mut path, "manufacturer")?,
            model: take(&mut path, "model")?,
            slot: slot.transpose()?,
            slot_manufacturer: take(&mut path, "slot-manufacturer")?,
            slot_description: take(&mut path, "slot-description")?,
            object: take(&mut path, "object")?,
            id: path.remove("id"),
            pin_file: take(&mut query, "pin-source")?.map(|source| pin_file(&source)).transpose()?,
            text: text.to_owned(),
        };
        if let Some(name) = path.keys().chain(query.keys()).next() {
            return Err(bad(&format!("unsupported attribute {name}")));
        }
        if uri.object.is_none() && uri.id.is_none() {
            return Err(bad("it names no key: add object=LABEL or id=%01"));
        }
        Ok(uri)
    }
}

fn bad(why: &str) -> Error {
    Error::new(Class::BadInput, "invalid PKCS#11 URI").why(why).hint(
        "use the form pkcs11:token=LABEL;object=LABEL?module-path=/path/to/module.so&pin-source=file:/path/to/pin (RFC 7512)",
    )
}

/// Parses and percent-decodes the attributes of one part (RFC 7512 section 2.3: duplicates are invalid).
fn attributes(text: &str, separator: char) -> Result<BTreeMap<&str, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for attribute in text.split(separator).filter(|a| !a.is_empty()) {
        let (name, value) = attribute.split_once('=').ok_or_else(|| bad("an attribute has no value"))?;
        if found.insert(name, decode(value)?).is_some() {
            return Err(bad(&format!("duplicate attribute {name}")));
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

/// Removes the attribute `name` and returns it as text.
fn take(attributes: &mut BTreeMap<&str, Vec<u8>>, name: &str) -> Result<Option<String>> {
    let value = attributes.remove(name).map(String::from_utf8).transpose();
    value.map_err(|_| bad(&format!("attribute {name} is not UTF-8")))
}

/// `library-version`: a major number, and a minor one if it is not 0.
fn version(text: &str) -> Result<(u8, u8)> {
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    match (major.parse(), minor.parse()) {
        (Ok(major), Ok(minor)) => Ok((major, minor)),
        _ => Err(bad("library-version is not a version such as 2.6")),
    }
}

fn module_name(name: String) -> Result<String> {
    if name.contains('/') { Err(bad("module-name contains a slash")) } else { Ok(name) }
}

/// An absolute path, or a `file` URI of one (RFC 8089).
fn pin_file(source: &str) -> Result<PathBuf> {
    let path = source.strip_prefix("file://").or_else(|| source.strip_prefix("file:")).unwrap_or(source);
    let path = PathBuf::from(path);
    if path.is_absolute() { Ok(path) } else { Err(bad("pin-source is not an absolute path")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_example_of_the_rfc() {
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
    fn parses_every_attribute_of_the_rfc() {
        let uri = Uri::parse(
            "pkcs11:library-manufacturer=SoftHSM;library-description=Implementation%20of%20PKCS11;library-version=2.6;\
             slot-description=SoftHSM%20slot;slot-manufacturer=SoftHSM%20project;slot-id=7;token=t;manufacturer=m;model=d;\
             serial=s;object=k;id=%01;type=private?module-path=/usr/lib/softhsm&module-name=softhsm2&pin-source=/etc/pin",
        )
        .unwrap();
        assert_eq!((uri.library_version, uri.slot), (Some((2, 6)), Some(7)));
        assert_eq!(uri.library_manufacturer.as_deref(), Some("SoftHSM"));
        assert_eq!(uri.library_description.as_deref(), Some("Implementation of PKCS11"));
        assert_eq!(uri.slot_description.as_deref(), Some("SoftHSM slot"));
        assert_eq!(uri.slot_manufacturer.as_deref(), Some("SoftHSM project"));
        assert_eq!(uri.module_name.as_deref(), Some("softhsm2"));
        let major = Uri::parse("pkcs11:object=a;library-version=3?module-path=/x.so").unwrap();
        assert_eq!(major.library_version, Some((3, 0)));
    }

    #[test]
    fn rejects_malformed_uris_and_pins() {
        for (text, word) in [
            ("file:/x", "does not start"),
            ("pkcs11:object=a", "module-path"),
            ("pkcs11:object=a?module-path=x.so", "module-path"),
            ("pkcs11:token=a?module-path=/x.so", "names no key"),
            ("pkcs11:object=a;object=b?module-path=/x.so", "duplicate"),
            ("pkcs11:object=%4?module-path=/x.so", "percent"),
            ("pkcs11:object=%ff?module-path=/x.so", "UTF-8"),
            ("pkcs11:object=a;type=cert?module-path=/x.so", "type"),
            ("pkcs11:object=a;x-y=1?module-path=/x.so", "unsupported attribute x-y"),
            ("pkcs11:object=a?module-path=/x.so&pin-source=pin", "pin-source"),
            ("pkcs11:object=a;slot-id=x?module-path=/x.so", "slot-id"),
            ("pkcs11:object?module-path=/x.so", "no value"),
            ("pkcs11:object=a;library-version=2.x?module-path=/x.so", "library-version"),
            ("pkcs11:object=a;library-version=300?module-path=/x.so", "library-version"),
            ("pkcs11:object=a?module-path=/x&module-name=..%2fy", "module-name"),
        ] {
            let error = Uri::parse(text).unwrap_err();
            assert!(error.class() == Class::BadInput && error.to_string().contains(word), "{text}: {error}");
        }
        let error = Uri::parse("pkcs11:object=a?module-path=/x.so&pin-value=8888").unwrap_err().to_string();
        assert!(error.contains("pin-source") && !error.contains("8888"), "{error}");
    }
}

//! `keys.toml`: where the keys of a set are, for those that are not files with the default names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{Class, Error, Result};
use serde::Deserialize;

use crate::role::Role;
use crate::uri::Uri;

/// Name of the file in the key set's directory.
pub const FILE: &str = "keys.toml";

/// Where a private key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A file: PEM, PKCS#8.
    File(PathBuf),
    /// A PKCS#11 token.
    Token(Box<Uri>),
    /// An external signer: see [`crate::detached`].
    External,
}

/// Where the two halves of a key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The certificate or public key.
    pub public: PathBuf,
    /// The private key.
    pub private: Holder,
    /// Whether `keys.toml` names the key, which makes its public half mandatory.
    pub named: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    public: Option<String>,
    private: Option<String>,
}

/// Returns the locations of all roles in the set `dir`: those in `keys.toml`, and the default names for the other roles.
///
/// # Errors
/// [`Class::BadInput`] when `keys.toml` is malformed or names an unknown role.
pub fn locations(dir: &Path) -> Result<BTreeMap<Role, Location>> {
    let mut locations: BTreeMap<_, _> = Role::ALL.into_iter().map(|role| (role, default_location(dir, role))).collect();
    let path = dir.join(FILE);
    let text = match fs_err::read_to_string(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(locations),
        text => text?,
    };
    let bad = |why: String| Error::new(Class::BadInput, format!("{FILE} is malformed")).file(&path).why(why);
    let tables: BTreeMap<String, Table> = toml::from_str(&text).map_err(|e| bad(without_source(&e, &text)))?;
    for (name, table) in tables {
        let role = Role::named(&name).ok_or_else(|| {
            bad(format!("unknown role {name:?}")).hint(format!("roles are {}", Role::ALL.map(Role::name).join(", ")))
        })?;
        let private = match table.private {
            None => Holder::External,
            Some(uri) if Uri::is_pkcs11(&uri) => Holder::Token(Box::new(Uri::parse(&uri).map_err(|e| e.file(&path))?)),
            Some(file) => Holder::File(dir.join(file)),
        };
        let public = dir.join(table.public.unwrap_or_else(|| role.public_file()));
        locations.insert(role, Location { public, private, named: true });
    }
    Ok(locations)
}

/// The message and line number of a TOML error, without the source line: it may contain a PIN, against all advice.
fn without_source(err: &toml::de::Error, text: &str) -> String {
    let line = err.span().and_then(|at| text.get(..at.start)).map_or(1, |before| before.matches('\n').count() + 1);
    format!("line {line}: {}", err.message())
}

/// Returns the location of one role; see [`locations`].
pub fn location(dir: &Path, role: Role) -> Result<Location> {
    Ok(locations(dir)?.remove(&role).unwrap_or_else(|| default_location(dir, role)))
}

fn default_location(dir: &Path, role: Role) -> Location {
    let private = dir.join(role.key_file());
    let private = if private.exists() { Holder::File(private) } else { Holder::External };
    Location { public: dir.join(role.public_file()), private, named: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_do_not_show_a_pin() {
        let dir = tempfile::tempdir().unwrap();
        for (text, line) in [
            ("[image]\nprivate = \"a\"\n[module]\npin = \"4711\"\n", "line 4"),
            ("[module]\nprivate = \"pkcs11:token=a?pin-value=4711\n", "line 2"),
        ] {
            fs_err::write(dir.path().join(FILE), text).unwrap();
            let error = locations(dir.path()).unwrap_err();
            assert_eq!(error.class(), Class::BadInput);
            assert!(error.to_string().contains(line) && !error.to_string().contains("4711"), "{error}");
        }
    }
}

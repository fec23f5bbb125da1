//! `keys.toml`: where the keys of a set are, for those that are not files under their usual names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{Class, Error, Result};
use serde::Deserialize;

use crate::role::Role;
use crate::uri::Uri;

/// Name of the file in a set's directory.
pub const FILE: &str = "keys.toml";

/// Who holds a private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A file: PEM, PKCS#8.
    File(PathBuf),
    /// A PKCS#11 token.
    Token(Box<Uri>),
    /// Somebody else.
    Elsewhere,
}

/// Where the two halves of a key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The certificate or public key.
    pub public: PathBuf,
    /// The private key.
    pub private: Holder,
    /// Whether `keys.toml` names it, so that it has to be there.
    pub named: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    public: Option<String>,
    private: Option<String>,
}

/// Places of all roles in the set `dir`: what `keys.toml` says, and the usual names for roles it does not have.
///
/// # Errors
/// [`Class::BadInput`] when the file is malformed, or names a role, key or URI that there is not.
pub fn places(dir: &Path) -> Result<BTreeMap<Role, Place>> {
    let mut places: BTreeMap<_, _> = Role::ALL.into_iter().map(|role| (role, usual(dir, role))).collect();
    let path = dir.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(places),
        text => text.map_err(|e| Error::io("cannot read where keys are", &path, &e))?,
    };
    let bad = |why: &dyn std::fmt::Display| {
        Error::new(Class::BadInput, "the record of where keys are is malformed").file(&path).why(why)
    };
    let tables: BTreeMap<String, Table> = toml::from_str(&text).map_err(|e| bad(&unquoted(&e, &text)))?;
    for (name, table) in tables {
        let role = Role::named(&name).ok_or_else(|| {
            let names: Vec<_> = Role::ALL.iter().map(|role| role.name()).collect();
            bad(&format!("there is no role {name:?}")).hint(format!("roles are {}", names.join(", ")))
        })?;
        let private = match table.private {
            None => Holder::Elsewhere,
            Some(uri) if Uri::looks_like_one(&uri) => {
                Holder::Token(Box::new(Uri::parse(&uri).map_err(|e| e.file(&path))?))
            }
            Some(file) => Holder::File(dir.join(file)),
        };
        let public = dir.join(table.public.unwrap_or_else(|| role.public_file()));
        places.insert(role, Place { public, private, named: true });
    }
    Ok(places)
}

/// What is wrong and in which line, without the line: a PIN may be in it, against all advice.
fn unquoted(err: &toml::de::Error, text: &str) -> String {
    let line = err.span().and_then(|at| text.get(..at.start)).map_or(1, |before| before.matches('\n').count() + 1);
    format!("line {line}: {}", err.message())
}

/// The place of one role; see [`places`].
///
/// # Errors
/// As [`places`].
pub fn place(dir: &Path, role: Role) -> Result<Place> {
    Ok(places(dir)?.remove(&role).unwrap_or_else(|| usual(dir, role)))
}

fn usual(dir: &Path, role: Role) -> Place {
    let private = dir.join(role.key_file());
    let private = if private.exists() { Holder::File(private) } else { Holder::Elsewhere };
    Place { public: dir.join(role.public_file()), private, named: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_does_not_show_a_pin() {
        let dir = tempfile::tempdir().unwrap();
        for (text, line) in [
            ("[image]\nprivate = \"a\"\n[module]\npin = \"4711\"\n", "line 4"),
            ("[module]\nprivate = \"pkcs11:token=a?pin-value=4711\n", "line 2"),
        ] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            let error = places(dir.path()).unwrap_err();
            assert_eq!(error.class(), Class::BadInput);
            assert!(error.to_string().contains(line) && !error.to_string().contains("4711"), "{error}");
        }
    }
}

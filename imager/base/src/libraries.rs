//! Finds the shared libraries that programs need, and those that these need.

use std::collections::BTreeSet;

use common::{Class, Error, Result};
use formats::elf;
use fs_err as fs;

use crate::debian::Debian;

/// Directories of libraries in Debian, in the order of the dynamic linker; libraries have the same paths in the tree.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "usr/lib"];
/// The dynamic linker of every program.
const INTERPRETER: &str = "/lib64/ld-linux-x86-64.so.2";

/// Returns the paths of all libraries that `programs` (paths in the toolchain) and `named` need.
///
/// # Errors
/// [`Class::MissingTool`] with the program that needs a missing library; [`Class::BadInput`] for a script or another dynamic linker.
pub fn closure<'a>(
    debian: &Debian,
    programs: impl Iterator<Item = &'a str>,
    named: &BTreeSet<String>,
) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for name in named {
        found.insert(library(debian, "the list of libraries", name, &[])?);
    }
    let mut left: Vec<_> = found.iter().cloned().chain(programs.map(str::to_owned)).collect();
    while let Some(path) = left.pop() {
        for library in needs(debian, &path)? {
            if found.insert(library.clone()) {
                left.push(library);
            }
        }
    }
    Ok(found)
}

/// Returns the libraries that the file `path` needs, none if it is not an ELF file.
fn needs(debian: &Debian, path: &str) -> Result<Vec<String>> {
    let bytes = fs::read(debian.find(path)?.0)?;
    let bad = |why: &str| Error::new(Class::BadInput, format!("/{path} cannot run in the tree")).why(why.to_owned());
    if bytes.starts_with(b"#!") {
        return Err(bad("it is a script, and the tree has no shell"));
    }
    if !bytes.starts_with(b"\x7fELF") {
        return Ok(Vec::new());
    }
    let dynamic = elf::dynamic(&bytes).ok_or_else(|| bad("it is not an ELF file for this machine"))?;
    if dynamic.interpreter.is_some_and(|name| name != INTERPRETER) {
        return Err(bad(&format!("its dynamic linker is not {INTERPRETER}")));
    }
    let search: Vec<_> = dynamic.search.iter().map(|dir| dir.trim_start_matches('/')).collect();
    dynamic.needed.iter().map(|name| library(debian, path, name, &search)).collect()
}

/// Returns the path of the library `name` that `user` needs; `first` is searched before Debian's directories.
fn library(debian: &Debian, user: &str, name: &str, first: &[&str]) -> Result<String> {
    let dirs = first.iter().chain(&LIBRARIES);
    dirs.map(|dir| format!("{dir}/{name}")).find(|path| debian.has(path)).ok_or_else(|| {
        Error::new(Class::MissingTool, format!("the library {name} is not in the toolchain"))
            .why(format!("{user} needs it"))
            .hint("add its package to crates/toolchain/base.list")
    })
}

#[cfg(test)]
mod tests {
    use formats::samples::elf;

    use super::*;
    use crate::debian::tests::toolchain;

    /// An ELF file with an interpreter that needs libraries with these names, and searches `/opt` first.
    fn program(interpreter: &str, needed: &[&str]) -> Vec<u8> {
        let (mut names, mut entries) = (b"\0/opt\0".to_vec(), vec![[29_u64, 1]]);
        for name in needed {
            entries.push([1, names.len() as u64]);
            names.extend(name.bytes().chain([0]));
        }
        let entries: Vec<u8> = entries.iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
        let interpreter = format!("{interpreter}\0");
        elf(&[(".interp", interpreter.as_bytes()), (".dynamic", &entries), (".dynstr", &names)])
    }

    const MULTIARCH: &str = "usr/lib/x86_64-linux-gnu";

    #[test]
    fn libraries_of_libraries_are_found_once() {
        let dir = tempfile::tempdir().unwrap();
        let elf = |needed: &[&str]| program(INTERPRETER, needed);
        let files: [(&str, &[u8]); 6] = [
            ("usr/sbin/a", &elf(&["libone.so", "libc.so.6"])),
            (&format!("{MULTIARCH}/libone.so"), &elf(&["libtwo.so", "libc.so.6"])),
            ("opt/libtwo.so", &elf(&["libone.so"])),
            (&format!("{MULTIARCH}/libtwo.so"), b"not the one that is searched first"),
            (&format!("{MULTIARCH}/libc.so.6"), &elf(&[])),
            (&format!("{MULTIARCH}/libopened.so"), &elf(&["libc.so.6"])),
        ];
        let debian = toolchain(dir.path(), &files);
        let named = BTreeSet::from(["libopened.so".to_owned()]);
        let found = closure(&debian, ["usr/sbin/a"].into_iter(), &named).unwrap();
        let expected = ["libc.so.6", "libone.so", "libopened.so"].map(|name| format!("{MULTIARCH}/{name}"));
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [&["opt/libtwo.so".to_owned()], &expected[..]].concat());
    }

    #[test]
    fn a_missing_library_is_an_error_that_names_the_program() {
        let dir = tempfile::tempdir().unwrap();
        let debian = toolchain(dir.path(), &[("usr/sbin/a", &program(INTERPRETER, &["libno.so.1"]))]);
        let error = closure(&debian, ["usr/sbin/a"].into_iter(), &BTreeSet::new()).unwrap_err();
        assert_eq!(error.class(), Class::MissingTool);
        let text = error.to_string();
        assert!(text.contains("libno.so.1 is not in the toolchain") && text.contains("usr/sbin/a needs it"), "{text}");
    }

    #[test]
    fn what_cannot_run_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let files: [(&str, &[u8]); 3] =
            [("script", b"#!/bin/sh\n"), ("musl", &program("/lib/ld-musl.so.1", &[])), ("short", b"\x7fELF\x01")];
        let debian = toolchain(dir.path(), &files);
        for (name, why) in [("script", "it is a script"), ("musl", "dynamic linker"), ("short", "not an ELF file")] {
            let error = closure(&debian, [name].into_iter(), &BTreeSet::new()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}

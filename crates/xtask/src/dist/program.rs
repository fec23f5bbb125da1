//! The static program, compiled so that it does not depend on where.
//!
//! musl and not glibc: a static glibc needs the host's own glibc again to resolve host names (getaddrinfo(3), NSS), which push and pull do.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use xshell::{Shell, cmd};

use super::commit::Commit;

/// What the program runs on.
pub const TARGET: &str = "x86_64-unknown-linux-musl";

/// Variables of the caller that change what a compiler makes.
const FLAGS: [&str; 6] = ["RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CFLAGS", "CPPFLAGS", "LDFLAGS", "CARGO_BUILD_TARGET"];

/// Compiles `solana-talos` of the source that `shell` is in; objects go to `target`. Returns the path of the program.
pub fn compile(shell: &Shell, commit: &Commit, target: &Path) -> Result<PathBuf> {
    need_target(shell)?;
    let root = shell.current_dir();
    let prefixes = prefixes(&root, target, &cargo_home()?)?;
    let rust: Vec<_> = prefixes.iter().map(|(from, to)| format!("--remap-path-prefix={from}={to}")).collect();
    let c: Vec<_> = prefixes.iter().map(|(from, to)| format!("-ffile-prefix-map={from}={to}")).collect();
    let command = cmd!(shell, "cargo build --locked -p solana-talos --release --target {TARGET} --target-dir {target}");
    let command = FLAGS.iter().fold(command, |command, flag| command.env_remove(flag));
    command
        .env("CARGO_ENCODED_RUSTFLAGS", rust.join("\u{1f}"))
        .env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo")
        .env("CFLAGS_x86_64_unknown_linux_musl", c.join(" "))
        .env("SOLANA_TALOS_COMMIT", &commit.text)
        .run()?;
    let program = target.join(TARGET).join("release/solana-talos");
    check_static(&shell.read_binary_file(&program)?)?;
    Ok(program)
}

/// The standard library for musl, for the compiler that `rust-toolchain.toml` names.
fn need_target(shell: &Shell) -> Result<()> {
    let sysroot = cmd!(shell, "rustc --print sysroot").quiet().read()?;
    if Path::new(&sysroot).join("lib/rustlib").join(TARGET).is_dir() {
        return Ok(());
    }
    cmd!(shell, "rustup target add {TARGET}").run().with_context(|| {
        format!(
            "install Rust's standard library for {TARGET}: `rustup target add`, or the package of your distribution"
        )
    })
}

fn cargo_home() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = set("CARGO_HOME").or_else(|| set("HOME").map(|home| home.join(".cargo")));
    home.context("neither CARGO_HOME nor HOME is set")
}

/// Returns the directories that end up in a program, and what is written in their place. The last match counts.
fn prefixes(root: &Path, target: &Path, cargo_home: &Path) -> Result<Vec<(String, &'static str)>> {
    // A directory for each registry, whose name has a hash of its address; and that of `./x --offline`.
    let registries = match std::fs::read_dir(cargo_home.join("registry/src")) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?,
        Err(_) => Vec::new(),
    };
    let crates = registries.into_iter().chain([cargo_home.join("crates")]).map(|dir| (dir, "/crates"));
    let named = [(root.to_owned(), "/solana-talos"), (target.to_owned(), "/target")].into_iter().chain(crates);
    let mut prefixes = Vec::new();
    for (dir, name) in named {
        let dir = dir.to_str().context("the name of a directory is not UTF-8")?.to_owned();
        ensure!(!dir.contains(['=', ' ']), "{dir}: a directory with a space or `=` cannot be replaced in the program");
        prefixes.push((dir, name));
    }
    Ok(prefixes)
}

fn check_static(program: &[u8]) -> Result<()> {
    let needs = formats::elf::dynamic(program).context("the compiler made no ELF file")?;
    ensure!(needs.interpreter.is_none() && needs.needed.is_empty(), "the program is not static: {needs:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_libraries_is_refused() {
        let error = check_static(&std::fs::read("/proc/self/exe").unwrap()).unwrap_err();
        assert!(error.to_string().contains("the program is not static"), "{error}");
        assert!(check_static(b"#!/bin/sh").is_err());
    }

    #[test]
    fn every_registry_has_one_name() {
        let home = tempfile::tempdir().unwrap();
        for name in ["registry-0123", "registry-4567"] {
            std::fs::create_dir_all(home.path().join("registry/src").join(name)).unwrap();
        }
        let found = prefixes(Path::new("/src"), Path::new("/src/target/dist"), home.path()).unwrap();
        assert_eq!(found[..2], [("/src".to_owned(), "/solana-talos"), ("/src/target/dist".to_owned(), "/target")]);
        assert!(found.len() == 5 && found[2..].iter().all(|(_, name)| *name == "/crates"), "{found:?}");
        assert!(prefixes(Path::new("/my source"), Path::new("/t"), home.path()).is_err());
    }
}

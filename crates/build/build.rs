//! Compiles the digests of our own sources into the program; see `src/sources/scan.rs`.

#[path = "src/sources/scan.rs"]
mod scan;

use std::path::Path;

fn main() -> Result<(), String> {
    let own = std::env::var("CARGO_MANIFEST_DIR").map_err(|e| e.to_string())?;
    let root = Path::new(&own).ancestors().nth(2).ok_or("the crate is not in the workspace")?;
    let packages = scan::packages(root, &scan::ROOTS)?;
    for file in
        scan::SHARED.iter().map(|file| root.join(file)).chain(packages.values().flat_map(scan::Package::watched))
    {
        // Relative to this package, so that a copy of the project with its target directory watches its own files.
        println!("cargo:rerun-if-changed=../../{}", file.strip_prefix(root).unwrap_or(&file).display());
    }
    let digests = scan::digests(root, &packages)?;
    let table: Vec<_> = digests.iter().map(|(package, digest)| format!("{package} {digest}")).collect();
    println!("cargo:rustc-env=SOLANA_TALOS_SOURCES={}", table.join(";"));
    Ok(())
}

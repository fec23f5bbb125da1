//! Pinned files from the network, fetched by the toolchain's own apt so that the tool needs no HTTP stack and no host name of an archive.

use std::path::{Path, PathBuf};

use common::sandbox::{Run, Sandbox};
use common::store::Store;
use common::{Class, Error, Result, Sha256};

/// Where a pinned file comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file in the pool of Debian's security or main archive, such as `pool/updates/main/l/linux/linux-source-6.12_6.12.117-1_all.deb`.
    /// Old versions stay there for months after the index has dropped them.
    DebianPool(String),
    /// Any other address.
    Url(String),
}

/// Prints the address of every archive that apt uses, then tries each for the file. `$1` is the path, `$2` the digest.
const FROM_POOL: &str = r#"
mkdir -p /tmp/lists/partial
for site in $(sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\(http[^ ]*\) .*/\2/p' /etc/apt/sources.list | sort -u); do
    if /usr/lib/apt/apt-helper -o Dir::State::lists=/tmp/lists download-file "${site%/}/$1" /build/out/file "SHA256:$2"; then exit 0; fi
done
echo "no archive of the toolchain's sources.list has $1" >&2
exit 1
"#;

/// Fetches `digest` from the first origin that gives it into `store`, unless it (or a mirror) has it already.
///
/// # Errors
/// [`Class::Verification`] when an origin gives other bytes, [`Class::Infrastructure`] when none can be reached.
pub fn fetch(
    sandbox: &Sandbox,
    store: &Store,
    digest: &Sha256,
    origins: &[Origin],
    line: &mut dyn FnMut(&str),
) -> Result<PathBuf> {
    if let Some(path) = store.find(digest)? {
        return Ok(path);
    }
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("file");
    let mut failures = Vec::new();
    for origin in origins {
        match sandbox.run(&download(origin, digest, dir.path()), line) {
            Ok(()) => return store.insert(&file, digest),
            Err(e) => failures.push((origin, e)),
        }
    }
    Err(explain(digest, &failures))
}

fn download(origin: &Origin, digest: &Sha256, out: &Path) -> Run {
    let digest = digest.to_string();
    let run = match origin {
        Origin::DebianPool(path) => Run::script(FROM_POOL, &[path, &digest]),
        Origin::Url(url) => {
            Run::new(["/usr/lib/apt/apt-helper", "download-file", url, "/build/out/file", &format!("SHA256:{digest}")])
        }
    };
    run.write(out, "/build/out").with_network()
}

fn explain(digest: &Sha256, failures: &[(&Origin, Error)]) -> Error {
    let text = failures.iter().map(|(origin, e)| format!("{origin:?}: {e}")).collect::<Vec<_>>().join("\n");
    let wrong = text.contains("Hash Sum mismatch");
    let class = if wrong { Class::Verification } else { Class::Infrastructure };
    let what = if wrong { "a downloaded file is not the pinned one" } else { "cannot download a pinned file" };
    Error::new(class, what)
        .why(format!("sha256 {digest}\n{text}"))
        .hint("without network, give a directory that holds the file under its sha256 as name: --mirror DIR")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_store_needs_no_network() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Sha256::of("x");
        std::fs::write(dir.path().join(digest.to_string()), "x").unwrap();
        let store = Store::new(dir.path().join("store"), vec![dir.path().to_owned()]);
        let sandbox = Sandbox::new("/nonexistent".into());
        assert!(fetch(&sandbox, &store, &digest, &[], &mut |_| ()).is_ok());
        let error = fetch(&sandbox, &store, &Sha256::of("y"), &[], &mut |_| ()).unwrap_err();
        assert_eq!(error.class(), Class::Infrastructure);
        assert!(error.to_string().contains("--mirror"), "{error}");
    }

    #[test]
    fn another_file_is_a_verification_error() {
        let origin = Origin::Url("https://example.invalid/x".into());
        let failure = Error::new(Class::BuildFailed, "apt-helper failed").why("E: Hash Sum mismatch");
        assert_eq!(explain(&Sha256::of("x"), &[(&origin, failure)]).class(), Class::Verification);
    }
}

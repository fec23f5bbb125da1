//! What every stage of the kernel needs: the toolchain, the cache, and the settings that make a build reproducible.

use common::Sha256;
use common::sandbox::{Run, Sandbox};
use common::stage::{Cache, Fingerprint};
use common::time::rfc3339;

/// Where the source tree is seen inside the sandbox. Fixed, since out-of-tree Rust modules need the path that the kernel was built at.
pub const SRC: &str = "/build/src";
/// Where the object tree is seen inside the sandbox.
pub const OBJ: &str = "/build/obj";
/// Where the certificate that the kernel embeds is seen; `fragments/module-signing.config` names it.
pub const CERTIFICATE: &str = "/build/keys/module.crt.pem";

/// Builds kernels.
#[derive(Clone, Debug)]
pub struct Forge<'a> {
    /// Runs the toolchain's programs.
    pub sandbox: &'a Sandbox,
    /// Identity of the toolchain, an input of every stage.
    pub toolchain: Sha256,
    /// Finished stages.
    pub cache: Cache<'a>,
    /// Seconds since 1970 that stand in every output instead of the clock (reproducible-builds.org, SOURCE_DATE_EPOCH).
    pub epoch: u64,
    /// Whether clippy compiles the kernel's Rust, warnings as errors (`make CLIPPY=1`, Documentation/rust/general-information.rst).
    pub clippy: bool,
    /// Parallel jobs of make. Never part of a fingerprint: outputs must not depend on it.
    pub jobs: usize,
}

impl Forge<'_> {
    /// A fingerprint that already holds what every stage reads.
    #[must_use]
    pub fn fingerprint(&self, stage: &'static str) -> Fingerprint {
        Fingerprint::new(stage).with("toolchain", self.toolchain.to_string()).with("epoch", self.epoch.to_string())
    }

    /// `make` of the kernel with settings that keep host, time and paths out of the result
    /// (Documentation/kbuild/reproducible-builds.rst).
    #[must_use]
    pub fn make(&self, targets: &[&str]) -> Run {
        self.make_at(&["-C", SRC, &format!("O={OBJ}")], &[SRC, OBJ], targets)
    }

    /// [`Forge::make`] of the tree that the words `place` name; what is in the directories `unseen` loses their names.
    #[must_use]
    pub(crate) fn make_at(&self, place: &[&str], unseen: &[&str], targets: &[&str]) -> Run {
        let jobs = format!("-j{}", self.jobs);
        let maps: Vec<_> = unseen.iter().map(|dir| format!("-ffile-prefix-map={dir}/=")).collect();
        let fixed = [
            jobs,
            format!("KBUILD_BUILD_TIMESTAMP={}", rfc3339(self.epoch)),
            "KBUILD_BUILD_USER=talos".to_owned(),
            "KBUILD_BUILD_HOST=solana-talos".to_owned(),
            "KBUILD_BUILD_VERSION=1".to_owned(),
            format!("KCFLAGS={}", maps.join(" ")),
        ];
        let clippy = if self.clippy { &["CLIPPY=1", "KRUSTFLAGS=-Dwarnings"][..] } else { &[] };
        let argv = ["make", "LLVM=1"]
            .iter()
            .chain(place)
            .map(|&word| word.to_owned())
            .chain(fixed)
            .chain(clippy.iter().chain(targets).map(|&word| word.to_owned()));
        Run::new(argv).env("SOURCE_DATE_EPOCH", self.epoch.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::event::Silent;

    /// The words are part of the kernel's key: a change of them compiles every kernel again.
    #[test]
    fn the_kernels_make_has_these_words() {
        let sandbox = Sandbox::new("/r".into());
        let cache = Cache::new(std::path::Path::new("/c"), &Silent);
        let forge = Forge { sandbox: &sandbox, toolchain: Sha256::of(""), cache, epoch: 0, clippy: true, jobs: 3 };
        let line = forge.make(&["modules"]).shell_line(std::path::Path::new("/r"));
        let words = "make LLVM=1 -C /build/src O=/build/obj -j3 KBUILD_BUILD_TIMESTAMP=1970-01-01T00:00:00Z KBUILD_BUILD_USER=talos \
                     KBUILD_BUILD_HOST=solana-talos KBUILD_BUILD_VERSION=1 \
                     'KCFLAGS=-ffile-prefix-map=/build/src/= -ffile-prefix-map=/build/obj/=' CLIPPY=1 KRUSTFLAGS=-Dwarnings modules";
        assert!(line.ends_with(words), "{line}");
    }
}

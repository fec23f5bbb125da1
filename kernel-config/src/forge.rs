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
        let jobs = format!("-j{}", self.jobs);
        let fixed = [
            "make".to_owned(),
            "LLVM=1".to_owned(),
            "-C".to_owned(),
            SRC.to_owned(),
            format!("O={OBJ}"),
            jobs,
            format!("KBUILD_BUILD_TIMESTAMP={}", rfc3339(self.epoch)),
            "KBUILD_BUILD_USER=talos".to_owned(),
            "KBUILD_BUILD_HOST=solana-talos".to_owned(),
            "KBUILD_BUILD_VERSION=1".to_owned(),
            format!("KCFLAGS=-ffile-prefix-map={SRC}/= -ffile-prefix-map={OBJ}/="),
        ];
        let clippy = if self.clippy { &["CLIPPY=1", "KRUSTFLAGS=-Dwarnings"][..] } else { &[] };
        let argv = fixed
            .into_iter()
            .chain(clippy.iter().map(|&word| word.to_owned()))
            .chain(targets.iter().map(|&t| t.to_owned()));
        Run::new(argv).env("SOURCE_DATE_EPOCH", self.epoch.to_string())
    }
}

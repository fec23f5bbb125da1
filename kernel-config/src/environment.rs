//! What every stage of the kernel needs: the toolchain, the cache, and the settings that make a build reproducible.

use common::Sha256;
use common::sandbox::{Run, Sandbox};
use common::stage::{Cache, Input};
use common::time::rfc3339;

/// Where the source tree is seen inside the sandbox. Fixed, since out-of-tree Rust modules need the path that the kernel was built at.
pub const SRC: &str = "/build/src";
/// Where the object tree is seen inside the sandbox.
pub const OBJ: &str = "/build/obj";
/// Where the certificate that the kernel embeds is seen; `fragments/module-signing.config` names it.
pub const CERTIFICATE: &str = "/build/keys/module.crt.pem";

/// Where kernels are built.
#[derive(Clone, Debug)]
pub struct Environment<'a> {
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
    /// Parallel jobs of make. Never part of a key: outputs must not depend on it.
    pub jobs: usize,
}

/// What every stage may use.
#[derive(Clone, Copy, Debug)]
pub struct Tools<'a> {
    /// Runs the toolchain's programs.
    pub sandbox: &'a Sandbox,
    /// As [`Environment::epoch`].
    pub epoch: u64,
}

impl<'a> Environment<'a> {
    /// The input of every stage.
    #[must_use]
    pub fn tools(&self) -> Input<Tools<'a>> {
        let entries = [("toolchain", self.toolchain.to_string()), ("epoch", self.epoch.to_string())];
        Input::known_by(entries, Tools { sandbox: self.sandbox, epoch: self.epoch })
    }

    /// `make` of the kernel.
    #[must_use]
    pub fn make(&self) -> Make {
        self.make_at(&["-C", SRC, &format!("O={OBJ}")], &[SRC, OBJ])
    }

    /// `make` of the tree that the words `place` name; what is in the directories `unseen` loses their names.
    pub(crate) fn make_at(&self, place: &[&str], unseen: &[&str]) -> Make {
        let maps: Vec<_> = unseen.iter().map(|dir| format!("-ffile-prefix-map={dir}/=")).collect();
        let fixed = [
            format!("-j{}", self.jobs),
            format!("KBUILD_BUILD_TIMESTAMP={}", rfc3339(self.epoch)),
            "KBUILD_BUILD_USER=talos".to_owned(),
            "KBUILD_BUILD_HOST=solana-talos".to_owned(),
            "KBUILD_BUILD_VERSION=1".to_owned(),
            format!("KCFLAGS={}", maps.join(" ")),
        ];
        let clippy = if self.clippy { &["CLIPPY=1", "KRUSTFLAGS=-Dwarnings"][..] } else { &[] };
        let words = ["make", "LLVM=1"].iter().chain(place).map(|&word| word.to_owned()).chain(fixed);
        Make { words: words.chain(clippy.iter().map(|&word| word.to_owned())).collect(), epoch: self.epoch }
    }
}

/// `make` of the kernel with settings that keep host, time and paths out of the result (Documentation/kbuild/reproducible-builds.rst).
#[derive(Clone, Debug)]
pub struct Make {
    words: Vec<String>,
    epoch: u64,
}

impl Make {
    /// To run for `targets`.
    #[must_use]
    pub fn run(&self, targets: &[&str]) -> Run {
        let words = self.words.iter().map(String::as_str).chain(targets.iter().copied());
        Run::new(words).env("SOURCE_DATE_EPOCH", self.epoch.to_string())
    }

    /// As an input, by the command line for `targets`.
    #[must_use]
    pub fn input(self, targets: &[&str]) -> Input<Self> {
        Input::known_by([("make", self.run(targets).fingerprint())], self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::event::Silent;
    use common::stage::Sources;

    /// The words are part of the kernel's key: a change of them compiles every kernel again.
    #[test]
    fn the_kernels_make_has_these_words() {
        let sandbox = Sandbox::new("/r".into());
        let cache = Cache::new(std::path::Path::new("/c"), &Silent, Sources::new(""));
        let env = Environment { sandbox: &sandbox, toolchain: Sha256::of(""), cache, epoch: 0, clippy: true, jobs: 3 };
        let line = env.make().run(&["modules"]).shell_line(std::path::Path::new("/r"));
        let words = "make LLVM=1 -C /build/src O=/build/obj -j3 KBUILD_BUILD_TIMESTAMP=1970-01-01T00:00:00Z KBUILD_BUILD_USER=talos \
                     KBUILD_BUILD_HOST=solana-talos KBUILD_BUILD_VERSION=1 \
                     'KCFLAGS=-ffile-prefix-map=/build/src/= -ffile-prefix-map=/build/obj/=' CLIPPY=1 KRUSTFLAGS=-Dwarnings modules";
        assert!(line.ends_with(words), "{line}");
    }
}

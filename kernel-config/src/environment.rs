//! The build environment of the kernel's stages: toolchain, cache, and the settings that make a build reproducible.

use common::Sha256;
use common::sandbox::{Run, Sandbox};
use common::stage::{Cache, Input};
use common::time::rfc3339;

/// Source tree in the sandbox. Fixed: out-of-tree Rust modules need the path that the kernel was built at.
pub const SRC: &str = "/build/src";
/// Object tree in the sandbox.
pub const OBJ: &str = "/build/obj";
/// Certificate that the kernel embeds, in the sandbox; `fragments/module-signing.config` names it.
pub const CERTIFICATE: &str = "/build/keys/module.crt.pem";

/// The build environment.
#[derive(Clone, Debug)]
pub struct Environment<'a> {
    /// Runs the toolchain's programs.
    pub sandbox: &'a Sandbox,
    /// Identity of the toolchain, an input of every stage.
    pub toolchain: Sha256,
    /// Cache of finished stages.
    pub cache: Cache<'a>,
    /// Time stamp of every output, in seconds since 1970 (reproducible-builds.org, SOURCE_DATE_EPOCH).
    pub epoch: u64,
    /// Whether clippy compiles the kernel's Rust, with warnings as errors (`make CLIPPY=1`, Documentation/rust/general-information.rst).
    pub clippy: bool,
    /// Parallel jobs of make. Not in any key: outputs must not depend on it.
    pub jobs: usize,
}

/// The part of the environment that the steps of a stage see.
#[derive(Clone, Copy, Debug)]
pub struct Tools<'a> {
    /// Runs the toolchain's programs.
    pub sandbox: &'a Sandbox,
    /// See [`Environment::epoch`].
    pub epoch: u64,
}

impl<'a> Environment<'a> {
    /// Returns the toolchain and the time stamp as an input.
    #[must_use]
    pub fn tools(&self) -> Input<Tools<'a>> {
        let entries = [("toolchain", self.toolchain.to_string()), ("epoch", self.epoch.to_string())];
        Input::known_by(entries, Tools { sandbox: self.sandbox, epoch: self.epoch })
    }

    /// Returns the kernel's `make`.
    #[must_use]
    pub fn make(&self) -> Make {
        self.make_at(&["-C", SRC, &format!("O={OBJ}")], &[SRC, OBJ])
    }

    /// Returns `make` in the tree that the arguments `tree` select; `prefixes` are removed from file names in the output.
    pub(crate) fn make_at(&self, tree: &[&str], prefixes: &[&str]) -> Make {
        let maps: Vec<_> = prefixes.iter().map(|dir| format!("-ffile-prefix-map={dir}/=")).collect();
        let fixed = [
            format!("-j{}", self.jobs),
            format!("KBUILD_BUILD_TIMESTAMP={}", rfc3339(self.epoch)),
            "KBUILD_BUILD_USER=talos".to_owned(),
            "KBUILD_BUILD_HOST=solana-talos".to_owned(),
            "KBUILD_BUILD_VERSION=1".to_owned(),
            format!("KCFLAGS={}", maps.join(" ")),
        ];
        let clippy = if self.clippy { &["CLIPPY=1", "KRUSTFLAGS=-Dwarnings"][..] } else { &[] };
        let words = ["make", "LLVM=1"].iter().chain(tree).map(|&word| word.to_owned()).chain(fixed);
        Make { words: words.chain(clippy.iter().map(|&word| word.to_owned())).collect(), epoch: self.epoch }
    }
}

/// The kernel's `make`, with settings that keep host, time and paths out of the output (Documentation/kbuild/reproducible-builds.rst).
#[derive(Clone, Debug)]
pub struct Make {
    words: Vec<String>,
    epoch: u64,
}

impl Make {
    /// Returns the command for `targets`.
    #[must_use]
    pub fn run(&self, targets: &[&str]) -> Run {
        let words = self.words.iter().map(String::as_str).chain(targets.iter().copied());
        Run::new(words).env("SOURCE_DATE_EPOCH", self.epoch.to_string())
    }

    /// Returns it as an input, keyed by the command line for `targets`.
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

    /// The command line is in the kernel's key: any change recompiles every kernel.
    #[test]
    fn the_make_command_line_is_fixed() {
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

//! siderolabs' own imager, for people who want to run it: its profile and the command that takes it.
//!
//! Nothing is run here. The container needs Docker and rights that our own imager does not ask for.

use std::path::Path;

use serde::{Deserialize, Serialize};

use common::{Class, Error, Result};

use crate::cmdline::Argument;

/// The part of upstream's profile that an installer of ours needs (siderolabs/talos v1.10.3, `pkg/imager/profile`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Profile {
    arch: String,
    platform: String,
    secureboot: bool,
    version: String,
    customization: Customization,
    input: Input,
    output: Output,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Customization {
    extra_kernel_args: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Input {
    kernel: File,
    initramfs: File,
    base_installer: Container,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    path: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Container {
    image_ref: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Output {
    kind: String,
    out_format: String,
}

impl Profile {
    /// An installer of the Talos `version` with our kernel and our finished initramfs, which lie in the output directory that is seen
    /// as `/out`.
    ///
    /// It names no system extensions: upstream would run `depmod` over its own kernel's modules and write a second list of layers,
    /// which hides ours. Our initramfs has the kernel's modules and the extension in it.
    ///
    /// # Errors
    /// [`Class::BadInput`] when `arguments` has a key twice: upstream puts all values of a key in one place, and the kernel reads
    /// `hugepagesz=` and `hugepages=` in pairs.
    pub fn installer(version: &str, arguments: &[Argument]) -> Result<Self> {
        let twice = arguments.iter().enumerate().find(|(at, a)| arguments[..*at].iter().any(|b| b.key == a.key));
        if let Some((_, argument)) = twice {
            return Err(Error::new(Class::BadInput, format!("upstream's imager would move the argument {argument}"))
                .why(format!("{} is there more than once, and it puts all of one name together", argument.key))
                .hint("use our own imager for this preset: `solana-talos build`"));
        }
        Ok(Self {
            arch: "amd64".to_owned(),
            platform: "metal".to_owned(),
            secureboot: false,
            version: version.to_owned(),
            customization: Customization { extra_kernel_args: arguments.iter().map(ToString::to_string).collect() },
            input: Input {
                kernel: File { path: "/out/vmlinuz".to_owned() },
                initramfs: File { path: "/out/initramfs.xz".to_owned() },
                base_installer: Container { image_ref: format!("ghcr.io/siderolabs/installer-base:{version}") },
            },
            output: Output { kind: "installer".to_owned(), out_format: "raw".to_owned() },
        })
    }

    /// The profile's text.
    ///
    /// # Errors
    /// [`Class::BadInput`] when a value cannot be written as YAML.
    pub fn to_yaml(&self) -> Result<String> {
        serde_saphyr::to_string(self).map_err(|e| Error::new(Class::BadInput, "cannot write a profile").why(e))
    }

    /// The command that reads the profile from its standard input; `out` is our output directory.
    #[must_use]
    pub fn command(&self, out: &Path) -> Vec<String> {
        let mount = format!("{}:/out", out.display());
        let image = format!("ghcr.io/siderolabs/imager:{}", self.version);
        ["docker", "run", "--rm", "-i", "-v", &mount, "-v", "/dev:/dev", "--privileged", &image, "-"]
            .map(str::to_owned)
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset::Preset;

    #[test]
    fn is_the_golden_text() {
        let profile = Profile::installer("v1.10.3", &Preset::named("spec").unwrap().arguments().unwrap()).unwrap();
        let text = profile.to_yaml().unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/upstream-spec.yaml");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs_err::write(&path, &text).unwrap();
        }
        assert_eq!(text, fs_err::read_to_string(path).unwrap());
        assert_eq!(serde_saphyr::from_str::<Profile>(&text).unwrap(), profile);
        assert!(serde_saphyr::from_str::<Profile>(&text.replace("arch:", "architecture:")).is_err());
        assert_eq!(
            profile.command(Path::new("_out")).join(" "),
            "docker run --rm -i -v _out:/out -v /dev:/dev --privileged ghcr.io/siderolabs/imager:v1.10.3 -"
        );
    }

    #[test]
    fn words_that_upstream_would_reorder_are_refused() {
        let arguments = Preset::named("firedancer").unwrap().arguments().unwrap();
        let error = Profile::installer("v1.10.3", &arguments).unwrap_err().to_string();
        assert!(error.contains("hugepagesz"), "{error}");
    }
}

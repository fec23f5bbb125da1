//! Unpacks the installer image with skopeo, tar and objcopy instead of our own code.

use crate::Result;
use crate::vm::Media;
use anyhow::{Context as _, ensure};
use common::sandbox::{Run, Sandbox};
use fs_err as fs;
use std::path::{Path, PathBuf};

/// skopeo verifies every digest; the layers are then unpacked in order, as a container runtime would.
const UNPACK: &str = "\
skopeo --insecure-policy copy -q \"oci:/build/image:$1\" dir:/tmp/image
shift
mkdir /tmp/root
for layer do
  tar -x -f \"/tmp/image/$layer\" -C /tmp/root --no-same-owner --exclude=dev
done
cp /tmp/root/usr/install/amd64/systemd-boot.efi /tmp/root/usr/install/amd64/vmlinuz.efi /build/parts/
";

/// Splits a UKI into its sections.
const SPLIT: &str = "\
objcopy -O binary --dump-section .linux=/build/parts/vmlinuz --dump-section .initrd=/build/parts/initramfs.xz \
  --dump-section .cmdline=/build/parts/cmdline --dump-section .uname=/build/parts/uname /build/parts/vmlinuz.efi /dev/null
";

/// A directory with `vmlinuz.efi`, `systemd-boot.efi` and the UKI's sections `vmlinuz`, `initramfs.xz`, `cmdline`, `uname`.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Path of the directory.
    pub dir: PathBuf,
}

impl Parts {
    /// Unpacks `installer.oci` of the output directory `out` into `dir`.
    pub fn unpack(sandbox: &Sandbox, out: &Path, dir: &Path) -> Result<Self> {
        let image = out.join("installer.oci");
        ensure!(image.join("index.json").exists(), "{} is not an OCI layout", image.display());
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
        fs::create_dir_all(dir)?;
        let name = image_name(&fs::read(image.join("index.json"))?)?;
        let manifest = sandbox.output(&inspect(&image, &name))?;
        let layers = layers(&manifest)?;
        let arguments: Vec<&str> = std::iter::once(&name).chain(&layers).map(String::as_str).collect();
        sandbox.output(&Run::script(UNPACK, &arguments).read(&image, "/build/image").write(dir, "/build/parts"))?;
        sandbox.output(&Run::script(SPLIT, &[]).write(dir, "/build/parts"))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Returns the path of one part.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Returns kernel and initramfs for a direct boot.
    #[must_use]
    pub fn media(&self) -> Media {
        Media { kernel: Some((self.path("vmlinuz"), self.path("initramfs.xz"))), ..Media::default() }
    }

    /// Returns the kernel command line of the UKI.
    pub fn cmdline(&self) -> Result<String> {
        let text = fs::read_to_string(self.path("cmdline")).context("cannot read .cmdline of the UKI")?;
        Ok(text.trim_end_matches(['\0', '\n']).to_owned())
    }
}

/// Returns the name of the image in a layout, which also contains signatures and attestations.
fn image_name(index: &[u8]) -> Result<String> {
    let index: serde_json::Value = serde_json::from_slice(index).context("malformed index of the layout")?;
    let entries = index["manifests"].as_array().context("no manifests in the index")?;
    let image = entries.iter().find(|entry| entry["platform"]["os"] == "linux").context("no image in the layout")?;
    let name = image["annotations"]["org.opencontainers.image.ref.name"].as_str();
    Ok(name.context("the image has no name")?.to_owned())
}

fn inspect(image: &Path, name: &str) -> Run {
    Run::new(["skopeo", "inspect", "--raw", &format!("oci:/build/image:{name}")]).read(image, "/build/image")
}

/// Returns the layers' digests in hexadecimal, which are skopeo's file names.
fn layers(manifest: &[u8]) -> Result<Vec<String>> {
    let manifest: serde_json::Value = serde_json::from_slice(manifest).context("malformed image manifest")?;
    let layers = manifest["layers"].as_array().context("no layers in the manifest; is it an index?")?;
    let digests = layers.iter().map(|layer| layer["digest"].as_str()?.strip_prefix("sha256:").map(str::to_owned));
    digests.collect::<Option<_>>().context("layer without a SHA-256 digest")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_image_is_found_among_artifacts() {
        let index = br#"{"manifests":[{"artifactType":"x"},{"platform":{"os":"linux"},"annotations":{"org.opencontainers.image.ref.name":"a:b"}}]}"#;
        assert_eq!(super::image_name(index).unwrap(), "a:b");
        assert!(super::image_name(br#"{"manifests":[{"artifactType":"x"}]}"#).is_err());
    }

    #[test]
    fn layers_are_read_from_a_manifest() {
        let manifest = br#"{"layers":[{"digest":"sha256:ab"},{"digest":"sha256:cd"}]}"#;
        assert_eq!(super::layers(manifest).unwrap(), ["ab", "cd"]);
        assert!(super::layers(br#"{"manifests":[]}"#).is_err());
        assert!(super::layers(br#"{"layers":[{"digest":"md5:ab"}]}"#).is_err());
    }
}

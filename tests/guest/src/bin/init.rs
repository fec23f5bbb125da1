//! `/init` of the initramfs: mounts the layers of `/extensions.yaml` over `rootfs.sqsh` and runs `/sbin/init`.

use guest::{Result, extensions, kmsg, mounts, switch};
use std::os::unix::process::CommandExt;
use std::process::Command;

fn main() {
    match boot() {
        Ok(never) => match never {},
        Err(why) => kmsg::fatal("init", &why),
    }
}

fn boot() -> Result<std::convert::Infallible> {
    mounts::mount_all(mounts::EARLY)?;
    check_cpu()?;
    let layers = match std::fs::read_to_string("/extensions.yaml") {
        Ok(text) => extensions::parse(&text)?,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(err) => return Err(format!("/extensions.yaml: {err}")),
    };
    switch::mount_root(&layers)?;
    kmsg::log(&format!("root mounted: rootfs.sqsh {}", layers.join(" ")));
    switch::switch_root()?;
    Err(format!("/sbin/init: {}", Command::new("/sbin/init").exec()))
}

/// Talos requires x86-64-v2 at this point.
fn check_cpu() -> Result<()> {
    let v2 = is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("sse4.1")
        && is_x86_feature_detected!("sse4.2")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("cmpxchg16b");
    v2.then_some(()).ok_or_else(|| "the CPU does not support x86-64-v2".to_owned())
}

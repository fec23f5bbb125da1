//! `/init` of the initramfs: stacks the layers that `/extensions.yaml` names over `rootfs.sqsh` and hands over to `/sbin/init`.

use guest::{Result, context, extensions, kmsg, mounts, switch};
use std::os::unix::process::CommandExt;
use std::process::Command;

fn main() {
    match boot() {
        Ok(never) => match never {},
        Err(why) => kmsg::give_up("init", &why),
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
    switch::stack(&layers)?;
    kmsg::log(&format!("root stacked: rootfs.sqsh {}", layers.join(" ")));
    switch::switch_root()?;
    Err(format!("/sbin/init: {}", Command::new("/sbin/init").exec()))
}

/// Talos refuses a CPU below x86-64-v2 at this point.
fn check_cpu() -> Result<()> {
    let v2 = is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("sse4.1")
        && is_x86_feature_detected!("sse4.2")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("cmpxchg16b");
    context(v2.then_some(()).ok_or("this one is older"), "the CPU must be x86-64-v2 or newer")
}

//! The testbed: a small userland that follows Talos's boot contract far enough to test our kernel, module and images.
//!
//! It is not Talos. `init` stacks the initramfs layers, `machined` sets the machine up and serves the host over a virtio-serial port.

pub mod agent;
pub mod cmdline;
pub mod config;
pub mod containers;
pub mod extensions;
pub mod hex;
pub mod kmsg;
pub mod loopdev;
pub mod modules;
pub mod mounts;
pub mod protocol;
pub mod report;
pub mod switch;
pub mod workers;

/// Errors are texts: they are printed on the console and, in PID 1, panic the kernel.
pub type Result<T> = std::result::Result<T, String>;

/// Converts an error to a text and puts `what` in front.
pub fn context<T, E: std::fmt::Display>(result: std::result::Result<T, E>, what: impl std::fmt::Display) -> Result<T> {
    result.map_err(|err| format!("{what}: {err}"))
}

//! The testbed: a small userland that follows Talos's boot contract far enough to test our kernel, module and images.
//!
//! It is not Talos. `init` stacks the initramfs layers, `machined` sets the machine up and serves the host over a virtio-serial port.

pub mod agent;
pub mod cmdline;
pub mod config;
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

/// Errors end up on the console and, for PID 1, in a kernel panic; a sentence is all they need.
pub type Result<T> = std::result::Result<T, String>;

/// Turns any error into a sentence that begins with `what`.
pub fn context<T, E: std::fmt::Display>(result: std::result::Result<T, E>, what: impl std::fmt::Display) -> Result<T> {
    result.map_err(|err| format!("{what}: {err}"))
}

//! The pinned toolchain: one Debian 13 root filesystem, made by mmdebstrap from `packages.list`, entered through namespaces.

mod bootstrap;
mod download;
mod packages;

pub use bootstrap::{Toolchain, bootstrap, forget};
pub use download::{Origin, fetch};
pub use packages::{Drift, Versions, parse_list};

//! The pinned toolchain: a Debian 13 root filesystem that mmdebstrap makes from exactly the packages in `solana-talos.lock`, entered through
//! namespaces. Also downloads pinned files.
//!
//! Uses `common` and `lock`.

mod archives;
mod bootstrap;
mod crates;
mod download;
pub mod go;
mod packages;
mod programs;
mod repository;
mod resolve;

pub use archives::{archives, parse_archives};
pub use bootstrap::{STAGE, Toolchain, bootstrap, forget, identities, key, verify, wanted};
pub use crates::{STAGE as CRATES_STAGE, fetch as fetch_crates, vendor};
pub use download::{Archives, Fetcher, Origin, Wanted, offline};
pub use packages::{Versions, parse_list};
pub use programs::{MainModule, Program, Programs};
pub use resolve::{Lists, Resolved, resolve};

use common::{Class, Error};

/// Debian suite of the toolchain.
const SUITE: &str = "trixie";

/// Returns the error for a host program that cannot be started.
fn missing(program: &str, package: &str, why: &std::io::Error) -> Error {
    Error::new(Class::MissingTool, format!("cannot start {program}"))
        .why(why)
        .hint(format!("install the package {package}; `./x` does that"))
}

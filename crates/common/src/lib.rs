//! Shared by every crate: errors, digests, atomic writes, the store, stages, events, the sandbox. Prints nothing and uses none of our crates.

pub mod atomic;
pub mod digest;
pub mod error;
pub mod event;
pub mod memparse;
pub mod origins;
pub mod path;
pub mod process;
pub mod purl;
pub mod sandbox;
pub mod stage;
pub mod store;
pub mod text;
pub mod time;

pub use digest::Sha256;
pub use error::{Class, Error, Result};

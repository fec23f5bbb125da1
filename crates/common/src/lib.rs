//! Small shared types of the pipeline. Nothing here knows the command line, and nothing prints.

pub mod atomic;
pub mod digest;
pub mod error;
pub mod event;
pub mod process;
pub mod purl;
pub mod sandbox;
pub mod stage;
pub mod store;
pub mod text;
pub mod time;

pub use digest::Sha256;
pub use error::{Class, Error, Result};

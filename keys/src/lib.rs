//! Keys: what each is for, where they are kept, and how something is signed with one.

pub mod signer;

pub use signer::{Algorithm, Role, Signer};

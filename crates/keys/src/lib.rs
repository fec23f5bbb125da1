//! Signing keys: their roles, where they are stored, and signing with them.
//!
//! A key set is a directory with one key per [`Role`]. Private keys (file, PKCS#11 token, external signer) are behind [`Signer`]; callers
//! pass it a digest.
//!
//! Uses `common` only.

pub mod certificate;
mod certify;
pub mod cms;
pub mod config;
pub mod detached;
pub mod init;
pub mod pkcs11;
pub mod public;
pub mod role;
pub mod set;
pub mod signer;
pub mod uri;

mod file;
mod pem;
mod requests;

pub use certificate::Certificate;
pub use certify::certify;
pub use detached::attach;
pub use init::{Options, init};
pub use public::PublicKey;
pub use requests::{Signed, sign_requests};
pub use role::Role;
pub use set::KeySet;
pub use signer::{Algorithm, Identity, OrPending, Pending, Signer};

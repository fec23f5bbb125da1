//! OCI registries (distribution-spec 1.1): push, pull, credentials.
//!
//! Our own client over `ureq`: `oci-client` needs an async runtime, cannot query the offset of an upload, takes no clock for its backoff, and
//! does not write the referrers fallback tag. The client is small: a few URLs, three kinds of login, one state machine each for upload and download.
//!
//! Parsers do no I/O: [`challenge`], [`docker_config`], [`token`], [`error_response`], [`referrers`], [`url`].

pub mod authorities;
pub mod backoff;
pub mod challenge;
mod client;
pub mod clock;
pub mod credentials;
pub mod docker_config;
mod download;
mod ecdsa;
pub mod error_response;
mod fetch;
mod http;
pub mod local;
mod manifest;
pub mod network;
mod pool;
mod pull;
mod push;
pub mod referrers;
mod resolve;
mod secret;
mod staging;
mod tls;
pub mod token;
pub mod transfer;
mod upload;
pub mod url;

pub use client::{Client, Options, Repository};
pub use docker_config::Login;
pub use http::Timeouts;
pub use local::{Part, Plan, plans};
pub use pull::{Pulled, pull};
pub use push::{Existing, Tagged, Verifier, digests_only, push};
pub use resolve::{Resolved, resolve};
pub use secret::Secret;

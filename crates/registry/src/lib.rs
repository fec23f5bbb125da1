//! OCI registries (distribution-spec 1.1): push, pull, credentials.
//!
//! The client is our own, over `ureq`: `oci-client` needs an async runtime, cannot ask an upload how far it came, takes no clock for its
//! back-off, and does not write the tag that stands in for the referrers API.
//! What is left to write is small: some addresses, three kinds of login, one state machine for an upload and one for a download.
//!
//! Documents are parsed apart from I/O: [`challenge`], [`docker_config`], [`token`], [`refusal`], [`referrers`], [`url`].

pub mod backoff;
pub mod challenge;
mod client;
pub mod clock;
pub mod credentials;
pub mod docker_config;
mod download;
mod fetch;
mod http;
pub mod local;
mod manifest;
pub mod network;
mod pool;
mod pull;
mod push;
pub mod referrers;
pub mod refusal;
mod resolve;
mod secret;
mod stage;
pub mod token;
pub mod transfer;
mod upload;
pub mod url;

pub use client::{Client, Options, Repository};
pub use docker_config::Login;
pub use http::Timeouts;
pub use local::{Part, Plan, plans};
pub use pull::{Pulled, pull};
pub use push::{Tagged, Verifier, digests_only, push};
pub use resolve::{Resolved, resolve};
pub use secret::Secret;

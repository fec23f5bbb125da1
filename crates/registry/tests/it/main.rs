//! Push and pull against an in-memory registry and Debian's `docker-registry`, with injected faults.

#![allow(clippy::unwrap_used, reason = "clippy does not treat test helpers as tests")]

mod attached;
mod auth;
mod debian;
mod faults;
mod http;
mod layouts;
mod memory;
mod proxy;
mod pull;
mod push;
mod resolve;
mod setup;
mod staging;
mod tls;

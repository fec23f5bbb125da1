//! Push and pull against a registry of ours that does what it is told, and against Debian's `docker-registry`, with faults at chosen requests.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not seen as tests")]

mod auth;
mod beside;
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
mod stage;

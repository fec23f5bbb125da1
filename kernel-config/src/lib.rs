//! What kernel we build: pins, config fragments, patches; fetch, verify, unpack, patch, configure, check, compile, package.

pub mod check;
pub mod compile;
pub mod configure;
pub mod devel;
pub mod dotconfig;
pub mod environment;
pub mod external;
pub mod fragment;
pub mod hardening;
mod incremental;
pub mod kconfig_tree;
pub mod listing;
pub mod objects;
pub mod pin;
pub mod profile;
pub mod reference;
pub mod sign;
pub mod snapshot;
pub mod source;

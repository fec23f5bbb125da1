//! The kernel: pins, config fragments and patches; unpack, patch, configure, check, compile, sign, package for modules.

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
pub mod upstream;

//! One file per verb.

pub mod attach;
pub mod base;
pub mod build;
mod build_plan;
pub mod bundle;
pub mod cache;
mod cache_report;
pub mod fetch;
pub mod inspect;
pub mod kernel;
pub mod keys;
mod keys_show;
pub mod module;
pub mod module_build;
pub mod pull;
pub mod push;
pub mod run;
pub mod sign;
pub mod toolchain;
pub mod update;
pub mod validate;
pub mod verify;

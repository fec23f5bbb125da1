//! The pipeline, stage by stage: each file runs the engines of one part and hands its result on.

pub mod attest;
pub mod base;
pub mod bases;
pub mod devel;
pub mod devel_tree;
pub mod installer;
pub mod kernel;
pub mod locked;
pub mod names;
pub mod output;
pub mod packages;
pub mod signing;
pub mod testbed;

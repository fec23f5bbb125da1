//! The pipeline, stage by stage: each file runs the engines of one part and hands its result on.

pub mod kernel;

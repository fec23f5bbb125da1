//! The build: a [`Plan`] has the user's choices, parsed and checked once; [`build`] runs the stages in order; [`outputs`] is the table of
//! outputs. Independent of the command line, and prints nothing.

mod base_build;
pub mod config;
pub mod context;
mod graph;
pub mod look;
pub mod names;
pub mod network;
pub mod output;
pub mod outputs;
mod plan;
pub mod project;
pub mod signing;
mod sources;
pub mod stages;

pub use base_build::build_base;
pub use config::Config;
pub use context::{Context, Settings};
pub use graph::{Done, Outcome, build};
pub use look::look;
pub use network::{Network, Pace};
pub use plan::{Choice, Plan};
pub use project::Project;
pub use signing::{By, Chosen, KeyChoice, KeySource, Signing};
pub use sources::SOURCES;
pub use stages::kernel::{KernelPlan, Prepared, SourceChoice};

//! The build: from the pinned inputs to the output directory.

mod sources;

pub use sources::SOURCES;

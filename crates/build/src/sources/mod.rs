//! Digests of our own sources, which are inputs of the stages whose output our code produces.

use common::stage::Sources;

#[cfg(test)]
mod scan;
#[cfg(test)]
mod tests;

/// Digests of this package and its dependencies in the workspace, at compile time.
pub const SOURCES: Sources = Sources::new(env!("SOLANA_TALOS_SOURCES"));

//! Digests of our own sources, which are inputs of the stages whose bytes our code makes.

use common::stage::Sources;

#[cfg(test)]
mod scan;
#[cfg(test)]
mod tests;

/// Of every package that this one uses, and of itself, as they were when this program was compiled.
pub const SOURCES: Sources = Sources::new(env!("SOLANA_TALOS_SOURCES"));

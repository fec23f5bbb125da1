//! What is in an image, how two images differ, and where two builds first do.
//!
//! Reads only: every format is taken apart in memory, under limits, and nothing is written anywhere.
//! [`compare`] names the first member that differs, from the output directory down to a section of a program.

pub mod budget;
pub mod bzimage;
pub mod compare;
pub mod contents;
pub mod diff;
pub mod elf;
pub mod parts;
pub mod report;
pub mod signature;
pub mod source;
pub mod squashfs;
pub mod text;
pub mod unfold;

/// What one file of an image may cost in memory, unfolded, in bytes. Larger ones are hashed, not taken apart.
pub const FILE_MAX: u64 = 1 << 30;

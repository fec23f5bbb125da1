//! What is in an image, how two images differ, and where two builds first do.
//!
//! Reads only: every format is taken apart in memory, under limits, and nothing is written anywhere.
//! [`compare`] names the first member that differs, from the output directory down to a section of a program.
//!
//! Each module uses only those before it: `parts`, then `contents` and `compare`, then `report`, then `diff`, then `text`.

pub mod compare;
pub mod contents;
pub mod diff;
pub mod parts;
pub mod report;
pub mod source;
pub mod text;

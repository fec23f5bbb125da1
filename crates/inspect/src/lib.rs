//! Reports the contents of an image, the differences of two images, and the first difference of two builds.
//!
//! Reads only: every format is opened in memory, under limits.
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

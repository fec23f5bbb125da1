//! Assemble and validate a Talos system extension from a root filesystem.

//! The pinned Debian 13 toolchain root filesystem: bootstrap, record, check.

//! What kernel we build: pins, config fragments, patches; fetch, verify, unpack, patch, configure, check, compile, package.

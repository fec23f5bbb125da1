//! QEMU harness, boot tests and conformance tests against foreign tools.

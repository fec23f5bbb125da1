//! The command line of solana-talos.

fn main() {}

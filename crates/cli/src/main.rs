//! The binary `solana-talos`.

fn main() -> std::process::ExitCode {
    cli::main()
}

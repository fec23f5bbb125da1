//! The binary `solana-talos`.

fn main() -> std::process::ExitCode {
    // `./x` sets it.
    cli::main(option_env!("SOLANA_TALOS_COMMIT"))
}

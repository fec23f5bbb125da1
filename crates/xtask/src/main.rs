//! The binary behind `./x lint`, `test`, `bench`, `repro` and `fuzz`.

fn main() -> std::process::ExitCode {
    xtask::main()
}

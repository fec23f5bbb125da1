//! The binary behind `./x lint`, `test`, `bench`, `repro`, `fuzz` and `corpus`.

fn main() -> std::process::ExitCode {
    xtask::main()
}

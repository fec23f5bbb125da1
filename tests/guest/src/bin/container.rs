//! The program in the containers of tests with Kubernetes; its arguments say what it does.

use guest::{Result, containers, context};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<()> {
    match *arguments {
        ["pause"] => containers::pause(),
        ["cpus"] => containers::cpus(),
        ["huge-pages", bytes] => containers::huge_pages(number(bytes)?, None),
        ["huge-pages", bytes, mount] => containers::huge_pages(number(bytes)?, Some(mount)),
        ["io-uring"] => containers::io_uring(),
        ["hold", bytes] => containers::hold(number(bytes)?),
        ["pressure", leave, seconds, file, length] => {
            containers::pressure(number(leave)?, number(seconds)?, file, number(length)?)
        }
        _ => Err(format!("unknown arguments: {}", arguments.join(" "))),
    }
}

fn number<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T> {
    context(text.parse(), text)
}

//! `/sbin/init` of the testbed's root filesystem: loads modules, sets sysctls, prints the boot report, and runs the test agent.

use guest::protocol::Worker;
use guest::{Result, agent, cmdline, config, context, kmsg, mounts, report, workers};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["agent", port] => agent::serve(port),
        ["worker", worker] => context(serde_json::from_str::<Worker>(worker), "worker").and_then(|w| workers::run(&w)),
        _ if std::process::id() == 1 => match boot() {
            Ok(()) => Ok(()),
            Err(why) => kmsg::fatal("machined", &why),
        },
        _ => Err("this program must run as PID 1 of the testbed".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn boot() -> Result<()> {
    let skipped = mounts::mount_all(mounts::LATE)?;
    skipped.iter().for_each(|why| kmsg::log(why));
    let cmdline = context(std::fs::read_to_string("/proc/cmdline"), "/proc/cmdline")?;
    let missing = cmdline::missing_hardening(&cmdline);
    if !missing.is_empty() {
        return Err(format!("missing on the kernel command line: {}", missing.join(" and ")));
    }
    let config = config::parse(&context(std::fs::read_to_string(config::PATH), config::PATH)?)?;
    kmsg::log("testbed userland, this is not Talos");
    report::publish(report::apply(&config, &cmdline), &cmdline)?;
    match agent::find_port() {
        Some(port) => supervise(&port),
        None => {
            kmsg::log("no agent port, idle");
            loop {
                reap();
            }
        }
    }
}

/// Runs the agent as a child and reaps all processes; fails if the agent exits.
fn supervise(port: &str) -> Result<()> {
    let agent = context(Command::new("/proc/self/exe").args(["agent", port]).spawn(), "agent")?;
    context(std::fs::write(format!("/proc/{}/oom_score_adj", agent.id()), "-1000"), "oom_score_adj")?;
    kmsg::log(&format!("agent on {port}"));
    loop {
        if reap() == Some(agent.id()) {
            return Err("the agent exited".to_owned());
        }
    }
}

/// Waits for any child; sleeps for a second if there is none.
fn reap() -> Option<u32> {
    match rustix::process::wait(rustix::process::WaitOptions::empty()) {
        Ok(Some((pid, _))) => u32::try_from(pid.as_raw_nonzero().get()).ok(),
        _ => {
            std::thread::sleep(std::time::Duration::from_secs(1));
            None
        }
    }
}

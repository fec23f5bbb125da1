//! `solana-talos run` boots a build, and leaves nothing behind when Ctrl-C ends it.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use harness::caches;
use harness::modules::project;
use harness::settings::{OUT, Settings};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// A machine of the specification takes a minute; a loaded host makes that several.
const LIMIT: Duration = Duration::from_secs(600);
const INTERRUPTED: i32 = 130;

/// `solana-talos run`, ended by a test that fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a port that was free a moment ago.
fn port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Returns the command lines of all processes that contain `text`.
fn processes(text: &str) -> Vec<String> {
    let directories = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = directories.filter_map(|dir| std::fs::read_to_string(dir.path().join("cmdline")).ok());
    lines.map(|line| line.replace('\0', " ")).filter(|line| line.contains(text)).collect()
}

/// Returns the directories of running nodes in `cache`.
fn directories(cache: &Path) -> Vec<String> {
    let names = std::fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("run-")).collect()
}

#[test]
fn a_build_boots_and_ctrl_c_leaves_nothing_behind() {
    let Some(settings) = Settings::with_program(OUT) else { return };
    let (cache, before) = (caches::shared(&settings).unwrap(), directories(&caches::shared(&settings).unwrap()));
    let port = port();
    let qemu = format!("hostfwd=tcp:127.0.0.1:{port}-:50000");
    let mut command = Command::new(settings.program().unwrap());
    command.arg("--cache").arg(&cache).arg("--project").arg(project()).args(["run", "--disk", "1G"]);
    command.arg("--out").arg(&settings.out).arg("--port").arg(port.to_string());
    let mut running = Running(command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap());
    let (send, console) = channel();
    let output = BufReader::new(running.0.stdout.take().unwrap());
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));

    let (deadline, mut seen) = (Instant::now() + LIMIT, Vec::new());
    while !seen.last().is_some_and(|line: &String| line.contains("testbed userland, this is not Talos")) {
        let line = console.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        seen.push(line.unwrap_or_else(|why| panic!("{why}: the testbed did not start:\n{}", seen.join("\n"))));
    }
    assert!(seen.iter().any(|line| line.contains("console=ttyS0 init_on_alloc=0")), "no extra arguments: {seen:#?}");
    assert_eq!(processes(&qemu).iter().filter(|line| line.starts_with("qemu-system")).count(), 1);
    assert_eq!(directories(&cache).len(), before.len() + 1);

    let pid = running.0.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(running.0.wait().unwrap().code(), Some(INTERRUPTED));
    assert_eq!(processes(&qemu), Vec::<String>::new());
    assert_eq!(directories(&cache), before);
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
}

//! A running machine: QEMU inside the sandbox, with its console logged and watched for the end of the machine.

use crate::agent::Agent;
use crate::console::{End, classify};
use crate::{Result, settings::Settings};
use anyhow::{Context as _, bail};
use common::sandbox::Run;
use fs_err as fs;
use qemu::{Boot, INITRD, KERNEL, Machine, OVMF_VARS, RUN};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time for a machine that panicked to write its stack trace.
const GRACE: Duration = Duration::from_secs(2);

/// The content of a disk at the start.
#[derive(Clone, Debug)]
pub enum Image {
    /// Zeros, of this size in MiB.
    Empty(u64),
    /// A copy of this file.
    Copy(PathBuf),
    /// This file, which keeps what the machine writes.
    Keep(PathBuf),
}

/// Files on the host that a machine boots from.
#[derive(Clone, Debug, Default)]
pub struct Media {
    /// bzImage and complete initramfs for [`Boot::Direct`].
    pub kernel: Option<(PathBuf, PathBuf)>,
    /// The machine's disks by file name.
    pub disks: BTreeMap<String, Image>,
    /// The firmware's variables, which keep what the machine writes; a new machine has none.
    pub variables: Option<PathBuf>,
}

impl Media {
    /// Sets the content of a disk.
    #[must_use]
    pub fn disk(mut self, file: &str, image: Image) -> Self {
        self.disks.insert(file.to_owned(), image);
        self
    }
}

/// State of the console.
#[derive(Debug, Default)]
struct State {
    text: String,
    /// The line that has not ended.
    open_line: String,
    end: Option<End>,
    closed: bool,
}

/// Console of a running machine, shared by the thread that reads it and those that wait for its end.
#[derive(Debug, Default)]
pub struct Monitor {
    state: Mutex<State>,
    changed: Condvar,
}

impl Monitor {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how the machine ended, or `None` while it runs.
    pub fn end(&self) -> Option<End> {
        self.lock().end.clone()
    }

    fn set_end(&self, end: End) {
        self.lock().end.get_or_insert(end);
        self.changed.notify_all();
    }

    fn push(&self, line: &str) {
        let mut state = self.lock();
        state.open_line.clear();
        state.text.push_str(line);
        state.text.push('\n');
        if let Some(end) = classify(line) {
            // A panic replaces the fault that led to it.
            if state.end.is_none() || matches!((&state.end, &end), (Some(End::Fault(_)), End::Panic(_))) {
                state.end = Some(end);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    fn set_open_line(&self, line: String) {
        self.lock().open_line = line;
    }
}

/// A running machine; dropping it stops it.
#[derive(Debug)]
pub struct Vm {
    child: Arc<Mutex<Child>>,
    keyboard: Mutex<ChildStdin>,
    monitor: Arc<Monitor>,
    dir: PathBuf,
    started: Instant,
}

impl Vm {
    /// Starts `machine`; it is stopped after `limit`. Files and logs are in `<work>/<name>`.
    pub fn start(settings: &Settings, name: &str, machine: &Machine, media: &Media, limit: Duration) -> Result<Self> {
        let dir = settings.work.join(name);
        prepare(settings, &dir, machine, media)?;
        let run = sandboxed(machine, media, &dir);
        fs::write(dir.join("command.txt"), run.shell_line(settings.sandbox.rootfs()) + "\n")?;
        let mut command = settings.sandbox.command(&run);
        let errors = fs::File::create(dir.join("qemu.log"))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors.into_file());
        let mut child = command.spawn().context("cannot start bwrap")?;
        let keyboard = Mutex::new(child.stdin.take().context("bwrap has no standard input")?);
        let console = child.stdout.take().context("bwrap has no standard output")?;
        let log = fs::File::create(dir.join("serial.log"))?;
        let monitor = Arc::new(Monitor::default());
        let child = Arc::new(Mutex::new(child));
        spawn_reader(console, log, Arc::clone(&monitor));
        spawn_watchdog(Arc::clone(&child), Arc::clone(&monitor), Instant::now() + limit);
        Ok(Self { child, keyboard, monitor, dir, started: Instant::now() })
    }

    /// Connects to the guest's agent and waits until it is ready; fails with the end of the log if the machine ends first.
    pub fn agent(&self) -> Result<Agent> {
        Agent::connect(&self.dir, Arc::clone(&self.monitor)).map_err(|err| err.context(self.summary()))
    }

    /// Waits for the end of the machine.
    pub fn wait(&self) -> End {
        let mut state = self.monitor.lock();
        loop {
            if let (Some(end), true) = (&state.end, state.closed) {
                return end.clone();
            }
            state = self.monitor.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns how the machine ended, or `None` while it runs.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.monitor.end()
    }

    /// Returns the console output so far, with the line that has not ended.
    #[must_use]
    pub fn console(&self) -> String {
        let state = self.monitor.lock();
        format!("{}{}", state.text, state.open_line)
    }

    /// Types `keys` on the serial console.
    pub fn press(&self, keys: &str) -> Result<()> {
        let mut keyboard = self.keyboard.lock().unwrap_or_else(PoisonError::into_inner);
        keyboard.write_all(keys.as_bytes()).and_then(|()| keyboard.flush()).context("cannot write to the console")
    }

    /// Returns the time since the start.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns the path of the console log.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("serial.log")
    }

    /// Returns the state of the machine, the path of its log and the last lines of the log.
    #[must_use]
    pub fn summary(&self) -> String {
        let console = self.console();
        let lines: Vec<&str> = console.lines().collect();
        let tail = lines[lines.len().saturating_sub(30)..].join("\n");
        let ended =
            self.end().map_or_else(|| "the machine is running".to_owned(), |end| format!("the machine ended: {end:?}"));
        let errors = std::fs::read_to_string(self.dir.join("qemu.log")).unwrap_or_default();
        format!("{ended}\nlog: {}\n{tail}\n{errors}", self.log_path().display())
    }

    /// Stops the machine and waits for QEMU.
    pub fn stop(&self) {
        self.monitor.set_end(End::Stopped);
        kill(&self.child);
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.stop();
        // Keep the logs only.
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|kind| kind == "img" || kind == "fd" || kind == "sock") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// QEMU in the sandbox: the machine's directory is writable, kernel and initramfs are read-only.
fn sandboxed(machine: &Machine, media: &Media, dir: &Path) -> Run {
    let mut run = Run::new(machine.arguments()).write(dir, RUN);
    if let Some((kernel, initramfs)) = &media.kernel {
        run = run.read(kernel, KERNEL).read(initramfs, INITRD);
    }
    if machine.networks.is_empty() { run } else { run.with_network() }
}

fn prepare(settings: &Settings, dir: &Path, machine: &Machine, media: &Media) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir)?;
    for disk in &machine.disks {
        let image = media.disks.get(&disk.file).with_context(|| format!("no content for the disk {}", disk.file))?;
        write_image(image, &dir.join(&disk.file))?;
    }
    match machine.boot {
        Boot::Direct { .. } if media.kernel.is_none() => bail!("no kernel for a direct boot"),
        Boot::Direct { .. } => Ok(()),
        Boot::Uefi { .. } => {
            let empty = settings.sandbox.rootfs().join(OVMF_VARS.trim_start_matches('/'));
            let variables = dir.join("vars.fd");
            match &media.variables {
                None => drop(fs::copy(empty, variables)?),
                Some(kept) => {
                    if !kept.exists() {
                        fs::copy(empty, kept)?;
                    }
                    fs::hard_link(kept, variables)?;
                }
            }
            Ok(())
        }
    }
}

fn write_image(image: &Image, to: &Path) -> Result<()> {
    match image {
        Image::Empty(mib) => fs::File::create(to)?.set_len(mib << 20)?,
        Image::Copy(from) => drop(fs::copy(from, to)?),
        Image::Keep(file) => fs::hard_link(file, to)?,
    }
    Ok(())
}

fn spawn_reader(mut console: ChildStdout, mut log: fs::File, monitor: Arc<Monitor>) {
    std::thread::spawn(move || {
        let (mut buffer, mut line) = ([0; 4096], Vec::new());
        loop {
            let count = match console.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(err) if err.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            for part in buffer[..count].split_inclusive(|&byte| byte == b'\n') {
                line.extend_from_slice(part);
                if part.ends_with(b"\n") {
                    end_line(&mut line, &mut log, &monitor);
                }
            }
            // A boot menu ends no line while it waits for a key.
            monitor.set_open_line(text(&line));
        }
        if !line.is_empty() {
            end_line(&mut line, &mut log, &monitor);
        }
        monitor.set_end(End::Exited);
        monitor.lock().closed = true;
        monitor.changed.notify_all();
    });
}

/// Passes a whole line on, and empties it.
fn end_line(line: &mut Vec<u8>, log: &mut fs::File, monitor: &Monitor) {
    let text = text(line);
    // The end must be detected even if the log cannot be written.
    let _ = writeln!(log, "{text}");
    monitor.push(&text);
    line.clear();
}

/// The text of a line without its end.
fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end_matches(['\r', '\n']).to_owned()
}

/// Kills QEMU at the deadline, or shortly after the end of the machine was seen on the console.
fn spawn_watchdog(child: Arc<Mutex<Child>>, monitor: Arc<Monitor>, deadline: Instant) {
    std::thread::spawn(move || {
        let mut state = monitor.lock();
        while state.end.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.end = Some(End::Deadline);
                break;
            }
            state = monitor.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let until = Instant::now() + GRACE;
        while !state.closed && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            state = monitor.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        kill(&child);
    });
}

fn kill(child: &Mutex<Child>) {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    // Both fail only if it has already exited.
    let _ = child.kill();
    let _ = child.wait();
}

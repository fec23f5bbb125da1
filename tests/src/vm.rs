//! One running machine: QEMU inside the sandbox, its console watched and kept, its end known at once.

use crate::agent::Agent;
use crate::console::{End, judge};
use crate::qemu::{Boot, INITRD, KERNEL, Machine, OVMF_VARS, RUN};
use crate::{Result, settings::Settings};
use anyhow::{Context as _, bail};
use common::sandbox::Run;
use fs_err as fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a machine that panicked may still write its trace.
const GRACE: Duration = Duration::from_secs(2);

/// Files of the host that a machine starts from.
#[derive(Clone, Debug)]
pub enum Media {
    /// Kernel and initramfs for [`Boot::Direct`].
    Direct {
        /// bzImage.
        kernel: PathBuf,
        /// Initramfs, whole.
        initramfs: PathBuf,
    },
    /// Image of an EFI system partition for [`Boot::Uefi`].
    Esp(PathBuf),
}

/// What the console has said so far.
#[derive(Debug, Default)]
struct Seen {
    text: String,
    end: Option<End>,
    closed: bool,
}

/// The console of a running machine, shared by the thread that reads it and those that wait for its end.
#[derive(Debug, Default)]
pub struct Monitor {
    seen: Mutex<Seen>,
    changed: Condvar,
}

impl Monitor {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the machine ended, once it has.
    pub fn end(&self) -> Option<End> {
        self.lock().end.clone()
    }

    fn set_end(&self, end: End) {
        self.lock().end.get_or_insert(end);
        self.changed.notify_all();
    }

    fn push(&self, line: &str) {
        let mut seen = self.lock();
        seen.text.push_str(line);
        seen.text.push('\n');
        if let Some(end) = judge(line) {
            // A panic says more than the fault that led to it.
            if seen.end.is_none() || matches!((&seen.end, &end), (Some(End::Fault(_)), End::Panic(_))) {
                seen.end = Some(end);
            }
        }
        drop(seen);
        self.changed.notify_all();
    }
}

/// A machine; dropping it ends it.
#[derive(Debug)]
pub struct Vm {
    child: Arc<Mutex<Child>>,
    monitor: Arc<Monitor>,
    dir: PathBuf,
    started: Instant,
    deadline: Instant,
}

impl Vm {
    /// Starts `machine` under `name`; it is ended after `limit`. Files and logs are in `<work>/<name>`.
    ///
    /// # Errors
    /// Files that cannot be made, or a sandbox that does not start.
    pub fn start(settings: &Settings, name: &str, machine: &Machine, media: &Media, limit: Duration) -> Result<Self> {
        let dir = settings.work.join(name);
        prepare(settings, &dir, machine, media)?;
        let run = sandboxed(machine, media, &dir);
        fs::write(dir.join("command.txt"), run.shell_line(settings.sandbox.rootfs()) + "\n")?;
        let mut command = settings.sandbox.command(&run);
        let errors = fs::File::create(dir.join("qemu.log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors.into_file());
        let mut child = command.spawn().context("cannot start bwrap")?;
        let console = child.stdout.take().context("no standard output")?;
        let log = fs::File::create(dir.join("serial.log"))?;
        let monitor = Arc::new(Monitor::default());
        let child = Arc::new(Mutex::new(child));
        let deadline = Instant::now() + limit;
        spawn_reader(console, log, Arc::clone(&monitor));
        spawn_watchdog(Arc::clone(&child), Arc::clone(&monitor), deadline);
        Ok(Self { child, monitor, dir, started: Instant::now(), deadline })
    }

    /// Connects to the guest's agent; waits until it answers.
    ///
    /// # Errors
    /// The machine ended before, with the reason and the end of its log.
    pub fn agent(&self) -> Result<Agent> {
        Agent::connect(&self.dir, Arc::clone(&self.monitor)).map_err(|err| err.context(self.summary()))
    }

    /// Waits until the machine has ended.
    pub fn wait(&self) -> End {
        let mut seen = self.monitor.lock();
        loop {
            if let (Some(end), true) = (&seen.end, seen.closed) {
                return end.clone();
            }
            seen = self.monitor.changed.wait(seen).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Why it ended, if it has.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.monitor.end()
    }

    /// The console so far.
    #[must_use]
    pub fn console(&self) -> String {
        self.monitor.lock().text.clone()
    }

    /// Time since the start.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Time until the machine is ended.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The kept console.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("serial.log")
    }

    /// How it stands, where its log is, and the log's last lines.
    #[must_use]
    pub fn summary(&self) -> String {
        let console = self.console();
        let lines: Vec<&str> = console.lines().collect();
        let tail = lines[lines.len().saturating_sub(30)..].join("\n");
        let state =
            self.end().map_or_else(|| "the machine runs".to_owned(), |end| format!("the machine ended: {end:?}"));
        let errors = std::fs::read_to_string(self.dir.join("qemu.log")).unwrap_or_default();
        format!("{state}\nlog: {}\n{tail}\n{errors}", self.log_path().display())
    }

    /// Ends the machine and waits for QEMU.
    pub fn stop(&self) {
        self.monitor.set_end(End::Stopped);
        kill(&self.child);
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.stop();
        // Sparse disks hold nothing a reader of logs wants.
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|kind| kind == "img" || kind == "fd" || kind == "sock") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// The sandboxed run: the machine's directory writable, what it boots read-only.
fn sandboxed(machine: &Machine, media: &Media, dir: &Path) -> Run {
    let run = Run::new(machine.arguments()).write(dir, RUN);
    match media {
        Media::Direct { kernel, initramfs } => run.read(kernel, KERNEL).read(initramfs, INITRD),
        Media::Esp(_) => run,
    }
}

fn prepare(settings: &Settings, dir: &Path, machine: &Machine, media: &Media) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir)?;
    for (n, mib) in machine.nvme_mib.iter().enumerate() {
        fs::File::create(dir.join(format!("disk{n}.img")))?.set_len(mib << 20)?;
    }
    match (media, &machine.boot) {
        (Media::Direct { .. }, Boot::Direct { .. }) => {}
        (Media::Esp(image), Boot::Uefi { .. }) => {
            fs::copy(image, dir.join("esp.img"))?;
            let variables = settings.sandbox.rootfs().join(OVMF_VARS.trim_start_matches('/'));
            fs::copy(variables, dir.join("vars.fd"))?;
        }
        _ => bail!("{:?} cannot boot from {media:?}", machine.boot),
    }
    Ok(())
}

fn spawn_reader(console: ChildStdout, mut log: fs::File, monitor: Arc<Monitor>) {
    std::thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            // A log that cannot be written must not lose the verdict.
            let _ = writeln!(log, "{line}");
            monitor.push(&line);
        }
        monitor.set_end(End::Exited);
        monitor.lock().closed = true;
        monitor.changed.notify_all();
    });
}

/// Ends QEMU when the deadline comes, or a little after the console told of the end.
fn spawn_watchdog(child: Arc<Mutex<Child>>, monitor: Arc<Monitor>, deadline: Instant) {
    std::thread::spawn(move || {
        let mut seen = monitor.lock();
        while seen.end.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                seen.end = Some(End::Deadline);
                break;
            }
            seen = monitor.changed.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let until = Instant::now() + GRACE;
        while !seen.closed && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            seen = monitor.changed.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(seen);
        kill(&child);
    });
}

fn kill(child: &Mutex<Child>) {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    // Both fail only when it has ended already.
    let _ = child.kill();
    let _ = child.wait();
}

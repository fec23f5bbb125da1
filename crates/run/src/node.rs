//! Running nodes: QEMU in the sandbox, and their consoles until they end.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use common::sandbox::{Run, Sandbox};
use common::{Class, Error, Result};
use qemu::{Accelerator, Machine, OVMF_CODE, OVMF_VARS, RUN};

use crate::console::{is_up, plain};
use crate::machine::{ESP, arguments};

/// QEMU in the toolchain.
const QEMU: &str = "/usr/bin/qemu-system-x86_64";

/// The device of KVM.
pub const KVM: &str = "/dev/kvm";

/// Silence after which a node that is not up is reported. Emulated firmware is silent for seconds, a loaded host makes that a minute.
const SILENCE: Duration = Duration::from_secs(180);

/// How often a request to stop is looked for.
const TICK: Duration = Duration::from_millis(200);

/// What happens while nodes run, each with the number of the node.
#[derive(Debug)]
pub enum Seen<'a> {
    /// A line on the console, without control characters.
    Line(u8, &'a str),
    /// The node is up.
    Up(u8),
    /// The node is not up and has printed nothing for a while.
    Silent(u8, Duration),
    /// The node was powered off.
    Off(u8),
}

/// A node to run: its machine, and its directory on the host.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its number, from 1.
    pub number: u8,
    /// Its machine.
    pub machine: Machine,
    /// Directory of its files.
    pub dir: PathBuf,
}

impl Node {
    /// Makes the files of a node in `<root>/<number>`: a copy of the boot disk `esp`, the firmware's variables, and an empty sparse disk of
    /// `disk_mib` if the machine has one.
    ///
    /// # Errors
    /// [`Class::MissingTool`] when QEMU or its firmware is not in the toolchain; I/O errors.
    pub fn make(
        sandbox: &Sandbox,
        root: &Path,
        number: u8,
        machine: Machine,
        esp: &Path,
        disk_mib: u32,
    ) -> Result<Self> {
        let inside = |path: &str| sandbox.rootfs().join(path.trim_start_matches('/'));
        for path in [QEMU, OVMF_CODE, OVMF_VARS] {
            if !inside(path).exists() {
                return Err(Error::new(Class::MissingTool, format!("{path} is not in the toolchain"))
                    .hint("run `./x toolchain refresh`; crates/toolchain/reference-tools.list has to name qemu-system-x86 and ovmf"));
            }
        }
        let dir = root.join(number.to_string());
        fs_err::create_dir_all(&dir)?;
        fs_err::copy(inside(OVMF_VARS), dir.join("vars.fd"))?;
        for disk in &machine.disks {
            match disk.file.as_str() {
                ESP => drop(fs_err::copy(esp, dir.join(ESP))?),
                empty => fs_err::File::create(dir.join(empty))?.set_len(u64::from(disk_mib) << 20)?,
            }
        }
        Ok(Self { number, machine, dir })
    }
}

/// A running node. Dropping it ends QEMU.
#[derive(Debug)]
struct Running {
    number: u8,
    child: Child,
    errors: PathBuf,
    heard: Instant,
    up: bool,
    off: bool,
}

/// A line of a node's console, or `None` for its end.
type Heard = (u8, Option<String>);

impl Running {
    /// Starts `node`. Its console goes to `console`.
    fn start(sandbox: &Sandbox, node: &Node, console: &Sender<Heard>) -> Result<Self> {
        let errors = node.dir.join("qemu.log");
        let mut command = sandbox.command(&sandboxed(node));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(fs_err::File::create(&errors)?.into_file());
        // Ctrl-C on the terminal is ours to handle.
        command.process_group(0);
        let mut child = command.spawn().map_err(|why| {
            Error::new(Class::MissingTool, "cannot start bwrap, the sandbox of QEMU").why(why).hint("`./x` installs it")
        })?;
        let (number, console, output) = (node.number, console.clone(), child.stdout.take());
        std::thread::spawn(move || {
            for line in output.into_iter().flat_map(|output| BufReader::new(output).split(b'\n')) {
                let Ok(line) = line else { break };
                let _ = console.send((number, Some(plain(&String::from_utf8_lossy(&line)))));
            }
            let _ = console.send((number, None));
        });
        Ok(Self { number, child, errors, heard: Instant::now(), up: false, off: false })
    }

    /// Waits for QEMU, whose console has ended.
    fn ended(&mut self) -> Result<()> {
        self.off = true;
        let status = self.child.wait()?;
        if status.success() {
            return Ok(());
        }
        let why = std::fs::read_to_string(&self.errors).unwrap_or_default();
        Err(Error::new(Class::Infrastructure, format!("QEMU of node {} ended with {status}", self.number))
            .why(why.trim_end()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // bwrap takes QEMU with it (`--die-with-parent`).
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// QEMU in the sandbox, with the host's network for the forwarded ports.
fn sandboxed(node: &Node) -> Run {
    let run = Run::new(arguments(&node.machine)).write(&node.dir, RUN).with_network();
    if node.machine.accelerator == Accelerator::Kvm { run.device(KVM) } else { run }
}

/// Runs nodes until all are powered off or `stop` is set, and reports what happens to `on`. No QEMU is left when it returns.
///
/// # Errors
/// [`Class::Infrastructure`] when a QEMU fails, with its messages.
pub fn watch(sandbox: &Sandbox, nodes: &[Node], stop: &AtomicBool, on: &mut dyn FnMut(Seen<'_>)) -> Result<()> {
    let (sender, console) = channel();
    let mut running = Vec::new();
    for node in nodes {
        running.push(Running::start(sandbox, node, &sender)?);
    }
    drop(sender);
    let watched = until_the_end(&mut running, &console, stop, on);
    drop(running);
    // QEMU holds the console open: once it is closed, QEMU is gone.
    while console.recv().is_ok() {}
    watched
}

fn until_the_end(
    nodes: &mut [Running],
    console: &Receiver<Heard>,
    stop: &AtomicBool,
    on: &mut dyn FnMut(Seen<'_>),
) -> Result<()> {
    while !stop.load(Ordering::SeqCst) && nodes.iter().any(|node| !node.off) {
        match console.recv_timeout(TICK) {
            Ok((number, line)) => {
                if let Some(node) = nodes.iter_mut().find(|node| node.number == number) {
                    hear(node, line, on)?;
                }
            }
            Err(RecvTimeoutError::Timeout) => nodes.iter_mut().for_each(|node| report_silence(node, on)),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(())
}

fn hear(node: &mut Running, line: Option<String>, on: &mut dyn FnMut(Seen<'_>)) -> Result<()> {
    let Some(line) = line else {
        node.ended()?;
        on(Seen::Off(node.number));
        return Ok(());
    };
    node.heard = Instant::now();
    on(Seen::Line(node.number, &line));
    if !node.up && is_up(&line) {
        node.up = true;
        on(Seen::Up(node.number));
    }
    Ok(())
}

fn report_silence(node: &mut Running, on: &mut dyn FnMut(Seen<'_>)) {
    if !node.up && !node.off && node.heard.elapsed() >= SILENCE {
        node.heard = Instant::now();
        on(Seen::Silent(node.number, SILENCE));
    }
}

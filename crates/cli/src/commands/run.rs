//! `solana-talos run`: boots a build in QEMU, with its console on the terminal, until Ctrl-C.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use build::{Choice, Outcome, Plan, Project};
use clap::Args;
use common::event::Event;
use common::sandbox::Sandbox;
use common::{Class, Error, Result};
use qemu::Forward;
use run::machine::{ESP, TALOS};
use run::node::KVM;
use run::{Build, Node, Seen, Wanted, esp, ports, size};

use crate::context::Context;
use crate::interrupt::Interrupts;
use crate::options::{KeyOptions, NetworkOptions, REGISTRY};
use crate::status::Status;

/// What to try once a node is up.
const TALOSCTL: &str = include_str!("talosctl.txt");

#[derive(Args)]
pub struct Options {
    /// Output directory of the build [default: _out in the project]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Boot this preset: if the build has another one, build it into DIR-NAME first, with the same profile and base
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Add an empty disk of this size, such as 10G, for Talos to install itself on
    #[arg(long, value_name = "SIZE", value_parser = size::mebibytes)]
    disk: Option<u32>,
    /// Memory of each node, such as 8G; the host only provides what the guest touches [default: the huge pages and 4G]
    #[arg(long, value_name = "SIZE", value_parser = size::mebibytes)]
    memory: Option<u32>,
    /// Processors of each node
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,
    /// Number of nodes; several are connected by a second network card
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u8).range(1..=8))]
    nodes: u8,
    /// Port of this machine that leads to the Talos API of the first node; the next node has the next one
    #[arg(long, value_name = "PORT", default_value_t = TALOS, value_parser = clap::value_parser!(u16).range(1..=65520))]
    port: u16,
    /// Also forward a port of this machine to the first node; repeatable
    #[arg(long = "forward", value_name = "HOST:GUEST", value_parser = ports::forward)]
    forwards: Vec<Forward>,
    /// Use KVM instead of emulation
    #[arg(long)]
    kvm: bool,
}

pub fn run(context: &Context, options: &Options, interrupts: &Interrupts) -> anyhow::Result<Status> {
    let out = options.out.clone().unwrap_or_else(|| context.path("_out"));
    let (out, build) = chosen(context, &out, options.preset.as_deref())?;
    let wanted = wanted(&build, options)?;
    let forwards: Vec<Forward> = (0..wanted.nodes).flat_map(|number| wanted.forwards(number)).collect();
    ports::check(&forwards)?;
    if wanted.kvm {
        check_kvm()?;
    }
    let sandbox = Project::open(context)?.toolchain()?.sandbox;
    let stop = interrupts.hold()?;
    let root = tempfile::Builder::new().prefix("run-").tempdir_in(&context.cache)?;
    let shown = Shown { context, out: &out, build: &build, wanted: &wanted };
    let mut printed = Ok(());
    let ended = nodes(&sandbox, root.path(), &build, &wanted, options.disk).and_then(|nodes| {
        shown.announce();
        run::watch(&sandbox, &nodes, stop, &mut |seen| {
            if let Err(e) = shown.show(&seen) {
                printed = Err(e);
                stop.store(true, Ordering::SeqCst);
            }
        })
    });
    root.close()?;
    printed?;
    if stop.load(Ordering::SeqCst) {
        context.sink().emit(&Event::Remark { message: "stopped; nothing is left running" });
        return Ok(Status::Interrupted);
    }
    Ok(ended.map(Into::into)?)
}

/// Returns the build to boot and its directory: that in `out`, or that in `<out>-<preset>`, which is built first.
fn chosen(context: &Context, out: &Path, preset: Option<&str>) -> anyhow::Result<(PathBuf, Build)> {
    let build = Build::open(out)?;
    let Some(preset) = preset.filter(|preset| *preset != build.preset) else { return Ok((out.to_owned(), build)) };
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(format!("-{preset}"));
    let beside = out.with_file_name(name);
    let choice = Choice {
        keys: KeyOptions::default().choice(),
        profile: build.profile,
        preset: preset.to_owned(),
        base: Some(build.base),
        keep_installer: false,
        extra: Vec::new(),
        registry: REGISTRY.to_owned(),
        tag: None,
        source: build::SourceChoice::Debian,
        kernel_sha256: None,
    };
    match build::build(Plan::read(context, choice)?, &NetworkOptions::default().network(), &beside)? {
        Outcome::Done(_) => Ok((beside.clone(), Build::open(&beside)?)),
        Outcome::Pending(what) => {
            Err(Error::new(Class::Verification, "the build is waiting for signatures").why(what).into())
        }
    }
}

fn wanted(build: &Build, options: &Options) -> Result<Wanted> {
    Ok(Wanted {
        nodes: options.nodes,
        memory_mib: build.memory_mib(options.memory)?,
        cpus: options.cpus,
        disk: options.disk.is_some(),
        port: options.port,
        forwards: options.forwards.clone(),
        kvm: options.kvm,
    })
}

fn check_kvm() -> Result<()> {
    let opened = std::fs::File::options().read(true).write(true).open(KVM);
    opened.map(drop).map_err(|why| {
        Error::new(Class::Infrastructure, "KVM is not available")
            .file(KVM)
            .why(why)
            .hint("leave out --kvm: emulation is slower and works everywhere; or join the group of the device")
    })
}

/// Makes the files of every node in `root`.
fn nodes(sandbox: &Sandbox, root: &Path, build: &Build, wanted: &Wanted, disk_mib: Option<u32>) -> Result<Vec<Node>> {
    let image = root.join(ESP);
    esp::make(sandbox, &sandbox.rootfs().join(esp::SYSTEMD_BOOT), &build.uki, "Talos", &image)?;
    let make = |number| Node::make(sandbox, root, number + 1, wanted.machine(number), &image, disk_mib.unwrap_or(0));
    (0..wanted.nodes).map(make).collect()
}

/// What is shown while nodes run.
struct Shown<'a> {
    context: &'a Context,
    out: &'a Path,
    build: &'a Build,
    wanted: &'a Wanted,
}

impl Shown<'_> {
    fn note(&self, message: &str) {
        self.context.sink().emit(&Event::Remark { message });
    }

    fn announce(&self) {
        let what = if self.build.is_testbed() { "the testbed, not Talos" } else { "Talos" };
        self.note(&format!("booting {} (preset {}, {what}); Ctrl-C ends it", self.out.display(), self.build.preset));
        for number in 0..self.wanted.nodes {
            for Forward { host, guest } in self.wanted.forwards(number) {
                self.note(&format!("127.0.0.1:{host} leads to port {guest} of node {}", number + 1));
            }
        }
    }

    fn show(&self, seen: &Seen<'_>) -> anyhow::Result<()> {
        match *seen {
            Seen::Line(_, line) if self.wanted.nodes == 1 => self.context.answer(line)?,
            Seen::Line(number, line) => self.context.answer(&format!("{number}: {line}"))?,
            Seen::Up(number) if self.build.is_testbed() => {
                self.note(&format!("node {number} is up; the testbed has only this console"));
            }
            Seen::Up(number) => {
                let port = self.wanted.port.saturating_add(u16::from(number) - 1);
                talosctl(number, port, self.out).lines().try_for_each(|line| self.context.answer(line))?;
            }
            Seen::Silent(number, time) => self.context.sink().emit(&Event::Warning {
                message: &format!(
                    "node {number} is not up and has printed nothing for {} s: it hangs, or this machine is very slow; Ctrl-C ends it",
                    time.as_secs()
                ),
            }),
            Seen::Off(number) => self.note(&format!("node {number} was powered off")),
        }
        Ok(())
    }
}

fn talosctl(number: u8, port: u16, out: &Path) -> String {
    let address = if port == TALOS { "127.0.0.1".to_owned() } else { format!("127.0.0.1:{port}") };
    let (own, config) = (out.join("talosctl"), out.join("machine-config.yaml").display().to_string());
    let program = if own.is_file() { own.display().to_string() } else { "talosctl".to_owned() };
    let values =
        [("{number}", number.to_string()), ("{address}", address), ("{config}", config), ("{talosctl}", program)];
    values.iter().fold(TALOSCTL.to_owned(), |text, (name, value)| text.replace(name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_name_the_port_only_if_it_is_another() {
        let text = talosctl(1, TALOS, Path::new("_out"));
        assert!(text.contains("talosctl -n 127.0.0.1 get machinestatus --insecure"), "{text}");
        assert!(text.contains("@_out/machine-config.yaml") && !text.contains('{'), "{text}");
        assert!(
            talosctl(2, 50001, Path::new("_out")).contains("node 2")
                && talosctl(2, 50001, Path::new("_out")).contains("-n 127.0.0.1:50001 get")
        );
        let out = tempfile::tempdir().unwrap();
        let own = out.path().join("talosctl");
        std::fs::write(&own, "").unwrap();
        assert!(talosctl(1, TALOS, out.path()).contains(&format!("  {} -n 127.0.0.1 get", own.display())));
    }
}

//! Serves the host's requests on the virtio-serial port.

use crate::modules::{self, Index};
use crate::protocol::{PORT, READY, Reply, Request, Worker};
use crate::{Result, context, hex, kmsg, mounts, report};
use rustix::io::Errno;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::{Child, Command, Stdio};

/// Returns the device of the agent's port, if the machine has one.
#[must_use]
pub fn find_port() -> Option<String> {
    let ports = std::fs::read_dir("/sys/class/virtio-ports").ok()?;
    ports.flatten().find_map(|entry| {
        let name = std::fs::read_to_string(entry.path().join("name")).ok()?;
        (name.trim() == PORT).then(|| format!("/dev/{}", entry.file_name().to_string_lossy()))
    })
}

/// Serves requests until the port fails.
pub fn serve(port: &str) -> Result<()> {
    let mut writer = context(OpenOptions::new().read(true).write(true).open(port), port)?;
    let mut reader = BufReader::new(context(writer.try_clone(), port)?);
    let mut agent = Agent::new();
    // The empty line ends output of the firmware.
    context(writer.write_all(b"\n"), port)?;
    send(&mut writer, &Reply::Ok(READY.into()))?;
    loop {
        let mut line = String::new();
        if context(reader.read_line(&mut line), port)? == 0 {
            // End of file: the host is not connected yet.
            std::thread::sleep(std::time::Duration::from_millis(50));
            continue;
        }
        let reply = match serde_json::from_str(&line) {
            Ok(request) => agent.answer(request).unwrap_or_else(|failure| failure.0),
            Err(err) => Reply::Error(format!("bad request: {err}")),
        };
        send(&mut writer, &reply)?;
    }
}

fn send(writer: &mut File, reply: &Reply) -> Result<()> {
    let text = context(serde_json::to_string(reply), "reply")? + "\n";
    context(writer.write_all(text.as_bytes()), "agent port")
}

/// A reply that is not a success, so that `?` works on system calls.
struct Failure(Reply);

impl From<std::io::Error> for Failure {
    fn from(err: std::io::Error) -> Self {
        Self(err.raw_os_error().map_or_else(|| Reply::Error(err.to_string()), Reply::Errno))
    }
}

impl From<Errno> for Failure {
    fn from(err: Errno) -> Self {
        Self(Reply::Errno(err.raw_os_error()))
    }
}

impl From<String> for Failure {
    fn from(err: String) -> Self {
        Self(Reply::Error(err))
    }
}

struct Agent {
    index: Index,
    cmdline: String,
    jobs: BTreeMap<u32, Child>,
    next_job: u32,
}

impl Agent {
    fn new() -> Self {
        let cmdline = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
        Self { index: Index::read(&report::release()), cmdline, jobs: BTreeMap::new(), next_job: 1 }
    }

    fn answer(&mut self, request: Request) -> std::result::Result<Reply, Failure> {
        let value = match request {
            Request::Read { path } => json!(hex::encode(&std::fs::read(path)?)),
            Request::Write { path, hex, offset } => json!(write_at(&path, &bytes(&hex)?, offset)?),
            Request::Put { path, hex } => json!(std::fs::write(path, bytes(&hex)?)?),
            Request::List { path } => json!(list(&path)?),
            Request::Stat { path } => {
                let meta = std::fs::symlink_metadata(path)?;
                json!({ "mode": meta.mode(), "size": meta.size() })
            }
            Request::LoadFile { path, parameters } => json!(modules::load_file(path.as_ref(), &parameters)?),
            Request::DeleteModule { name } => json!(delete_module(&name)?),
            Request::Cycle { path, name, times } => json!(cycle(&path, &name, times)?),
            Request::Coldplug => json!(modules::coldplug(&self.index, &self.cmdline)),
            Request::Mount { kind, target, options } => mount(&kind, &target, &options)?,
            Request::Unmount { target } => {
                json!(rustix::mount::unmount(target, rustix::mount::UnmountFlags::empty())?)
            }
            Request::Spawn { worker } => json!(self.spawn(&worker)?),
            Request::Wait { job } => json!(self.finish(job, false)?),
            Request::Kill { job } => json!(self.finish(job, true)?),
            Request::Report => json!(std::fs::read_to_string(report::PATH)?),
            Request::Dmesg { since } => {
                let (next, text) = kmsg::read(since)?;
                json!({ "next": next, "text": text })
            }
            Request::Panic => json!(std::fs::write("/proc/sysrq-trigger", "c")?),
        };
        Ok(Reply::Ok(value))
    }

    fn spawn(&mut self, worker: &Worker) -> std::result::Result<u32, Failure> {
        let text = context(serde_json::to_string(worker), "worker")?;
        let child = Command::new("/proc/self/exe").args(["worker", &text]).stdout(Stdio::piped()).spawn()?;
        // The OOM killer must choose the worker, not the agent.
        std::fs::write(format!("/proc/{}/oom_score_adj", child.id()), "1000")?;
        let job = self.next_job;
        self.next_job += 1;
        self.jobs.insert(job, child);
        Ok(job)
    }

    fn finish(&mut self, job: u32, kill: bool) -> std::result::Result<String, Failure> {
        let mut child = self.jobs.remove(&job).ok_or_else(|| format!("no job {job}"))?;
        if kill {
            child.kill()?;
        }
        let mut output = String::new();
        child.stdout.take().map(|mut out| out.read_to_string(&mut output)).transpose()?;
        let status = child.wait()?;
        if status.success() || kill {
            Ok(output)
        } else {
            Err(format!("job {job} ended with {status}: {output}").into())
        }
    }
}

fn bytes(text: &str) -> std::result::Result<Vec<u8>, Failure> {
    hex::decode(text).ok_or_else(|| "invalid hexadecimal text".to_owned().into())
}

/// Does one system call, so that the kernel gets exactly these bytes at this offset. At offset 0 it is write(2): some files, such as
/// kmemleak's, reject pwrite(2).
fn write_at(path: &str, bytes: &[u8], offset: u64) -> std::io::Result<usize> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    if offset == 0 { file.write(bytes) } else { file.write_at(bytes, offset) }
}

fn list(path: &str) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn delete_module(name: &str) -> rustix::io::Result<()> {
    let name = std::ffi::CString::new(name).map_err(|_| Errno::INVAL)?;
    // O_NONBLOCK: fail on a module in use instead of waiting.
    rustix::system::delete_module(&name, i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0))
}

fn cycle(path: &str, name: &str, times: u32) -> std::result::Result<u32, Failure> {
    for n in 0..times {
        let round = modules::load_file(path.as_ref(), "").and_then(|()| delete_module(name));
        round.map_err(|err| format!("round {} of {times}: {err}", n + 1))?;
    }
    Ok(times)
}

fn mount(kind: &str, target: &str, options: &str) -> std::result::Result<Value, Failure> {
    std::fs::create_dir_all(target)?;
    mounts::one(kind, target, kind, rustix::mount::MountFlags::empty(), options)?;
    Ok(Value::Null)
}

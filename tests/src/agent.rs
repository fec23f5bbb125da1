//! Client of the guest's agent. Every call returns when the machine ends.

use crate::protocol::{READY, Reply, Request, Worker};
use crate::vm::Monitor;
use crate::{Result, hex};
use anyhow::{Context as _, bail};
use serde_json::Value;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// `EINVAL`
pub const EINVAL: i32 = 22;
/// `EBADMSG`
pub const EBADMSG: i32 = 74;
/// `EKEYREJECTED`
pub const EKEYREJECTED: i32 = 129;

/// Result of a system call in the guest: its value or its errno.
pub type Outcome<T> = std::result::Result<T, i32>;

/// A connection to the guest's agent.
#[derive(Debug)]
pub struct Agent {
    stream: UnixStream,
    rest: Vec<u8>,
    monitor: Arc<Monitor>,
}

impl Agent {
    /// Connects to `agent.sock` in the machine's directory and waits until the guest is ready.
    pub fn connect(dir: &Path, monitor: Arc<Monitor>) -> Result<Self> {
        // A socket path is limited to 107 bytes; this one is short wherever the checkout is.
        let dir = fs_err::File::open(dir)?;
        let socket = format!("/proc/self/fd/{}/agent.sock", dir.as_raw_fd());
        let stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(err) if monitor.end().is_some() => {
                    return Err(err).context("cannot connect to the agent: the machine ended");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut agent = Self { stream, rest: Vec::new(), monitor };
        while !agent.read_line()?.contains(&format!("\"{READY}\"")) {}
        Ok(agent)
    }

    /// Sends a request and waits for its reply.
    pub fn call(&mut self, request: &Request) -> Result<Outcome<Value>> {
        self.send(request)?;
        match serde_json::from_str(&self.read_line()?).context("malformed reply of the agent")? {
            Reply::Ok(value) => Ok(Ok(value)),
            Reply::Errno(errno) => Ok(Err(errno)),
            Reply::Error(why) => bail!("the guest rejected {}: {why}", describe(request)),
        }
    }

    /// Sends a request whose system call must succeed.
    pub fn expect(&mut self, request: &Request) -> Result<Value> {
        match self.call(request)? {
            Ok(value) => Ok(value),
            Err(errno) => bail!("{} failed in the guest with errno {errno}", describe(request)),
        }
    }

    /// Reads a file.
    pub fn read_bytes(&mut self, path: &str) -> Result<Vec<u8>> {
        let value = self.expect(&Request::Read { path: path.to_owned() })?;
        value.as_str().and_then(hex::decode).context("the agent's reply is not hexadecimal")
    }

    /// Reads a file and trims white space at both ends.
    pub fn read(&mut self, path: &str) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.read_bytes(path)?).trim().to_owned())
    }

    /// Reads a file that contains one number.
    pub fn read_number(&mut self, path: &str) -> Result<u64> {
        let text = self.read(path)?;
        text.parse().with_context(|| format!("{path} is not a number: {text:?}"))
    }

    /// Does one write(2) at `offset`.
    pub fn write_at(&mut self, path: &str, bytes: &[u8], offset: u64) -> Result<Outcome<u64>> {
        let request = Request::Write { path: path.to_owned(), hex: hex::encode(bytes), offset };
        Ok(self.call(&request)?.map(|value| value.as_u64().unwrap_or_default()))
    }

    /// Does one write(2) at offset 0.
    pub fn write(&mut self, path: &str, text: &str) -> Result<Outcome<u64>> {
        self.write_at(path, text.as_bytes(), 0)
    }

    /// Does one write(2) that must succeed.
    pub fn set(&mut self, path: &str, text: &str) -> Result<()> {
        match self.write(path, text)? {
            Ok(_) => Ok(()),
            Err(errno) => bail!("cannot write {text:?} to {path}: errno {errno}"),
        }
    }

    /// Returns the sorted names in a directory.
    pub fn list(&mut self, path: &str) -> Result<Vec<String>> {
        Ok(serde_json::from_value(self.expect(&Request::List { path: path.to_owned() })?)?)
    }

    /// Returns the mode of a path, including its file type bits.
    pub fn mode(&mut self, path: &str) -> Result<u32> {
        let value = self.expect(&Request::Stat { path: path.to_owned() })?;
        Ok(serde_json::from_value(value["mode"].clone())?)
    }

    /// Copies a module into the guest's `/tmp` and tries to load it.
    pub fn load_module(&mut self, bytes: &[u8]) -> Result<Outcome<()>> {
        let path = "/tmp/candidate.ko".to_owned();
        self.expect(&Request::Put { path: path.clone(), hex: hex::encode(bytes) })?;
        Ok(self.call(&Request::LoadFile { path, parameters: String::new() })?.map(|_| ()))
    }

    /// Returns the sequence number of the next record and the kernel log from record `since` on.
    pub fn dmesg(&mut self, since: u64) -> Result<(u64, String)> {
        let value = self.expect(&Request::Dmesg { since })?;
        Ok((value["next"].as_u64().unwrap_or_default(), value["text"].as_str().unwrap_or_default().to_owned()))
    }

    /// Starts a background process and returns its job number.
    pub fn spawn(&mut self, worker: Worker) -> Result<u32> {
        Ok(serde_json::from_value(self.expect(&Request::Spawn { worker })?)?)
    }

    /// Waits for a background process and returns its output; fails if the process failed.
    pub fn wait(&mut self, job: u32) -> Result<String> {
        Ok(serde_json::from_value(self.expect(&Request::Wait { job })?)?)
    }

    /// Kills a background process.
    pub fn kill(&mut self, job: u32) -> Result<()> {
        self.expect(&Request::Kill { job }).map(drop)
    }

    /// Sends a request without waiting for the reply, which may never come (panic).
    pub fn send(&mut self, request: &Request) -> Result<()> {
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        self.stream.write_all(line.as_bytes()).context("cannot write to the agent's port")
    }

    fn read_line(&mut self) -> Result<String> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            if let Some(at) = self.rest.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=at).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => bail!("the agent's port is closed; the machine ended: {:?}", self.monitor.end()),
                Ok(count) => self.rest.extend_from_slice(&buffer[..count]),
                Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if let Some(end) = self.monitor.end() {
                        bail!("the machine ended: {end:?}");
                    }
                }
                Err(err) => return Err(err).context("cannot read the agent's port"),
            }
        }
    }
}

/// The first 200 characters of the request.
fn describe(request: &Request) -> String {
    let mut text = serde_json::to_string(request).unwrap_or_default();
    text.truncate(text.char_indices().nth(200).map_or(text.len(), |(at, _)| at));
    text
}

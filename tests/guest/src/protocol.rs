//! The agent's protocol: one JSON request per line from the host, one JSON reply per line from the guest.
//!
//! The harness on the host compiles the same file. Bytes are encoded in hexadecimal.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Name of the virtio-serial port.
pub const PORT: &str = "org.solana-talos.agent";

/// The first line from the guest. The host sends nothing before it, because firmware also reads the port.
pub const READY: &str = "ready";

/// A request of the host. Requests are system calls; the logic of tests is on the host. Paths are absolute, bytes are in `hex`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "cmd", rename_all = "snake_case", deny_unknown_fields)]
#[allow(missing_docs, reason = "the variants describe their fields")]
pub enum Request {
    /// Reads a file; returns its content in hexadecimal.
    Read { path: String },
    /// Does one write(2) or pwrite(2) on an existing file; returns the number of bytes written.
    Write { path: String, hex: String, offset: u64 },
    /// Writes a file below `/run` or `/tmp`, for instance a module to load.
    Put { path: String, hex: String },
    /// Returns the sorted names in a directory.
    List { path: String },
    /// Returns `{mode, size}` of a path; the mode includes the file type bits.
    Stat { path: String },
    /// Calls finit_module(2) on one file, with white space between the parameters.
    LoadFile { path: String, parameters: String },
    /// Calls delete_module(2), non-blocking, on the module `name`.
    DeleteModule { name: String },
    /// Loads the module file `path` and unloads the module `name`, `times` times; returns the number of rounds.
    Cycle { path: String, name: String, times: u32 },
    /// Loads drivers for devices that have none; returns the errors.
    Coldplug,
    /// Calls mount(2) without flags, with the filesystem type `kind` as the source; makes the target.
    Mount { kind: String, target: String, options: String },
    /// Calls umount(2).
    Unmount { target: String },
    /// Starts a background process; returns its job number.
    Spawn { worker: Worker },
    /// Waits for the end of a job; returns its output.
    Wait { job: u32 },
    /// Kills a job and waits for its end.
    Kill { job: u32 },
    /// Returns the report that was printed on the console at boot.
    Report,
    /// Returns `{next, text}`: the kernel log from record `since` on (0 is the first one of the boot), and the number of the next record.
    Dmesg { since: u64 },
    /// Panics the kernel through sysrq. No reply.
    Panic,
}

/// A background process of the guest; `seconds` is its duration.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[allow(missing_docs, reason = "the variants describe their fields")]
pub enum Worker {
    /// Makes memory pressure: allocates and frees anonymous memory so that `leave` bytes of MemAvailable are left, while `readers` threads
    /// read random pages of the first `length` bytes of a file or block device, more than fits into the rest.
    Hog { leave: u64, readers: u32, file: String, length: u64, seconds: u64 },
    /// Maps `bytes` of huge pages through a file on the hugetlbfs at `mount`. They are only reserved unless `touch` is set.
    HugePages { mount: String, bytes: u64, touch: bool, seconds: u64 },
    /// Writes to one file in parallel: each writer writes all values in turn, `rounds` times. Prints
    /// `{"<value>": {"ok": n, "<errno>": n}}`.
    Writers { path: String, values: Vec<String>, writers: u32, rounds: u32 },
}

/// A line of the container that holds huge pages.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Huge pages of the node.
    pub total: u64,
    /// Those of them that are free.
    pub free: u64,
    /// `shrinks_total` in `/proc/sys/solana`.
    pub shrinks: u64,
    /// `memory_pressure` there.
    pub pressure: String,
}

/// A reply of the guest.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Success.
    Ok(Value),
    /// A system call failed with this errno.
    Errno(i32),
    /// The request is malformed or failed without an errno.
    Error(String),
}

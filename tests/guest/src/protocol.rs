//! The agent's protocol: one JSON request per line from the host, one JSON reply per line from the guest.
//!
//! The harness on the host compiles the same file. Bytes are encoded in hexadecimal.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Name of the virtio-serial port.
pub const PORT: &str = "org.solana-talos.agent";

/// The first line from the guest. The host sends nothing before it, because firmware also reads the port.
pub const READY: &str = "ready";

/// A request of the host. Requests are system calls; the logic of tests is on the host.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "cmd", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Reads a file; returns its content in hexadecimal.
    Read {
        /// Absolute path.
        path: String,
    },
    /// Does one write(2) or pwrite(2) on an existing file; returns the number of bytes written.
    Write {
        /// Absolute path.
        path: String,
        /// Bytes in hexadecimal.
        hex: String,
        /// File offset.
        offset: u64,
    },
    /// Writes a file below `/run` or `/tmp`, for instance a module to load.
    Put {
        /// Absolute path.
        path: String,
        /// Bytes in hexadecimal.
        hex: String,
    },
    /// Returns the sorted names in a directory.
    List {
        /// Absolute path.
        path: String,
    },
    /// Returns `{mode, size}` of a path; the mode includes the file type bits.
    Stat {
        /// Absolute path.
        path: String,
    },
    /// Calls finit_module(2) on one file.
    LoadFile {
        /// Absolute path.
        path: String,
        /// Parameters, blank-separated.
        parameters: String,
    },
    /// Calls delete_module(2), non-blocking.
    DeleteModule {
        /// Module name.
        name: String,
    },
    /// Loads and unloads one file repeatedly; returns the number of rounds.
    Cycle {
        /// Absolute path of the module.
        path: String,
        /// Its name.
        name: String,
        /// Number of rounds.
        times: u32,
    },
    /// Loads drivers for devices that have none; returns the errors.
    Coldplug,
    /// Calls mount(2) without flags; makes the target.
    Mount {
        /// Filesystem type, also the source.
        kind: String,
        /// Absolute path.
        target: String,
        /// Filesystem options.
        options: String,
    },
    /// Calls umount(2).
    Unmount {
        /// Absolute path.
        target: String,
    },
    /// Starts a background process; returns its job number.
    Spawn {
        /// The process.
        worker: Worker,
    },
    /// Waits for the end of a job; returns its output.
    Wait {
        /// Number from `Spawn`.
        job: u32,
    },
    /// Kills a job and waits for its end.
    Kill {
        /// Number from `Spawn`.
        job: u32,
    },
    /// Returns the report that was printed on the console at boot.
    Report,
    /// Returns `{next, text}`: the kernel log from a record on, and the number of the next record.
    Dmesg {
        /// Number of the first record; 0 is the first one of the boot.
        since: u64,
    },
    /// Panics the kernel through sysrq. No reply.
    Panic,
}

/// A background process of the guest.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Worker {
    /// Makes memory pressure: allocates anonymous memory until little is available, and reads more of a file than fits into the rest.
    Hog {
        /// Bytes of MemAvailable to leave free; memory is allocated and freed as MemAvailable changes.
        leave: u64,
        /// Number of readers.
        readers: u32,
        /// File or block device.
        file: String,
        /// Bytes of it to read repeatedly.
        length: u64,
        /// Duration.
        seconds: u64,
    },
    /// Maps huge pages through a file on hugetlbfs and holds them.
    HugePages {
        /// Mount point of hugetlbfs.
        mount: String,
        /// Bytes to map, a multiple of the page size.
        bytes: u64,
        /// Writes to each page if true; otherwise they are only reserved.
        touch: bool,
        /// Duration.
        seconds: u64,
    },
    /// Writes to one file in parallel; prints `{"<value>": {"ok": n, "<errno>": n}}`.
    Writers {
        /// File to write.
        path: String,
        /// Values that each writer writes in turn.
        values: Vec<String>,
        /// Number of writers.
        writers: u32,
        /// Number of rounds through all values.
        rounds: u32,
    },
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

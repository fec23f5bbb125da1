//! The agent's protocol: one JSON request a line from the host, one JSON reply a line from the guest.
//!
//! The host's harness compiles this same file. Bytes travel as hexadecimal text.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Name of the virtio-serial port.
pub const PORT: &str = "org.solana-talos.agent";

/// The first line from the guest. The host sends nothing before it: firmware opens the port too, and would swallow it.
pub const READY: &str = "ready";

/// What the host asks for. The logic of a test stays on the host; these are system calls.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "cmd", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Whole content of a file, in hexadecimal.
    Read {
        /// Absolute path.
        path: String,
    },
    /// One pwrite(2) on an existing file; answers the number of bytes taken.
    Write {
        /// Absolute path.
        path: String,
        /// Bytes in hexadecimal.
        hex: String,
        /// File offset.
        offset: u64,
    },
    /// Makes a new file below `/run` or `/tmp`, for instance a module to load.
    Put {
        /// Absolute path.
        path: String,
        /// Bytes in hexadecimal.
        hex: String,
    },
    /// Sorted names in a directory.
    List {
        /// Absolute path.
        path: String,
    },
    /// `{mode, size}` of a path, the mode with its file type bits.
    Stat {
        /// Absolute path.
        path: String,
    },
    /// Loads a module by name with what it needs, as modprobe does.
    Modprobe {
        /// Module name.
        name: String,
        /// `key=value` words.
        parameters: Vec<String>,
    },
    /// finit_module(2) on one file.
    LoadFile {
        /// Absolute path.
        path: String,
        /// Parameters, blank-separated.
        parameters: String,
    },
    /// delete_module(2), non-blocking.
    DeleteModule {
        /// Module name.
        name: String,
    },
    /// Loads and unloads one file again and again; answers how often it worked before an errno.
    Cycle {
        /// Absolute path of the module.
        path: String,
        /// Its name.
        name: String,
        /// How often.
        times: u32,
    },
    /// Loads drivers for devices that have none yet; answers what was refused.
    Coldplug,
    /// mount(2) without flags; the target is made.
    Mount {
        /// Filesystem type, also the source.
        kind: String,
        /// Absolute path.
        target: String,
        /// Filesystem options.
        options: String,
    },
    /// umount(2).
    Unmount {
        /// Absolute path.
        target: String,
    },
    /// Starts a background process; answers its job number.
    Spawn {
        /// What it does.
        worker: Worker,
    },
    /// Waits for a job to end; answers what it printed.
    Wait {
        /// Number from `Spawn`.
        job: u32,
    },
    /// Ends a job at once and waits for it.
    Kill {
        /// Number from `Spawn`.
        job: u32,
    },
    /// The report that the console got at boot.
    Report,
    /// Kernel log from a record on; answers `{next, text}`.
    Dmesg {
        /// First record wanted; 0 is the first of the boot.
        since: u64,
    },
    /// Panics the kernel through sysrq. No reply.
    Panic,
}

/// A background process of the guest.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Worker {
    /// Real memory pressure: anonymous memory until little is available, and readers that touch more of a file than fits into the rest.
    Hog {
        /// Bytes of MemAvailable to leave; more is taken, and given back, as this changes.
        leave: u64,
        /// Number of readers.
        readers: u32,
        /// File or block device.
        file: String,
        /// Bytes of it to touch again and again.
        length: u64,
        /// How long.
        seconds: u64,
    },
    /// Maps huge pages through a file on hugetlbfs and holds them.
    HugePages {
        /// Mount point of hugetlbfs.
        mount: String,
        /// Bytes to map, a multiple of the page size.
        bytes: u64,
        /// Writes to each page when true; a mapping alone only reserves them.
        touch: bool,
        /// How long.
        seconds: u64,
    },
    /// Writers in parallel on one file; prints `{"<value>": {"ok": n, "<errno>": n}}`.
    Writers {
        /// File written.
        path: String,
        /// Values, each by every writer in turn.
        values: Vec<String>,
        /// Number of writers.
        writers: u32,
        /// Rounds of all values.
        rounds: u32,
    },
}

/// The guest's answer.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It worked.
    Ok(Value),
    /// A system call failed with this errno.
    Errno(i32),
    /// The request itself made no sense.
    Error(String),
}

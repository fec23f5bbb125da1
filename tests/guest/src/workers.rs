//! Background processes of tests: memory pressure, users of huge pages, parallel writers.

use crate::protocol::Worker;
use crate::{Result, context};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

const CHUNK: usize = 4 << 20;
const PAGE: usize = 4096;

/// Runs one worker and prints its result.
pub fn run(worker: &Worker) -> Result<()> {
    match worker {
        Worker::Hog { leave, readers, file, length, seconds } => hog(*leave, *readers, file, *length, *seconds),
        Worker::HugePages { mount, bytes, touch, seconds } => huge_pages(mount, *bytes, *touch, *seconds),
        Worker::Writers { path, values, writers, rounds } => write_in_parallel(path, values, *writers, *rounds),
    }
}

fn hog(leave: u64, readers: u32, file: &str, length: u64, seconds: u64) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(seconds);
    // Allocated before the readers start, which would take its CPU time.
    let mut held = Vec::new();
    while Instant::now() < end && available_memory()? > leave {
        held.push(Chunk::allocate()?);
    }
    std::thread::scope(|scope| {
        let tasks: Vec<_> = (1..=readers.into()).map(|n| scope.spawn(move || thrash(file, length, n, end))).collect();
        hold_memory(held, leave, end)?;
        tasks.into_iter().try_for_each(|task| task.join().map_err(|_| "a reader panicked".to_owned())?)
    })
}

/// Keeps MemAvailable between `leave / 2` and `leave` by allocating and freeing chunks.
fn hold_memory(mut held: Vec<Chunk>, leave: u64, end: Instant) -> Result<()> {
    while Instant::now() < end {
        let available = available_memory()?;
        if available > leave {
            held.push(Chunk::allocate()?);
        } else if available < leave / 2 {
            held.pop();
        } else {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    println!("{{\"held\": {}}}", held.len() * CHUNK);
    Ok(())
}

/// Anonymous memory in use. Without swap the kernel cannot reclaim it.
struct Chunk(*mut std::ffi::c_void);

impl Chunk {
    fn allocate() -> Result<Self> {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        // Populates all pages in one call: a fault for each is slow under emulation.
        let flags = MapFlags::PRIVATE | MapFlags::POPULATE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), CHUNK, ProtFlags::READ | ProtFlags::WRITE, flags) };
        context(base, "memory").map(Self)
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `allocate` made; no other code has its address.
        let unmapped = unsafe { rustix::mm::munmap(self.0, CHUNK) };
        debug_assert!(unmapped.is_ok(), "munmap of an own mapping");
    }
}

fn available_memory() -> Result<u64> {
    let text = context(std::fs::read_to_string("/proc/meminfo"), "/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| "no MemAvailable in /proc/meminfo".to_owned())
}

/// Reads random pages of the first `length` bytes of `file` until `end`.
///
/// Through a mapping, because PSI counts waiting for a refault as a memory stall, and the generational LRU detects refaults only on page
/// faults (mm/workingset.c, lru_gen_refault).
fn thrash(file: &str, length: u64, seed: u64, end: Instant) -> Result<()> {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap};
    let length = context(usize::try_from(length), "length")?;
    let input = context(File::open(file), file)?;
    // SAFETY: a new mapping at an address of the kernel's choice, never unmapped in this process.
    let base = unsafe { mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, &input, 0) };
    let base = context(base, file)?;
    // SAFETY: the whole mapping; the advice only disables readahead.
    context(unsafe { madvise(base, length, Advice::Random) }, file)?;
    let mut random = seed;
    while Instant::now() < end {
        // Knuth's linear congruential generator; its upper bits are the random ones.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let page = (random >> 33) as usize % (length / PAGE);
        // SAFETY: the page is inside the mapping, which is readable.
        unsafe { base.cast::<u8>().add(page * PAGE).read_volatile() };
    }
    Ok(())
}

fn huge_pages(mount: &str, bytes: u64, touch: bool, seconds: u64) -> Result<()> {
    let path = format!("{mount}/worker-{}", std::process::id());
    let file = context(OpenOptions::new().read(true).write(true).create_new(true).open(&path), &path)?;
    // An unlinked file is freed when this process ends, also when it is killed.
    context(std::fs::remove_file(&path), &path)?;
    let length = context(usize::try_from(bytes), "bytes")?;
    map_and_hold(&file, length, touch, seconds)
}

fn map_and_hold(file: &File, length: usize, touch: bool, seconds: u64) -> Result<()> {
    use rustix::mm::{MapFlags, ProtFlags, mmap};
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice, never unmapped in this process.
    let base = unsafe { mmap(std::ptr::null_mut(), length, protection, MapFlags::SHARED, file, 0) };
    let base = context(base, "mmap of huge pages")?.cast::<u8>();
    if touch {
        for at in (0..length).step_by(2 << 20) {
            // SAFETY: `at` is inside the mapping, which is writable.
            unsafe { base.add(at).write_volatile(1) };
        }
    }
    std::thread::sleep(Duration::from_secs(seconds));
    Ok(())
}

type Counts = BTreeMap<String, BTreeMap<String, u64>>;

fn write_in_parallel(path: &str, values: &[String], writers: u32, rounds: u32) -> Result<()> {
    let counts: Counts = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..writers).map(|n| scope.spawn(move || write_rounds(path, values, n, rounds))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).fold(Counts::new(), merge)
    });
    println!("{}", context(serde_json::to_string(&counts), "counts")?);
    Ok(())
}

fn merge(mut all: Counts, (value, outcomes): (String, BTreeMap<String, u64>)) -> Counts {
    let entry = all.entry(value).or_default();
    for (outcome, count) in outcomes {
        *entry.entry(outcome).or_default() += count;
    }
    all
}

/// Writer `n` starts at value `n`, so that different values are written at the same time.
fn write_rounds(path: &str, values: &[String], n: u32, rounds: u32) -> Counts {
    let mut counts = Counts::new();
    let turns = values.len() * rounds as usize;
    for value in values.iter().cycle().skip(n as usize % values.len().max(1)).take(turns) {
        let outcome = match OpenOptions::new().write(true).open(path).and_then(|mut file| file.write(value.as_bytes()))
        {
            Ok(_) => "ok".to_owned(),
            Err(err) => err.raw_os_error().unwrap_or_default().to_string(),
        };
        *counts.entry(value.clone()).or_default().entry(outcome).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_write_is_counted() {
        let dir = std::env::temp_dir().join(format!("writers-{}", std::process::id()));
        std::fs::write(&dir, "").unwrap();
        let path = dir.to_string_lossy();
        let counts = write_rounds(&path, &["a".to_owned(), "b".to_owned()], 1, 3);
        assert_eq!(counts["a"]["ok"] + counts["b"]["ok"], 6);
        std::fs::remove_file(&dir).unwrap();
        let counts = write_rounds(&path, &["a".to_owned()], 0, 2);
        assert_eq!(counts["a"]["2"], 2, "ENOENT is counted under its number");
    }

    #[test]
    fn available_memory_is_read() {
        assert!(available_memory().unwrap() > 0);
    }
}

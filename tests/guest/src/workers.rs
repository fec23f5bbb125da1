//! Background processes of a test: memory pressure, users of huge pages, competing writers.

use crate::protocol::Worker;
use crate::{Result, context};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::time::{Duration, Instant};

const CHUNK: usize = 4 << 20;
const PAGE: usize = 4096;

/// Runs one worker to its end and prints its result.
///
/// # Errors
/// What it could not open, map or read.
pub fn run(worker: &Worker) -> Result<()> {
    match worker {
        Worker::Hog { leave, readers, file, length, seconds } => hog(*leave, *readers, file, *length, *seconds),
        Worker::HugePages { mount, bytes, touch, seconds } => huge_pages(mount, *bytes, *touch, *seconds),
        Worker::Writers { path, values, writers, rounds } => write_in_parallel(path, values, *writers, *rounds),
    }
}

fn hog(leave: u64, readers: u32, file: &str, length: u64, seconds: u64) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(seconds);
    std::thread::scope(|scope| {
        let streams: Vec<_> = (0..readers).map(|_| scope.spawn(|| stream(file, length, end))).collect();
        hold_memory(leave, end)?;
        streams.into_iter().try_for_each(|stream| stream.join().map_err(|_| "a reader panicked".to_owned())?)
    })
}

/// Keeps MemAvailable near `leave`: takes a chunk while there is more, gives one back when half of it is gone.
fn hold_memory(leave: u64, end: Instant) -> Result<()> {
    let mut held: Vec<Vec<u8>> = Vec::new();
    let mut turn = 0;
    while Instant::now() < end {
        let available = available_memory()?;
        if available > leave {
            held.push(touched(CHUNK));
        } else if available < leave / 2 {
            held.pop();
        } else {
            std::thread::sleep(Duration::from_millis(50));
        }
        // A page that nobody touches is not contended for.
        turn += 1;
        let count = held.len().max(1);
        if let Some(chunk) = held.get_mut(turn % count) {
            chunk.iter_mut().step_by(PAGE).for_each(|byte| *byte = byte.wrapping_add(1));
        }
    }
    println!("{{\"held\": {}}}", held.len() * CHUNK);
    Ok(())
}

fn touched(size: usize) -> Vec<u8> {
    let mut chunk = vec![0_u8; size];
    chunk.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    std::hint::black_box(chunk)
}

fn available_memory() -> Result<u64> {
    let text = context(std::fs::read_to_string("/proc/meminfo"), "/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| "no MemAvailable in /proc/meminfo".to_owned())
}

/// Reads the first `length` bytes of `file` again and again until `end`.
fn stream(file: &str, length: u64, end: Instant) -> Result<()> {
    let mut buffer = vec![0_u8; 1 << 20];
    let mut input = context(File::open(file), file)?;
    let mut at = 0;
    while Instant::now() < end {
        let count = context(input.read(&mut buffer), file)?;
        at += count as u64;
        if count == 0 || at >= length {
            context(input.rewind(), file)?;
            at = 0;
        }
    }
    Ok(())
}

fn huge_pages(mount: &str, bytes: u64, touch: bool, seconds: u64) -> Result<()> {
    let path = format!("{mount}/worker-{}", std::process::id());
    let file = context(OpenOptions::new().read(true).write(true).create_new(true).open(&path), &path)?;
    // The mapping keeps the file; without a name it is gone when this process ends, however it ends.
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

/// Writer `n` begins at value `n`, so that different values meet.
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
    fn memory_is_known() {
        assert!(available_memory().unwrap() > 0);
    }
}

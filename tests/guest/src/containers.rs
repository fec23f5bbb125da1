//! What the containers of tests with Kubernetes do. Each prints its result; a failed system call is a result, printed as `errno N`.

use crate::protocol::{Sample, Worker};
use crate::{Result, context, workers};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::Duration;

/// Bytes between two words of the pattern in huge pages.
const STEP: usize = 4096;
/// Bytes that are written at once.
const BLOCK: usize = 1 << 20;
/// Entries of an io_uring: any power of two.
const ENTRIES: u32 = 8;

/// Sleeps until it is killed: the first process of a pod, which keeps its namespaces.
pub fn pause() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Prints the CPUs that the container may use.
pub fn cpus() -> Result<()> {
    println!("cpus {}", status("Cpus_allowed_list")?);
    Ok(())
}

/// Maps `bytes` of huge pages and writes to them: anonymous, or in a file of the hugetlbfs at `mount`.
pub fn huge_pages(bytes: usize, mount: Option<&str>) -> Result<()> {
    let file = mount.map(|mount| {
        let path = format!("{mount}/pages");
        context(OpenOptions::new().read(true).write(true).create_new(true).open(&path), &path)
    });
    let mapped = HugePages::map(bytes, file.transpose()?.as_ref()).map(|pages| pages.fill());
    report("mapped", mapped);
    Ok(())
}

/// Makes an io_uring.
pub fn io_uring() -> Result<()> {
    println!("seccomp {}", status("Seccomp")?);
    let mut parameters = rustix::io_uring::io_uring_params::default();
    // SAFETY: the kernel reads and writes `parameters` only. The descriptor is closed unused.
    let ring = unsafe { rustix::io_uring::io_uring_setup(ENTRIES, &mut parameters) };
    report("ring", ring);
    Ok(())
}

/// Maps `bytes` of huge pages, and prints a [`Sample`] once a second for as long as their content stays.
pub fn hold(bytes: usize) -> Result<()> {
    cpus()?;
    let pages = context(HugePages::map(bytes, None), "huge pages")?;
    pages.fill();
    while pages.are_intact() {
        println!("{}", context(serde_json::to_string(&sample()?), "sample")?);
        std::thread::sleep(Duration::from_secs(1));
    }
    Err("the content of the huge pages has changed".to_owned())
}

/// Makes memory pressure for so many seconds, see [`Worker::Hog`]; writes the file at `path` first, `length` bytes.
pub fn pressure(leave: u64, seconds: u64, path: &str, length: usize) -> Result<()> {
    let mut file = context(File::create(path), path)?;
    let block = vec![1_u8; BLOCK];
    for _ in 0..length.div_ceil(BLOCK) {
        context(file.write_all(&block), path)?;
    }
    // Pages that are not on the disk could not be dropped.
    context(file.sync_all(), path)?;
    let length = u64::try_from(length).map_err(|err| err.to_string())?;
    workers::run(&Worker::Hog { leave, readers: 4, file: path.to_owned(), length, seconds })
}

fn report<T>(what: &str, result: rustix::io::Result<T>) {
    match result.map_err(Errno::raw_os_error) {
        Ok(_) => println!("{what}"),
        Err(number) => println!("errno {number}"),
    }
}

/// Huge pages of the default size, never unmapped in this process.
struct HugePages {
    base: *mut u8,
    length: usize,
}

impl HugePages {
    fn map(length: usize, file: Option<&File>) -> rustix::io::Result<Self> {
        let (address, protection) = (std::ptr::null_mut(), ProtFlags::READ | ProtFlags::WRITE);
        let base = match file {
            // SAFETY: a new mapping at an address of the kernel's choice.
            Some(file) => unsafe { mmap(address, length, protection, MapFlags::SHARED, file, 0) },
            // SAFETY: a new mapping at an address of the kernel's choice.
            None => unsafe { mmap_anonymous(address, length, protection, MapFlags::PRIVATE | MapFlags::HUGETLB) },
        };
        Ok(Self { base: base?.cast(), length })
    }

    /// The words of the pattern, and the number that each has.
    fn words(&self) -> impl Iterator<Item = (*mut usize, usize)> {
        let base = self.base;
        // SAFETY: the offsets are inside the mapping.
        (0..self.length).step_by(STEP).map(move |at| (unsafe { base.add(at) }.cast(), at + 1))
    }

    fn fill(&self) {
        for (word, number) in self.words() {
            // SAFETY: an aligned word in the mapping, which is writable and used by nothing else.
            unsafe { word.write_volatile(number) };
        }
    }

    fn are_intact(&self) -> bool {
        // SAFETY: an aligned word in the mapping, which is readable.
        self.words().all(|(word, number)| unsafe { word.read_volatile() } == number)
    }
}

/// Reads the node's pool and controller, which every container sees.
fn sample() -> Result<Sample> {
    let meminfo = context(std::fs::read_to_string("/proc/meminfo"), "/proc/meminfo")?;
    let pages = |name: &str| number(name, field(&meminfo, name).unwrap_or_default());
    let setting = |name: &str| -> Result<String> {
        let path = format!("/proc/sys/solana/{name}");
        Ok(context(std::fs::read_to_string(&path), path)?.trim().to_owned())
    };
    Ok(Sample {
        total: pages("HugePages_Total")?,
        free: pages("HugePages_Free")?,
        shrinks: number("shrinks_total", &setting("shrinks_total")?)?,
        pressure: setting("memory_pressure")?,
    })
}

fn number(name: &str, text: &str) -> Result<u64> {
    context(text.parse(), format!("{name} is {text:?}"))
}

/// A field of this process.
fn status(name: &str) -> Result<String> {
    let text = context(std::fs::read_to_string("/proc/self/status"), "/proc/self/status")?;
    field(&text, name).map(str::to_owned).ok_or_else(|| format!("no {name} in /proc/self/status"))
}

/// The value in a line `name: value` of a file in `/proc`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "Cpus_allowed:\t7\nCpus_allowed_list:\t0-2\nSeccomp:\t2\n";
        assert_eq!(field(text, "Cpus_allowed_list"), Some("0-2"));
        assert_eq!(field(text, "Seccomp"), Some("2"));
        assert_eq!(field(text, "Sec"), None);
        assert!(!status("Cpus_allowed_list").unwrap().is_empty());
    }

    #[test]
    fn the_pattern_shows_a_lost_page() {
        let mut memory = vec![0_usize; 4 * STEP / size_of::<usize>()];
        let pages = HugePages { base: memory.as_mut_ptr().cast(), length: 4 * STEP };
        pages.fill();
        assert!(pages.are_intact());
        memory[2 * STEP / size_of::<usize>()] = 0;
        assert!(!pages.are_intact());
    }
}

//! Downloads pinned files into the store with apt's downloader, which follows the host's apt configuration (proxy and its detection,
//! logins in `auth.conf`, `file:` mirrors); our registry client does not.
//!
//! A file is downloaded next to the store and stored when its digest matches; interrupted downloads are resumed.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use common::event::{Event, Sink};
use common::store::Store;
use common::text::count;
use common::{Class, Error, Result, Sha256, process};

use crate::archives::archives;

/// apt's downloader; mmdebstrap depends on apt, so it is available wherever a toolchain can be made.
const APT_HELPER: &str = "/usr/lib/apt/apt-helper";
/// Files per run: enough to reuse connections, few enough to report progress.
const BATCH: usize = 24;

/// Origin of a pinned file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Path in a Debian archive, such as `pool/updates/main/l/linux/linux-source-6.12_6.12.117-1_all.deb`.
    DebianPool(String),
    /// Any other URL.
    Url(String),
}

/// A pinned file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Name for messages.
    pub name: String,
    /// Its digest.
    pub sha256: Sha256,
    /// Its origin.
    pub origin: Origin,
}

/// Brings pinned files into the store.
#[derive(Clone, Copy)]
pub struct Fetcher<'a> {
    store: &'a Store,
    partial: &'a Path,
    archives: Archives<'a>,
    offline: bool,
    sink: &'a dyn Sink,
}

/// The archives, read from the list and mmdebstrap only if something has to be downloaded.
#[derive(Clone, Copy, Debug)]
pub struct Archives<'a> {
    file: &'a Path,
    known: &'a OnceCell<Vec<String>>,
}

impl<'a> Archives<'a> {
    /// Returns the archives in `file`; `known` caches them.
    #[must_use]
    pub fn new(file: &'a Path, known: &'a OnceCell<Vec<String>>) -> Self {
        Self { file, known }
    }

    fn get(&self) -> Result<&'a [String]> {
        if let Some(known) = self.known.get() {
            return Ok(known);
        }
        let found = archives(self.file)?;
        Ok(self.known.get_or_init(|| found))
    }
}

impl std::fmt::Debug for Fetcher<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("store", &self.store).field("offline", &self.offline).finish_non_exhaustive()
    }
}

impl<'a> Fetcher<'a> {
    /// Returns a fetcher into `store` with partial downloads in `partial`; with `offline` it downloads nothing.
    #[must_use]
    pub fn new(store: &'a Store, partial: &'a Path, archives: Archives<'a>, offline: bool, sink: &'a dyn Sink) -> Self {
        Self { store, partial, archives, offline, sink }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &'a Store {
        self.store
    }

    /// Whether downloads are forbidden.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    /// Starts to report the download of `all` files; `what` says what they are.
    pub(crate) fn progress(&self, what: &'static str, all: usize) -> Progress<'a> {
        Progress { sink: self.sink, what, done: 0, all, bytes: None, start: Instant::now() }
    }

    /// Fetches one file and returns its path in the store; see [`Fetcher::fetch`].
    pub fn one(&self, wanted: &Wanted) -> Result<PathBuf> {
        self.fetch(std::slice::from_ref(wanted))?;
        Ok(self.store.path(&wanted.sha256))
    }

    /// Downloads the files that are neither in the store nor in a mirror, and returns their number.
    ///
    /// # Errors
    /// [`Class::Verification`] for a digest mismatch, [`Class::Infrastructure`] if no origin can be reached, or with `--offline`.
    pub fn fetch(&self, wanted: &[Wanted]) -> Result<usize> {
        let mut missing = Vec::new();
        for file in wanted {
            if self.store.find(&file.sha256)?.is_none() {
                missing.push(file);
            }
        }
        if missing.is_empty() {
            return Ok(0);
        }
        if self.offline {
            return Err(offline(missing.iter().map(|file| file.name.as_str())));
        }
        fs_err::create_dir_all(self.partial)?;
        let mut progress = self.progress("files", missing.len());
        let (all, mut output) = (missing.len(), String::new());
        for batch in missing.chunks(BATCH) {
            let mut left = batch.to_vec();
            for round in 0.. {
                let sources: Vec<_> = left.iter().filter_map(|file| self.address(file, round).transpose()).collect();
                if left.is_empty() || sources.is_empty() {
                    break;
                }
                let addresses = sources.into_iter().collect::<Result<Vec<_>>>()?;
                let tail = self.download(&left, &addresses)?;
                left = self.store_finished(left, &mut progress)?;
                if !left.is_empty() {
                    output = tail;
                }
            }
            if !left.is_empty() {
                return Err(self.failure(&left, &output));
            }
        }
        Ok(all)
    }

    /// Returns the URL to try in that round, from 0; `None` after the last one.
    fn address(&self, file: &Wanted, round: usize) -> Result<Option<String>> {
        match &file.origin {
            Origin::Url(url) => Ok((round == 0).then(|| url.clone())),
            Origin::DebianPool(path) => {
                let mut sites: Vec<_> = self.archives.get()?.iter().collect();
                // Only the security archive has `pool/updates`; trying it first saves a request per file.
                sites.sort_by_key(|site| site.contains("security") != path.starts_with("pool/updates/"));
                Ok(sites.get(round).map(|site| format!("{site}/{path}")))
            }
        }
    }

    fn part(&self, file: &Wanted) -> PathBuf {
        self.partial.join(file.sha256.to_string())
    }

    /// Runs apt's downloader once and returns the tail of its output. Failed files are missing afterwards.
    fn download(&self, files: &[&Wanted], addresses: &[String]) -> Result<String> {
        let lists = tempfile::tempdir()?;
        let mut command = Command::new(APT_HELPER);
        command.args(["-o", &format!("Dir::State::lists={}", lists.path().display())]);
        command.args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=1", "download-file"]).env("LC_ALL", "C");
        for (file, address) in files.iter().zip(addresses) {
            command.arg(address).arg(self.part(file)).arg(format!("SHA256:{}", file.sha256));
        }
        let mut line = |line: &str| self.sink.emit(&Event::Output { stage: "fetch", line });
        Ok(process::stream(command, &mut line).map_err(|e| crate::missing(APT_HELPER, "apt", &e))?.tail)
    }

    /// Stores complete downloads and returns the other files.
    fn store_finished<'w>(&self, files: Vec<&'w Wanted>, progress: &mut Progress<'_>) -> Result<Vec<&'w Wanted>> {
        let mut left = Vec::new();
        for file in files {
            let part = self.part(file);
            // apt keeps incomplete files, so a digest mismatch may only mean that the download must be resumed.
            if Sha256::of_file(&part).is_ok_and(|digest| digest == file.sha256) {
                self.store.insert(&part, &file.sha256)?;
                progress.add(part.metadata().ok().map(|meta| meta.len()));
                fs_err::remove_file(&part)?;
            } else {
                left.push(file);
            }
        }
        Ok(left)
    }

    fn failure(&self, left: &[&Wanted], output: &str) -> Error {
        let mismatch = output.contains("Hash Sum mismatch");
        for file in left.iter().filter(|_| mismatch) {
            // Otherwise the next run would resume the corrupt file.
            let _ = std::fs::remove_file(self.part(file));
        }
        let (class, what) = if mismatch {
            (Class::Verification, "digest mismatch for a downloaded pinned file")
        } else {
            (Class::Infrastructure, "cannot download a pinned file")
        };
        let names = left.iter().map(|file| format!("{} (sha256 {})", file.name, file.sha256)).collect::<Vec<_>>();
        Error::new(class, what).why(format!("{}\n{output}", names.join("\n"))).hint(
            "without network: `solana-talos bundle load`, or --mirror DIR with a directory of files named by their SHA-256; \
             for a package that Debian's archive has dropped, add a snapshot archive to crates/toolchain/archives.list",
        )
    }
}

/// Returns the error for missing inputs with `--offline`.
pub fn offline<'n>(names: impl Iterator<Item = &'n str>) -> Error {
    let names: Vec<_> = names.collect();
    let more = names.len().saturating_sub(5);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    Error::new(Class::Infrastructure, "offline: inputs are missing in the store")
        .why(format!("{}: {}{more}", count(names.len(), "input"), names[..names.len().min(5)].join(", ")))
        .hint("run `solana-talos fetch` and `bundle create` on a machine with network, then `bundle load` here; or use --mirror DIR")
}

/// Reports a download of several files.
pub(crate) struct Progress<'a> {
    sink: &'a dyn Sink,
    what: &'static str,
    done: usize,
    all: usize,
    bytes: Option<u64>,
    start: Instant,
}

impl Progress<'_> {
    /// Reports one more file, of `bytes` if that is known.
    pub fn add(&mut self, bytes: Option<u64>) {
        self.done += 1;
        self.bytes = bytes.map(|bytes| self.bytes.unwrap_or(0) + bytes);
        self.sink.emit(&Event::Files {
            stage: "fetch",
            what: self.what,
            done: self.done as u64,
            total: self.all as u64,
            bytes: self.bytes,
            elapsed: self.start.elapsed(),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    use common::event::Silent;

    use super::*;

    /// A fetcher whose only archive is the directory `dir/archive`.
    fn with_archive(dir: &Path, offline: bool, test: impl FnOnce(&Fetcher<'_>)) {
        std::fs::create_dir_all(dir.join("archive/pool")).unwrap();
        let list = dir.join("archives.list");
        std::fs::write(&list, format!("file:{}\n", dir.join("archive").display())).unwrap();
        let (store, known) = (Store::new(dir.join("store"), vec![dir.to_owned()]), OnceCell::new());
        test(&Fetcher::new(&store, &dir.join("partial"), Archives::new(&list, &known), offline, &Silent));
    }

    fn wanted(content: &str) -> Wanted {
        let origin = Origin::DebianPool(format!("pool/{content}.deb"));
        Wanted { name: content.to_owned(), sha256: Sha256::of(content), origin }
    }

    fn has_apt() -> bool {
        let exists = Path::new(APT_HELPER).exists();
        if !exists {
            skip::skipped(format!("this machine has no {APT_HELPER}; install apt"));
        }
        exists
    }

    /// Serves `content` on loopback, in the first response only `cut` bytes of it. Returns the URL and the requested ranges.
    fn serve(content: Vec<u8>, cut: usize) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/file", listener.local_addr().unwrap());
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let requested = Arc::clone(&ranges);
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let head = BufReader::new(&stream).lines().map_while(|line| line.ok().filter(|line| !line.is_empty()));
                let range = head.filter_map(|line| line.strip_prefix("Range: bytes=").map(str::to_owned)).last();
                let from = range.as_ref().map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
                requested.lock().unwrap().extend(range);
                let (all, last) = (content.len(), content.len() - 1);
                let status = if from > 0 {
                    format!("206 Partial Content\r\nContent-Range: bytes {from}-{last}/{all}")
                } else {
                    "200 OK".to_owned()
                };
                let headers = format!(
                    "Content-Length: {}\r\nLast-Modified: Sat, 01 Jan 2000 00:00:00 GMT\r\nConnection: close",
                    all - from
                );
                let to = if number == 0 { cut } else { all };
                stream.write_all(format!("HTTP/1.1 {status}\r\n{headers}\r\n\r\n").as_bytes()).unwrap();
                stream.write_all(&content[from..to]).unwrap();
            }
        });
        (address, ranges)
    }

    #[test]
    fn an_interrupted_download_is_resumed() {
        if !has_apt() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        let (address, ranges) = serve(content.clone(), 100_000);
        let file = Wanted { name: "file".to_owned(), sha256: Sha256::of(&content), origin: Origin::Url(address) };
        with_archive(dir.path(), false, |fetcher| {
            // apt itself may have retried already.
            let path = fetcher.one(&file).or_else(|_| fetcher.one(&file)).unwrap();
            assert_eq!(std::fs::read(path).unwrap(), content);
        });
        assert_eq!(*ranges.lock().unwrap(), ["100000-"]);
    }

    #[test]
    fn a_file_in_a_mirror_needs_no_network() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(Sha256::of("x").to_string()), "x").unwrap();
        with_archive(dir.path(), true, |fetcher| {
            assert_eq!(fetcher.fetch(&[wanted("x")]).unwrap(), 0);
            let error = fetcher.fetch(&[wanted("x"), wanted("y"), wanted("z")]).unwrap_err();
            assert_eq!(error.class(), Class::Infrastructure);
            assert!(error.to_string().contains("2 inputs: y, z\n"), "{error}");
            assert!(error.to_string().contains("bundle load"), "{error}");
        });
    }

    #[test]
    fn only_the_pinned_file_is_taken_from_an_archive() {
        if !has_apt() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        with_archive(dir.path(), false, |fetcher| {
            let pool = dir.path().join("archive/pool");
            std::fs::write(pool.join("a.deb"), "a").unwrap();
            std::fs::write(pool.join("b.deb"), "not b").unwrap();
            assert_eq!(fetcher.fetch(&[wanted("a")]).unwrap(), 1);
            assert_eq!(std::fs::read(fetcher.store().path(&Sha256::of("a"))).unwrap(), b"a");
            let error = fetcher.fetch(&[wanted("a"), wanted("b")]).unwrap_err();
            assert_eq!(error.class(), Class::Verification, "{error}");
            assert!(error.to_string().contains("b (sha256 "), "{error}");
            let error = fetcher.fetch(&[wanted("c")]).unwrap_err();
            assert_eq!(error.class(), Class::Infrastructure, "{error}");
            assert!(error.to_string().contains("archives.list"), "{error}");
            assert!(!fetcher.store().path(&Sha256::of("b")).exists());
        });
    }
}

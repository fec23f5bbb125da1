//! One blob from a registry, hashed while it streams, resumed where it broke off (distribution-spec, "Pulling blobs"; RFC 9110, section 14).

use std::io::Read as _;

use common::digest::Hasher;
use common::{Class, Error, Result};
use oci::types::{Descriptor, Named as _};

use crate::client::{Access, Client, Stop, is_passing};
use crate::http::{Request, Response};
use crate::transfer::Meter;

/// Where the bytes go.
pub(crate) trait Target {
    /// Takes the next bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
    /// Forgets all bytes.
    fn restart(&mut self) -> Result<()>;
}

/// Only the digest matters.
pub(crate) struct Nowhere;

impl Target for Nowhere {
    fn write(&mut self, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Fetches `blob` into `target`, which has `at` bytes already, whose state is in `hasher`.
pub(crate) fn download(
    client: &Client<'_>,
    access: &Access<'_>,
    blob: &Descriptor,
    (at, hasher): (u64, Hasher),
    target: &mut dyn Target,
    meter: &Meter<'_>,
) -> Result<()> {
    let what = format!("cannot pull the blob {} of {}", blob.digest(), access.repository);
    meter.add(at);
    let (failures, best, doubted) = (0, at, false);
    Download { client, access, blob, at, hasher, target, meter, what, failures, best, doubted }.run()
}

struct Download<'a> {
    client: &'a Client<'a>,
    access: &'a Access<'a>,
    blob: &'a Descriptor,
    at: u64,
    hasher: Hasher,
    target: &'a mut dyn Target,
    meter: &'a Meter<'a>,
    what: String,
    /// Failures since the download last came further than ever.
    failures: u32,
    /// Furthest that it came: a blob that the registry has only the beginning of would else be fetched for ever.
    best: u64,
    /// Whether a whole blob with a wrong digest has been thrown away once.
    doubted: bool,
}

impl Download<'_> {
    fn run(&mut self) -> Result<()> {
        loop {
            while self.at < self.blob.size() {
                self.stretch()?;
            }
            let (digest, _) = self.hasher.clone().finish();
            if self.blob.is(digest) {
                return Ok(());
            }
            let error = self.wrong(format!("its sha256 is {digest}"));
            // What was resumed may have been spoilt before, and so may a proxy's copy; twice the same is no accident.
            if self.doubted {
                return Err(error);
            }
            (self.doubted, self.failures, self.best) = (true, 0, 0);
            self.restart()?;
            if self.blob.size() == 0 {
                return Err(error);
            }
        }
    }

    /// One request, as far as it gets.
    fn stretch(&mut self) -> Result<()> {
        let url = self.client.url(self.access.repository, &format!("blobs/{}", self.blob.digest()))?;
        let mut request = Request::new("GET", url);
        if self.at > 0 {
            request.headers.push(("range", format!("bytes={}-{}", self.at, self.blob.size() - 1)));
        }
        let mut answer = match self.client.attempt(self.access, &request) {
            Ok(answer) => answer,
            Err(Stop::Lasting(error)) => return Err(error),
            Err(Stop::Passing(why)) => return self.missed(&why),
        };
        match answer.status.as_u16() {
            206 if self.at > 0 && answer.header("content-range").and_then(start) == Some(self.at) => {
                self.stream(&mut answer)
            }
            200 => {
                if self.at > 0 {
                    self.restart()?;
                }
                self.stream(&mut answer)
            }
            206 | 416 if self.at > 0 => {
                self.restart()?;
                self.missed("it does not continue where it was asked to")
            }
            status if is_passing(status) => {
                let (error, asked) = self.client.passing(&self.what, self.access, &mut answer);
                let Some(asked) = asked else { return Err(error) };
                self.failures += 1;
                self.client.pause(self.failures, &self.what, (error, asked))
            }
            _ => Err(self.client.refused(&self.what, self.access, &mut answer)),
        }
    }

    fn stream(&mut self, answer: &mut Response) -> Result<()> {
        let declared = answer.header("content-length").and_then(|length| length.parse::<u64>().ok());
        if let Some(end) = declared.map(|length| self.at.saturating_add(length)) {
            // An answer to a range may be shorter than what was asked for, a whole blob may not.
            if end > self.blob.size() || (answer.status == 200 && end < self.blob.size()) {
                return Err(self.wrong(format!("the registry has {end} bytes, {} are expected", self.blob.size())));
            }
        }
        let mut buffer = vec![0; 1 << 16];
        let mut reader = answer.reader();
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) => return self.missed(&e.to_string()),
            };
            if self.at + read as u64 > self.blob.size() {
                return Err(
                    self.wrong(format!("the registry gives more than the {} bytes it should have", self.blob.size()))
                );
            }
            self.target.write(&buffer[..read])?;
            self.hasher.update(&buffer[..read]);
            self.count(read as u64);
        }
        if self.at < self.blob.size() { self.missed("the answer ended in the middle") } else { Ok(()) }
    }

    fn count(&mut self, read: u64) {
        self.at += read;
        self.meter.add(read);
        if self.at > self.best {
            self.best = self.at;
            self.failures = 0;
        }
    }

    fn missed(&mut self, why: &str) -> Result<()> {
        self.failures += 1;
        let error = self.client.unreachable(&self.what, self.access, why);
        self.client.pause(self.failures, &self.what, (error, None))
    }

    fn restart(&mut self) -> Result<()> {
        self.meter.take_back(self.at);
        self.at = 0;
        self.hasher = Hasher::default();
        self.target.restart()
    }

    fn wrong(&self, why: String) -> Error {
        let what = format!("the blob {} of {} is not what its name says", self.blob.digest(), self.access.repository);
        Error::new(Class::Verification, what)
            .why(why)
            .hint("the registry, or something on the way, has other bytes: push the image again")
    }
}

/// First byte of a `Content-Range`.
fn start(range: &str) -> Option<u64> {
    range.trim().strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_content_ranges() {
        assert_eq!(start("bytes 5-9/10"), Some(5));
        assert_eq!(start("bytes */10"), None);
        assert_eq!(start("5-9/10"), None);
    }
}

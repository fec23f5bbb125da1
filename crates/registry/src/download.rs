//! Downloads one blob: hashes the stream and resumes interrupted transfers (distribution-spec, "Pulling blobs"; RFC 9110, section 14).

use std::io::Read as _;

use common::digest::Hasher;
use common::{Class, Error, Result, Sha256};
use oci::types::{DOCUMENT_LIMIT, Descriptor, Named as _};

use crate::client::{Access, AttemptError, Client, is_transient};
use crate::http::{Request, Response};
use crate::transfer::Meter;

/// Destination of a download.
pub(crate) trait Target {
    /// Appends `bytes`.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
    /// Discards all bytes.
    fn restart(&mut self) -> Result<()>;
}

/// Discards the bytes: the download only checks the digest.
pub(crate) struct Discard;

impl Target for Discard {
    fn write(&mut self, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Fetches `blob` into `target`, which already has `at` bytes with the hash state `hasher`.
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
    let (failures, best, restarted) = (0, at, false);
    Download { client, access, blob, at, hasher, target, meter, what, failures, best, restarted }.run()
}

/// Fetches a small document, such as an image config, into memory.
pub(crate) fn small(client: &Client<'_>, access: &Access<'_>, blob: &Descriptor) -> Result<Vec<u8>> {
    let what = format!("cannot pull the blob {} of {}", blob.digest(), access.repository);
    let request = Request::new("GET", client.url(access.repository, &format!("blobs/{}", blob.digest()))?);
    let (mut answer, bytes) = client.fetch(&what, access, &request, DOCUMENT_LIMIT)?;
    if answer.status.as_u16() != 200 {
        return Err(client.refused(&what, access, &mut answer));
    }
    let digest = Sha256::of(&bytes);
    if !blob.is(digest) {
        return Err(Error::new(Class::Verification, what).why(format!("digest mismatch: got {}", digest.oci())));
    }
    Ok(bytes)
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
    /// Failures since the last progress.
    failures: u32,
    /// Largest offset so far. Only progress beyond it resets `failures`, or a truncated blob would be retried for ever.
    best: u64,
    /// Whether a digest mismatch has already restarted the download.
    restarted: bool,
}

impl Download<'_> {
    fn run(&mut self) -> Result<()> {
        loop {
            while self.at < self.blob.size() {
                self.request()?;
            }
            let (digest, _) = self.hasher.clone().finish();
            if self.blob.is(digest) {
                return Ok(());
            }
            // A resumed part or the cache of a proxy may have been corrupt: retry once from the beginning.
            if self.restarted || self.blob.size() == 0 {
                return Err(self.mismatch(format!("its sha256 is {digest}")));
            }
            (self.restarted, self.failures, self.best) = (true, 0, 0);
            self.restart()?;
        }
    }

    /// Sends one request and reads as much of the blob as it returns.
    fn request(&mut self) -> Result<()> {
        let url = self.client.url(self.access.repository, &format!("blobs/{}", self.blob.digest()))?;
        let mut request = Request::new("GET", url);
        if self.at > 0 {
            request.headers.push(("range", format!("bytes={}-{}", self.at, self.blob.size() - 1)));
        }
        let mut answer = match self.client.attempt(self.access, &request) {
            Ok(answer) => answer,
            Err(AttemptError::Permanent(error)) => return Err(error),
            Err(AttemptError::Transient(why)) => return self.interrupted(&why),
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
                self.interrupted("the response does not start at the requested offset")
            }
            status if is_transient(status) => {
                let retry = self.client.transient_error(&self.what, self.access, &mut answer)?;
                self.failures += 1;
                self.client.pause(self.failures, &self.what, retry)
            }
            _ => Err(self.client.refused(&self.what, self.access, &mut answer)),
        }
    }

    fn stream(&mut self, answer: &mut Response) -> Result<()> {
        let declared = answer.header("content-length").and_then(|length| length.parse::<u64>().ok());
        if let Some(end) = declared.map(|length| self.at.saturating_add(length)) {
            // A range response may be shorter than requested, a full one may not.
            if end > self.blob.size() || (answer.status == 200 && end < self.blob.size()) {
                return Err(self.mismatch(format!("got {end} bytes, expected {}", self.blob.size())));
            }
        }
        let mut buffer = vec![0; 1 << 16];
        let mut reader = answer.reader();
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) => return self.interrupted(&e.to_string()),
            };
            if self.at + read as u64 > self.blob.size() {
                return Err(self.mismatch(format!("got more than the expected {} bytes", self.blob.size())));
            }
            self.target.write(&buffer[..read])?;
            self.hasher.update(&buffer[..read]);
            self.count(read as u64);
        }
        if self.at < self.blob.size() { self.interrupted("the response is truncated") } else { Ok(()) }
    }

    fn count(&mut self, read: u64) {
        self.at += read;
        self.meter.add(read);
        if self.at > self.best {
            self.best = self.at;
            self.failures = 0;
        }
    }

    fn interrupted(&mut self, why: &str) -> Result<()> {
        self.failures += 1;
        let error = self.client.unreachable(&self.what, self.access, why);
        self.client.pause(self.failures, &self.what, (error, None))
    }

    fn restart(&mut self) -> Result<()> {
        self.meter.subtract(self.at);
        self.at = 0;
        self.hasher = Hasher::default();
        self.target.restart()
    }

    fn mismatch(&self, why: String) -> Error {
        let what = format!("digest mismatch for the blob {} of {}", self.blob.digest(), self.access.repository);
        Error::new(Class::Verification, what)
            .why(why)
            .hint("the registry or a proxy changed the blob: push the image again")
    }
}

/// Returns the first byte of a `Content-Range`.
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

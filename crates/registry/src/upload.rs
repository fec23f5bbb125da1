//! Uploads one blob (distribution-spec, "Pushing blobs"): skips it if the repository has it, mounts it if another repository has it, else sends
//! it in chunks. After a transient error it queries the offset and resumes there.
//!
//! Deviations from the specification that are handled: GHCR rejects a PATCH above 4 MiB with 416; ECR answers 201 to a PATCH and drops
//! every one after the first (aws/containers-roadmap 2831), visible in its `Range`; docker-registry 2 drops an upload session whose last
//! PATCH was cut off. The first two get the blob in one PUT, the third from the beginning.

use std::fs::File;

use common::{Class, Error, Result};
use oci::types::Descriptor;

use crate::client::{Access, AttemptError, Client, Retry, is_transient};
use crate::http::{Body, Request, Response};
use crate::transfer::Meter;
use crate::url::Url;

/// How a blob got into the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It was there before.
    Exists,
    /// From another repository of the registry.
    Mounted,
    Uploaded,
}

/// Uploads `blob` from `file`, or mounts it from the repository `from` of the same registry.
pub(crate) fn upload(
    client: &Client<'_>,
    access: &Access<'_>,
    blob: &Descriptor,
    file: &File,
    from: Option<&str>,
    meter: &Meter<'_>,
) -> Result<Sent> {
    let what = format!("cannot push the blob {} to {}", blob.digest(), access.repository);
    let mut upload = Upload { client, access, blob, file, meter, what, failures: 0, counted: 0, best: 0 };
    let sent = upload.run(from)?;
    if sent != Sent::Uploaded {
        meter.add(blob.size());
    }
    Ok(sent)
}

struct Upload<'a> {
    client: &'a Client<'a>,
    access: &'a Access<'a>,
    blob: &'a Descriptor,
    file: &'a File,
    meter: &'a Meter<'a>,
    what: String,
    /// Failures since the last progress.
    failures: u32,
    /// Bytes of this blob in the meter.
    counted: u64,
    /// Largest offset of any session.
    best: u64,
}

/// How an upload session ended.
enum SessionEnd {
    Done,
    /// The registry dropped it.
    Gone,
    /// The registry does not support our chunks.
    Unchunked,
}

/// State of a session after a request.
enum Step {
    /// URL of the next request, and the number of bytes received.
    At(Url, u64),
    End(SessionEnd),
}

impl Upload<'_> {
    fn run(&mut self, from: Option<&str>) -> Result<Sent> {
        if self.exists()? {
            return Ok(Sent::Exists);
        }
        let mut whole = self.blob.size() <= self.client.options.chunk;
        let mut from = from;
        loop {
            let Some((session, chunk)) = self.open(from.take())? else { return Ok(Sent::Mounted) };
            match self.fill(session, chunk, whole)? {
                SessionEnd::Done => return Ok(Sent::Uploaded),
                SessionEnd::Gone => {}
                SessionEnd::Unchunked => whole = true,
            }
        }
    }

    fn exists(&self) -> Result<bool> {
        let url = self.client.url(self.access.repository, &format!("blobs/{}", self.blob.digest()))?;
        let mut answer = self.client.send(&self.what, self.access, &Request::new("HEAD", url))?;
        match answer.status.as_u16() {
            200 => {
                let length = answer.header("content-length").and_then(|length| length.parse::<u64>().ok());
                Ok(length.is_none_or(|length| length == self.blob.size()))
            }
            404 => Ok(false),
            _ => Err(self.client.refused(&self.what, self.access, &mut answer)),
        }
    }

    /// Starts a session and returns its URL and chunk size; `None` if the blob was mounted.
    fn open(&mut self, from: Option<&str>) -> Result<Option<(Url, u64)>> {
        let url = self.client.url(self.access.repository, "blobs/uploads/")?;
        if let Some(from) = from {
            let url = url.with("mount", self.blob.digest().as_ref())?.with("from", from)?;
            let access = Access { from: Some(from), ..self.access.clone() };
            let answer = self.client.send(&self.what, &access, &Request::new("POST", url));
            // Without read permission on `from` the blob is sent.
            match answer {
                Ok(answer) if answer.status == 201 => return Ok(None),
                Ok(answer) if answer.status == 202 => return self.session(&answer).map(Some),
                _ => {}
            }
        }
        let mut answer = self.client.send(&self.what, self.access, &Request::new("POST", url))?;
        if answer.status != 202 {
            return Err(self.client.refused(&self.what, self.access, &mut answer));
        }
        self.count(0);
        self.session(&answer).map(Some)
    }

    fn session(&self, answer: &Response) -> Result<(Url, u64)> {
        let least = answer.header("oci-chunk-min-length").and_then(|least| least.parse().ok()).unwrap_or(0);
        let Some(location) = answer.header("location") else {
            return Err(
                Error::new(Class::Infrastructure, &self.what).why("the registry started an upload without a Location")
            );
        };
        Ok((answer.url.join(location)?, self.client.options.chunk.max(least).max(1)))
    }

    fn fill(&mut self, session: Url, chunk: u64, whole: bool) -> Result<SessionEnd> {
        let (mut url, mut at) = (session, 0);
        loop {
            let step =
                if whole || at == self.blob.size() { self.commit(&url, whole)? } else { self.patch(&url, at, chunk)? };
            match step {
                Step::At(next, reached) => {
                    self.count(reached);
                    (url, at) = (next, reached);
                }
                Step::End(ended) => return Ok(ended),
            }
        }
    }

    fn patch(&mut self, url: &Url, at: u64, chunk: u64) -> Result<Step> {
        let length = chunk.min(self.blob.size() - at);
        let mut request = Request::new("PATCH", url.clone());
        request.headers.push(("content-type", "application/octet-stream".to_owned()));
        request.headers.push(("content-range", format!("{at}-{}", at + length - 1)));
        request.body = Body::Part { file: self.file, start: at, length };
        let mut answer = match self.client.attempt(self.access, &request) {
            Ok(answer) => answer,
            Err(e) => return self.recover(e, url),
        };
        match answer.status.as_u16() {
            201 | 202 | 204 => {
                let next = answer.header("location").map_or(Ok(url.clone()), |location| answer.url.join(location))?;
                match answer.header("range").map_or(Some(at + length), received) {
                    Some(end) if end > at && end <= at + length => Ok(Step::At(next, end)),
                    _ => Ok(Step::End(SessionEnd::Unchunked)),
                }
            }
            status if is_transient(status) => self.retry(&mut answer, url),
            416 => match self.offset(url)? {
                Some((next, end)) if end != at => self.failed(answer).map(|()| Step::At(next, end)),
                _ => Ok(Step::End(SessionEnd::Unchunked)),
            },
            400 | 405 | 411 | 501 => Ok(Step::End(SessionEnd::Unchunked)),
            404 => self.failed(answer).map(|()| Step::End(SessionEnd::Gone)),
            _ => Err(self.client.refused(&self.what, self.access, &mut answer)),
        }
    }

    /// Closes the session; with `whole` this request also sends the bytes.
    fn commit(&mut self, url: &Url, whole: bool) -> Result<Step> {
        let mut request = Request::new("PUT", url.with("digest", self.blob.digest().as_ref())?);
        request.headers.push(("content-type", "application/octet-stream".to_owned()));
        if whole {
            request.body = Body::Part { file: self.file, start: 0, length: self.blob.size() };
        }
        let step = match self.client.attempt(self.access, &request) {
            Ok(mut answer) => match answer.status.as_u16() {
                200 | 201 | 202 | 204 => {
                    self.count(self.blob.size());
                    return Ok(Step::End(SessionEnd::Done));
                }
                status if is_transient(status) => self.retry(&mut answer, url)?,
                400 | 404 | 416 => {
                    self.failed(answer)?;
                    Step::End(SessionEnd::Gone)
                }
                _ => return Err(self.client.refused(&self.what, self.access, &mut answer)),
            },
            Err(e) => self.recover(e, url)?,
        };
        // Perhaps only the response was lost.
        if self.exists()? {
            self.count(self.blob.size());
            return Ok(Step::End(SessionEnd::Done));
        }
        Ok(if whole { Step::End(SessionEnd::Gone) } else { step })
    }

    /// Waits after a failed attempt and resumes.
    fn recover(&mut self, error: AttemptError, url: &Url) -> Result<Step> {
        match error {
            AttemptError::Permanent(error) => Err(error),
            AttemptError::Transient(why) => {
                let error = self.client.unreachable(&self.what, self.access, &why);
                self.wait((error, None))?;
                self.resume(url)
            }
        }
    }

    /// Waits after a transient error response and resumes.
    fn retry(&mut self, answer: &mut Response, url: &Url) -> Result<Step> {
        let retry = self.client.transient_error(&self.what, self.access, answer)?;
        self.wait(retry)?;
        self.resume(url)
    }

    /// Waits after an error response that a new session may avoid.
    fn failed(&mut self, mut answer: Response) -> Result<()> {
        let error = self.client.refused(&self.what, self.access, &mut answer);
        self.wait((error, None))
    }

    fn wait(&mut self, failure: Retry) -> Result<()> {
        self.failures += 1;
        self.client.pause(self.failures, &self.what, failure)
    }

    fn resume(&self, url: &Url) -> Result<Step> {
        Ok(self.offset(url)?.map_or(Step::End(SessionEnd::Gone), |(url, end)| Step::At(url, end)))
    }

    /// Queries the offset of the upload (distribution-spec, "Pushing a blob in chunks"); `None` if the session is gone.
    fn offset(&self, url: &Url) -> Result<Option<(Url, u64)>> {
        let answer = self.client.send(&self.what, self.access, &Request::new("GET", url.clone()))?;
        if !matches!(answer.status.as_u16(), 200 | 202 | 204) {
            return Ok(None);
        }
        let next = answer.header("location").map_or(Ok(url.clone()), |location| answer.url.join(location))?;
        Ok(answer.header("range").and_then(received).filter(|end| *end <= self.blob.size()).map(|end| (next, end)))
    }

    fn count(&mut self, at: u64) {
        if at >= self.counted {
            self.meter.add(at - self.counted);
        } else {
            self.meter.subtract(self.counted - at);
        }
        self.counted = at;
        if at > self.best {
            self.best = at;
            self.failures = 0;
        }
    }
}

/// Returns the number of bytes in the `Range` of an upload. docker-registry sends `0-0` for none.
fn received(range: &str) -> Option<u64> {
    let (first, last) = range.trim().trim_start_matches("bytes=").trim_start_matches("bytes ").split_once('-')?;
    let last: u64 = last.parse().ok()?;
    (first == "0").then_some(if last == 0 { 0 } else { last.checked_add(1)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ranges() {
        for (text, expected) in
            [("0-99", Some(100)), ("bytes=0-99", Some(100)), ("0-0", Some(0)), ("1-5", None), ("", None), ("0-", None)]
        {
            assert_eq!(received(text), expected, "{text}");
        }
        assert_eq!(received(&format!("0-{}", u64::MAX)), None);
    }
}

//! One blob to a registry (distribution-spec, "Pushing blobs"): skipped where it is there, mounted where another repository has it,
//! else sent in chunks, each after asking how far the registry came whenever an answer is missing.
//!
//! What registries do beside the specification and is met here: GHCR refuses a PATCH above 4 MiB with 416; ECR answers 201 to a PATCH and drops
//! every one after the first (aws/containers-roadmap 2831), which shows by its `Range`; docker-registry 2 forgets an upload whose last
//! PATCH was cut. The first two get the blob in one PUT, the third from its beginning.

use std::fs::File;

use common::{Class, Error, Result};
use oci::types::Descriptor;

use crate::client::{Access, Client, Stop, is_passing};
use crate::http::{Body, Request, Response};
use crate::transfer::Meter;
use crate::url::Url;

/// How a blob came to be in the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It was there.
    There,
    /// Taken from another repository of the registry.
    Mounted,
    /// Sent.
    Uploaded,
}

/// Brings `blob`, whose bytes are `file`, into the repository. `from` is a repository of the same registry that has it.
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
    /// Failures since the upload last came further.
    failures: u32,
    /// Bytes of this blob that the meter has.
    counted: u64,
    /// Furthest that any session came.
    best: u64,
}

/// How a session ended.
enum Ended {
    Done,
    /// The registry has forgotten it.
    Gone,
    /// The registry does not do chunks as we do them.
    Unchunked,
}

/// Where a session stands.
enum Step {
    /// So many bytes are there; the next request goes to this address.
    At(Url, u64),
    End(Ended),
}

impl Upload<'_> {
    fn run(&mut self, from: Option<&str>) -> Result<Sent> {
        if self.exists()? {
            return Ok(Sent::There);
        }
        let mut whole = self.blob.size() <= self.client.options.chunk;
        let mut from = from;
        loop {
            let Some((session, chunk)) = self.open(from.take())? else { return Ok(Sent::Mounted) };
            match self.fill(session, chunk, whole)? {
                Ended::Done => return Ok(Sent::Uploaded),
                Ended::Gone => {}
                Ended::Unchunked => whole = true,
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

    /// Begins a session; none where the blob was mounted instead. Also gives the size of its chunks.
    fn open(&mut self, from: Option<&str>) -> Result<Option<(Url, u64)>> {
        let url = self.client.url(self.access.repository, "blobs/uploads/")?;
        if let Some(from) = from {
            let url = url.with("mount", self.blob.digest().as_ref())?.with("from", from)?;
            let access = Access { from: Some(from), ..self.access.clone() };
            let answer = self.client.send(&self.what, &access, &Request::new("POST", url));
            // A registry may let us push here and not read there: then the blob is sent.
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
                Error::new(Class::Infrastructure, &self.what).why("the registry began an upload and did not say where")
            );
        };
        Ok((answer.url.join(location)?, self.client.options.chunk.max(least).max(1)))
    }

    fn fill(&mut self, session: Url, chunk: u64, whole: bool) -> Result<Ended> {
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
            Err(stop) => return self.missed(stop, url),
        };
        match answer.status.as_u16() {
            201 | 202 | 204 => {
                let next = answer.header("location").map_or(Ok(url.clone()), |location| answer.url.join(location))?;
                match answer.header("range").map_or(Some(at + length), reached) {
                    Some(end) if end > at && end <= at + length => Ok(Step::At(next, end)),
                    _ => Ok(Step::End(Ended::Unchunked)),
                }
            }
            status if is_passing(status) => self.passing(&mut answer, url),
            416 => match self.ask(url)? {
                Some((next, end)) if end != at => self.again(answer).map(|()| Step::At(next, end)),
                _ => Ok(Step::End(Ended::Unchunked)),
            },
            400 | 405 | 411 | 501 => Ok(Step::End(Ended::Unchunked)),
            404 => self.again(answer).map(|()| Step::End(Ended::Gone)),
            _ => Err(self.client.refused(&self.what, self.access, &mut answer)),
        }
    }

    /// Closes the session; with `whole` it is also what sends the bytes.
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
                    return Ok(Step::End(Ended::Done));
                }
                status if is_passing(status) => self.passing(&mut answer, url)?,
                400 | 404 | 416 => {
                    self.again(answer)?;
                    Step::End(Ended::Gone)
                }
                _ => return Err(self.client.refused(&self.what, self.access, &mut answer)),
            },
            Err(stop) => self.missed(stop, url)?,
        };
        // The answer may have been lost, not the request.
        if self.exists()? {
            self.count(self.blob.size());
            return Ok(Step::End(Ended::Done));
        }
        Ok(if whole { Step::End(Ended::Gone) } else { step })
    }

    fn missed(&mut self, stop: Stop, url: &Url) -> Result<Step> {
        match stop {
            Stop::Lasting(error) => Err(error),
            Stop::Passing(why) => {
                let error = self.client.unreachable(&self.what, self.access, &why);
                self.wait((error, None))?;
                self.resume(url)
            }
        }
    }

    fn passing(&mut self, answer: &mut Response, url: &Url) -> Result<Step> {
        let (error, asked) = self.client.passing(&self.what, self.access, answer);
        let Some(asked) = asked else { return Err(error) };
        self.wait((error, asked))?;
        self.resume(url)
    }

    /// Counts a refusal that a new attempt may mend.
    fn again(&mut self, mut answer: Response) -> Result<()> {
        let error = self.client.refused(&self.what, self.access, &mut answer);
        self.wait((error, None))
    }

    fn wait(&mut self, failure: (Error, Option<std::time::Duration>)) -> Result<()> {
        self.failures += 1;
        self.client.pause(self.failures, &self.what, failure)
    }

    fn resume(&self, url: &Url) -> Result<Step> {
        Ok(self.ask(url)?.map_or(Step::End(Ended::Gone), |(url, end)| Step::At(url, end)))
    }

    /// How far the registry came (distribution-spec, "Pushing a blob in chunks"); none where it has forgotten the session.
    fn ask(&self, url: &Url) -> Result<Option<(Url, u64)>> {
        let answer = self.client.send(&self.what, self.access, &Request::new("GET", url.clone()))?;
        if !matches!(answer.status.as_u16(), 200 | 202 | 204) {
            return Ok(None);
        }
        let next = answer.header("location").map_or(Ok(url.clone()), |location| answer.url.join(location))?;
        Ok(answer.header("range").and_then(reached).filter(|end| *end <= self.blob.size()).map(|end| (next, end)))
    }

    fn count(&mut self, at: u64) {
        if at >= self.counted {
            self.meter.add(at - self.counted);
        } else {
            self.meter.take_back(self.counted - at);
        }
        self.counted = at;
        if at > self.best {
            self.best = at;
            self.failures = 0;
        }
    }
}

/// Bytes that a `Range` of an upload stands for. `0-0` is what docker-registry says of none at all.
fn reached(range: &str) -> Option<u64> {
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
            assert_eq!(reached(text), expected, "{text}");
        }
        assert_eq!(reached(&format!("0-{}", u64::MAX)), None);
    }
}

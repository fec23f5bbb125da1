//! An in-memory registry with the quirks of others: token service, referrers API, rules for chunks.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};

use common::Sha256;

use crate::http::{Answer, Head, serve};

/// Behaviour of the registry.
#[derive(Clone, Debug, Default)]
pub struct Quirks {
    /// Has the referrers API.
    pub referrers: bool,
    /// Rejects a longer PATCH with 416, as GHCR does.
    pub longest_patch: Option<u64>,
    /// Rejects a longer PATCH with 413, as a proxy does.
    pub largest_request: Option<u64>,
    /// Accepts only the first PATCH of an upload, answering 201, as ECR does.
    pub one_patch: bool,
    /// `OCI-Chunk-Min-Length`.
    pub least_chunk: Option<u64>,
    /// Requires a token, issued for this `Authorization`.
    pub login: Option<String>,
    /// Number of requests that a token is valid for.
    pub token_life: Option<u32>,
    /// Storage size for blobs; answers 507 when full.
    pub room: Option<u64>,
    /// Changes the first byte of this blob.
    pub corrupt: Option<Sha256>,
    /// Truncates this blob to half; `true` sends a Content-Length.
    pub half: Option<(Sha256, bool)>,
    /// Drops the upload session after a truncated PATCH, as docker-registry does.
    pub forgets: bool,
    /// After the first manifest, has another image at this tag, as if somebody else had pushed it.
    pub rival: Option<&'static str>,
    /// Answers 403 instead of 404 while a repository has no manifest.
    pub denies_unknown: bool,
}

#[derive(Default)]
pub struct State {
    pub blobs: BTreeMap<(String, String), Vec<u8>>,
    /// By repository and tag or digest: media type and bytes.
    pub manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    uploads: BTreeMap<String, Vec<u8>>,
    next: u32,
    tokens: BTreeMap<String, u32>,
    /// `METHOD /path` of each request, in order.
    pub log: Vec<String>,
    /// Every header of every request.
    pub headers: Vec<(String, String)>,
    /// Received bytes of blobs.
    pub received: u64,
}

#[derive(Clone)]
pub struct Memory {
    pub address: String,
    pub state: Arc<Mutex<State>>,
}

impl Memory {
    pub fn start(quirks: Quirks) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let handler = move |head: &Head, body: &mut dyn Read, stream: &mut TcpStream| {
            let mut bytes = Vec::new();
            let whole = body.read_to_end(&mut bytes).is_ok() && bytes.len() as u64 == head.length();
            let answer = Request { quirks: &quirks, state: &mut shared.lock().unwrap(), head, bytes, whole }.answer();
            if whole {
                answer.send(stream, head, usize::MAX);
            }
        };
        Self { address: serve(Arc::new(handler)), state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn tag(&self, repository: &str, tag: &str) -> Option<Sha256> {
        self.state().manifests.get(&(repository.to_owned(), tag.to_owned())).map(|(_, bytes)| Sha256::of(bytes))
    }
}

struct Request<'a> {
    quirks: &'a Quirks,
    state: &'a mut State,
    head: &'a Head,
    bytes: Vec<u8>,
    whole: bool,
}

impl Request<'_> {
    fn answer(&mut self) -> Answer {
        let head = self.head;
        self.state.log.push(format!("{} {}", head.method, head.path()));
        self.state.headers.extend(head.headers.clone());
        if head.path() == "/token" {
            return self.token();
        }
        if let Some(refusal) = self.refuse() {
            return refusal;
        }
        let path = head.path().trim_start_matches("/v2/");
        if let Some((repository, rest)) = path.split_once("/blobs/uploads/") {
            return self.upload(repository, rest);
        }
        for (kind, handle) in [
            ("/blobs/", Self::blob as fn(&mut Self, &str, &str) -> Answer),
            ("/manifests/", Self::manifest),
            ("/referrers/", Self::referrers),
        ] {
            if let Some((repository, rest)) = path.split_once(kind) {
                return handle(self, repository, rest);
            }
        }
        Answer::new(if path.is_empty() { 200 } else { 404 })
    }

    fn refuse(&mut self) -> Option<Answer> {
        self.quirks.login.as_ref()?;
        let given = self.head.header("authorization").unwrap_or_default().to_owned();
        if let Some(left) = self.state.tokens.get_mut(given.trim_start_matches("Bearer "))
            && *left > 0
        {
            *left -= 1;
            return None;
        }
        let host = self.head.header("host").unwrap();
        let challenge = format!("Bearer realm=\"http://{host}/token?from=challenge\",service=\"memory\"");
        // A careless server echoes the header.
        let body = format!(r#"{{"errors":[{{"code":"UNAUTHORIZED","message":"bad {given}"}}]}}"#);
        Some(Answer::new(401).header("WWW-Authenticate", challenge).body(body))
    }

    fn token(&mut self) -> Answer {
        let given = self.head.header("authorization").unwrap_or_default();
        if self.quirks.login.as_deref() != Some(given) {
            return Answer::new(401)
                .body(format!(r#"{{"errors":[{{"code":"UNAUTHORIZED","message":"no {given}"}}]}}"#));
        }
        assert_eq!(self.head.query("service").as_deref(), Some("memory"));
        assert!(self.head.query("scope").unwrap().starts_with("repository:"), "{}", self.head.target);
        self.state.next += 1;
        let token = format!("token-{}-sesame", self.state.next);
        self.state.tokens.insert(token.clone(), self.quirks.token_life.unwrap_or(u32::MAX));
        Answer::new(200).body(format!(r#"{{"token":"{token}","expires_in":300}}"#))
    }

    fn upload(&mut self, repository: &str, session: &str) -> Answer {
        let place = |session: &str, at: u64| {
            Answer::new(202)
                .header("Location", format!("/v2/{repository}/blobs/uploads/{session}?_state=open-{session}"))
                .header("Range", format!("0-{}", at.saturating_sub(1)))
        };
        match self.head.method.as_str() {
            "POST" => {
                if let (Some(digest), Some(from)) = (self.head.query("mount"), self.head.query("from"))
                    && let Some(bytes) = self.state.blobs.get(&(from, digest.clone())).cloned()
                {
                    self.state.blobs.insert((repository.to_owned(), digest), bytes);
                    return Answer::new(201);
                }
                self.state.next += 1;
                let session = self.state.next.to_string();
                self.state.uploads.insert(session.clone(), Vec::new());
                let least = self.quirks.least_chunk.map(|least| ("OCI-Chunk-Min-Length".to_owned(), least.to_string()));
                let mut answer = place(&session, 0);
                answer.headers.extend(least);
                answer
            }
            _ if !self.state.uploads.contains_key(session) => Answer::new(404),
            "GET" => Answer { status: 204, ..place(session, self.state.uploads[session].len() as u64) },
            "PATCH" => {
                let at = self.state.uploads[session].len() as u64;
                let range = self.head.header("content-range").unwrap();
                if range.split('-').next() != Some(&at.to_string()) {
                    return Answer::new(416);
                }
                if self.quirks.longest_patch.is_some_and(|most| self.head.length() > most) {
                    return Answer::new(416).body("the request body is too large");
                }
                if self.quirks.largest_request.is_some_and(|most| self.head.length() > most) {
                    return Answer::new(413).body("<html>413 Request Entity Too Large</html>");
                }
                if self.quirks.one_patch && at > 0 {
                    return Answer { status: 201, ..place(session, at) };
                }
                if !self.whole && self.quirks.forgets {
                    self.state.uploads.remove(session);
                    return Answer::new(500);
                }
                if !self.fits() {
                    return Answer::new(507);
                }
                let upload = self.state.uploads.get_mut(session).unwrap();
                upload.extend_from_slice(&self.bytes);
                self.state.received += self.bytes.len() as u64;
                let status = if self.quirks.one_patch { 201 } else { 202 };
                Answer { status, ..place(session, at + self.bytes.len() as u64) }
            }
            "PUT" if self.whole => {
                if !self.fits() {
                    return Answer::new(507);
                }
                let mut bytes = self.state.uploads.remove(session).unwrap();
                self.state.received += self.bytes.len() as u64;
                bytes.extend_from_slice(&self.bytes);
                let digest = self.head.query("digest").unwrap();
                if Sha256::of(&bytes).oci() != digest {
                    return Answer::new(400).body(r#"{"errors":[{"code":"DIGEST_INVALID","message":"other bytes"}]}"#);
                }
                self.state.blobs.insert((repository.to_owned(), digest), bytes);
                Answer::new(201)
            }
            _ => Answer::new(405),
        }
    }

    fn fits(&self) -> bool {
        self.quirks.room.is_none_or(|room| self.state.received + self.bytes.len() as u64 <= room)
    }

    fn blob(&mut self, repository: &str, digest: &str) -> Answer {
        let Some(bytes) = self.state.blobs.get(&(repository.to_owned(), digest.to_owned())) else {
            return Answer::new(404);
        };
        let mut bytes = bytes.clone();
        if self.quirks.corrupt.is_some_and(|corrupt| corrupt.oci() == digest) {
            bytes[0] ^= 1;
        }
        if self.head.method == "HEAD" {
            return Answer::new(200).header("Content-Length", bytes.len().to_string());
        }
        let half = self.quirks.half.filter(|(half, _)| half.oci() == digest);
        if half.is_some() {
            bytes.truncate(bytes.len() / 2);
        }
        let length = bytes.len();
        match self.head.header("range") {
            Some(range) => {
                let start: usize = range.trim_start_matches("bytes=").split('-').next().unwrap().parse().unwrap();
                if start >= length {
                    return Answer::new(416).header("Content-Range", format!("bytes */{length}"));
                }
                Answer::new(206)
                    .header("Content-Range", format!("bytes {start}-{}/{length}", length - 1))
                    .body(&bytes[start..])
            }
            None if half.is_some_and(|(_, with_length)| !with_length) => {
                Answer::new(200).header("Transfer-Encoding", "chunked").body(bytes)
            }
            None => Answer::new(200).body(bytes),
        }
    }

    fn manifest(&mut self, repository: &str, reference: &str) -> Answer {
        let key = (repository.to_owned(), reference.to_owned());
        if self.head.method != "PUT" {
            let Some((media_type, bytes)) = self.state.manifests.get(&key) else {
                let unknown = !self.state.manifests.keys().any(|(of, _)| of == repository);
                return Answer::new(if self.quirks.denies_unknown && unknown { 403 } else { 404 });
            };
            let digest = Sha256::of(bytes).oci();
            return Answer::new(200)
                .header("Content-Type", media_type)
                .header("Docker-Content-Digest", digest)
                .body(bytes.clone());
        }
        if !self.whole {
            return Answer::new(400);
        }
        let value: serde_json::Value = serde_json::from_slice(&self.bytes).unwrap();
        let blobs = value["layers"].as_array().into_iter().flatten().chain(value.get("config"));
        let manifests = value["manifests"].as_array().into_iter().flatten();
        let missing = blobs.map(|b| b["digest"].as_str().unwrap()).any(|d| !self.has_blob(repository, d))
            || manifests.map(|b| b["digest"].as_str().unwrap()).any(|d| !self.has_manifest(repository, d));
        if missing {
            return Answer::new(400).body(r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown"}]}"#);
        }
        let entry = (self.head.header("content-type").unwrap().to_owned(), self.bytes.clone());
        let digest = Sha256::of(&self.bytes).oci();
        self.state.manifests.insert(key, entry.clone());
        self.state.manifests.insert((repository.to_owned(), digest.clone()), entry);
        if let Some(tag) = self.quirks.rival {
            let rival = ("application/vnd.oci.image.manifest.v1+json".to_owned(), b"{\"schemaVersion\":2}".to_vec());
            self.state.manifests.insert((repository.to_owned(), tag.to_owned()), rival);
        }
        let answer = Answer::new(201).header("Docker-Content-Digest", digest);
        match value["subject"]["digest"].as_str() {
            Some(subject) if self.quirks.referrers => answer.header("OCI-Subject", subject),
            _ => answer,
        }
    }

    fn has_blob(&self, repository: &str, digest: &str) -> bool {
        self.state.blobs.contains_key(&(repository.to_owned(), digest.to_owned()))
    }

    fn has_manifest(&self, repository: &str, digest: &str) -> bool {
        self.state.manifests.contains_key(&(repository.to_owned(), digest.to_owned()))
    }

    /// Returns two pages, to test paging.
    fn referrers(&mut self, repository: &str, subject: &str) -> Answer {
        if !self.quirks.referrers {
            return Answer::new(404);
        }
        let all = self
            .state
            .manifests
            .iter()
            .filter(|((of, reference), _)| of == repository && reference.starts_with("sha256:"));
        let mut entries: Vec<serde_json::Value> = Vec::new();
        for ((_, digest), (media_type, bytes)) in all {
            let value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
            if value["subject"]["digest"].as_str() == Some(subject) {
                let (size, kind) = (bytes.len(), &value["artifactType"]);
                entries.push(
                    serde_json::json!({"mediaType": media_type, "digest": digest, "size": size, "artifactType": kind}),
                );
            }
        }
        let second = self.head.query("page").is_some();
        let (first, rest) = entries.split_at(entries.len().min(1));
        let body = serde_json::json!({"schemaVersion": 2, "manifests": if second { rest } else { first }});
        let answer =
            Answer::new(200).header("Content-Type", "application/vnd.oci.image.index.v1+json").body(body.to_string());
        if second { answer } else { answer.header("Link", format!("<{}?page=2>; rel=\"next\"", self.head.path())) }
    }
}

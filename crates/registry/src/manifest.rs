//! Gets and puts manifests and indexes byte for byte (distribution-spec, "Pulling manifests", "Pushing manifests").

use common::{Class, Error, Result, Sha256};
use oci::types::{self, DOCUMENT_LIMIT, Descriptor, Digest, MediaType, Named as _};

use crate::client::{Access, Client};
use crate::http::{Body, Request, Response};

/// Accepted media types of OCI and Docker.
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// A manifest or an index.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub descriptor: Descriptor,
    pub bytes: Vec<u8>,
}

/// Fetches the document behind `reference`, a tag or a digest; `None` if there is none.
pub(crate) fn get(client: &Client<'_>, access: &Access<'_>, reference: &str) -> Result<Option<Document>> {
    let what = what(access, reference);
    let (mut answer, bytes) = answer(client, access, reference)?;
    match answer.status.as_u16() {
        200 => document(&what, reference, &answer, bytes).map(Some),
        404 => Ok(None),
        _ => Err(client.refused(&what, access, &mut answer)),
    }
}

fn what(access: &Access<'_>, reference: &str) -> String {
    format!("cannot pull the manifest {reference} of {}", access.repository)
}

fn answer(client: &Client<'_>, access: &Access<'_>, reference: &str) -> Result<(Response, Vec<u8>)> {
    let mut request = Request::new("GET", client.url(access.repository, &format!("manifests/{reference}"))?);
    request.headers.push(("accept", ACCEPT.to_owned()));
    client.fetch(&what(access, reference), access, &request, DOCUMENT_LIMIT)
}

fn document(what: &str, reference: &str, answer: &Response, bytes: Vec<u8>) -> Result<Document> {
    let digest = Sha256::of(&bytes);
    let claims = [answer.header("docker-content-digest"), Some(reference)].into_iter().flatten();
    for claim in claims.filter_map(|claim| Digest::try_from(claim.to_owned()).ok()) {
        if claim.0 != digest {
            return Err(Error::new(Class::Verification, what.to_owned())
                .why(format!("digest mismatch: got {}, expected {}", digest.oci(), claim.0.oci()))
                .hint("the registry or a proxy changed the manifest: push the image again"));
        }
    }
    let header = answer.header("content-type").map(|t| t.split(';').next().unwrap_or_default().trim().to_owned());
    let media_type = media_type(&bytes).or(header).unwrap_or_default();
    Ok(Document { descriptor: types::descriptor(media_type.as_str(), digest, bytes.len() as u64), bytes })
}

/// Returns the digest behind `reference`; `None` if there is none.
pub(crate) fn digest(client: &Client<'_>, access: &Access<'_>, reference: &str) -> Result<Option<Sha256>> {
    // Some registries return no or a wrong digest for HEAD, and a manifest is small.
    get(client, access, reference)?.map(|document| document.descriptor.sha256()).transpose()
}

/// The same before a push has written anything; `None` also if the registry refuses the request: some do so for a repository that the push
/// is to create.
pub(crate) fn digest_if_readable(client: &Client<'_>, access: &Access<'_>, tag: &str) -> Result<Option<Sha256>> {
    let what = what(access, tag);
    let (mut answer, bytes) = answer(client, access, tag)?;
    match answer.status.as_u16() {
        200 => document(&what, tag, &answer, bytes)?.descriptor.sha256().map(Some),
        401 | 403 | 404 => Ok(None),
        _ => Err(client.refused(&what, access, &mut answer)),
    }
}

/// Puts `bytes` under `reference`. Returns true if the registry maintains the list of referrers.
pub(crate) fn put(
    client: &Client<'_>,
    access: &Access<'_>,
    reference: &str,
    media_type: &MediaType,
    bytes: &[u8],
) -> Result<bool> {
    let what = format!("cannot push the manifest {reference} to {}", access.repository);
    let mut request = Request::new("PUT", client.url(access.repository, &format!("manifests/{reference}"))?);
    request.headers.push(("content-type", media_type.to_string()));
    request.body = Body::Bytes(bytes);
    let mut answer = client.send(&what, access, &request)?;
    if !matches!(answer.status.as_u16(), 200..=204) {
        return Err(client.refused(&what, access, &mut answer));
    }
    Ok(answer.header("oci-subject").is_some())
}

/// Returns the media type in a document.
fn media_type(bytes: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    value.get("mediaType")?.as_str().map(str::to_owned)
}

//! Manifests and indexes to and from a registry, byte for byte (distribution-spec, "Pulling manifests", "Pushing manifests").

use common::{Class, Error, Result, Sha256};
use oci::types::{self, Descriptor, Digest};

use crate::client::{Access, Client};
use crate::http::{Body, Request};

/// Longest manifest that is read; registries may refuse longer ones.
pub(crate) const LIMIT: u64 = 4 << 20;

/// Docker's name of an image index.
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's name of an image manifest.
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A manifest or an index.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub descriptor: Descriptor,
    pub bytes: Vec<u8>,
}

/// The document that `reference`, a tag or a digest, names; none where there is none.
pub(crate) fn get(client: &Client<'_>, access: &Access<'_>, reference: &str) -> Result<Option<Document>> {
    let what = format!("cannot pull the manifest {reference} of {}", access.repository);
    let mut request = Request::new("GET", client.url(access.repository, &format!("manifests/{reference}"))?);
    let accept = [types::MANIFEST, types::INDEX, DOCKER_MANIFEST, DOCKER_LIST].join(", ");
    request.headers.push(("accept", accept));
    let (mut answer, bytes) = client.fetch(&what, access, &request, LIMIT)?;
    match answer.status.as_u16() {
        200 => {}
        404 => return Ok(None),
        _ => return Err(client.refused(&what, access, &mut answer)),
    }
    let digest = Sha256::of(&bytes);
    let claims = [answer.header("docker-content-digest"), Some(reference)].into_iter().flatten();
    for claim in claims.filter_map(|claim| Digest::try_from(claim.to_owned()).ok()) {
        if claim.0 != digest {
            return Err(Error::new(Class::Verification, what)
                .why(format!("its sha256 is {digest}, the registry calls it {}", claim.0.oci()))
                .hint("the registry, or something on the way, has other bytes: push the image again"));
        }
    }
    let header = answer.header("content-type").map(|t| t.split(';').next().unwrap_or_default().trim().to_owned());
    let media_type = media_type(&bytes).or(header).unwrap_or_default();
    Ok(Some(Document { descriptor: Descriptor::new(&media_type, digest, bytes.len() as u64), bytes }))
}

/// Digest that `reference` names; none where it names nothing.
pub(crate) fn head(client: &Client<'_>, access: &Access<'_>, reference: &str) -> Result<Option<Sha256>> {
    // Some registries give no digest, or another one, to HEAD: a manifest is small enough to be read.
    Ok(get(client, access, reference)?.map(|document| document.descriptor.digest.0))
}

/// Puts `bytes` under `reference`. True when the registry keeps the list of referrers itself.
pub(crate) fn put(
    client: &Client<'_>,
    access: &Access<'_>,
    reference: &str,
    media_type: &str,
    bytes: &[u8],
) -> Result<bool> {
    let what = format!("cannot push the manifest {reference} to {}", access.repository);
    let mut request = Request::new("PUT", client.url(access.repository, &format!("manifests/{reference}"))?);
    request.headers.push(("content-type", media_type.to_owned()));
    request.body = Body::Bytes(bytes);
    let mut answer = client.send(&what, access, &request)?;
    if !matches!(answer.status.as_u16(), 200..=204) {
        return Err(client.refused(&what, access, &mut answer));
    }
    Ok(answer.header("oci-subject").is_some())
}

/// The media type that a document says it has.
fn media_type(bytes: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    value.get("mediaType")?.as_str().map(str::to_owned)
}

//! Referrers of an image: the API and its fallback tag (distribution-spec, "Listing Referrers").

use common::{Class, Error, Result, Sha256};
use oci::types::{self, DOCUMENT_LIMIT, Descriptor, Index, MediaType};

use crate::client::{Access, Client};
use crate::http::{Request, Response};
use crate::local::MANIFESTS;
use crate::manifest;

/// Maximum number of pages of the referrers API.
const PAGES: u32 = 64;
/// Attempts to write the fallback index while others write it too.
const ROUNDS: u32 = 4;

/// Returns the tag whose index lists the referrers of `subject` in registries without the API.
#[must_use]
pub fn fallback_tag(subject: Sha256) -> String {
    format!("sha256-{subject}")
}

/// Appends the missing `entries` to `index`; `None` if it contains all of them.
#[must_use]
pub fn merge(mut index: Index, entries: &[Descriptor]) -> Option<Index> {
    let mut all = index.manifests().clone();
    for entry in entries {
        if !all.iter().any(|known| known.digest() == entry.digest()) {
            all.push(entry.clone());
        }
    }
    let changed = all.len() > index.manifests().len();
    index.set_manifests(all);
    changed.then_some(index)
}

/// Parses a list of referrers.
///
/// # Errors
/// [`Class::UntrustedData`] if it is not an image index.
pub fn parse(bytes: &[u8]) -> Result<Index> {
    let bad = |why: String| Error::new(Class::UntrustedData, "the list of referrers is not an image index").why(why);
    let index: Index = types::read(bytes).map_err(bad)?;
    match index.media_type() {
        None | Some(MediaType::ImageIndex) => Ok(index),
        Some(other) => Err(bad(format!("its media type is {:?}", other.as_ref()))),
    }
}

/// Referrers of an image.
pub(crate) struct Listing {
    pub entries: Vec<Descriptor>,
    /// Why there may be more: the registry denies the list, or answers with something else.
    pub unread: Option<Error>,
}

/// Returns all referrers of `subject`.
///
/// # Errors
/// If the registry cannot be reached or fails, and for a list above the limits. Any other answer is not an error, so that the image itself can
/// be pulled: registries without the API answer in many ways, and GitLab's takes the fallback tag for the digest of the image.
pub(crate) fn list(client: &Client<'_>, access: &Access<'_>, subject: Sha256) -> Result<Listing> {
    let what = format!("cannot list the referrers of {} in {}", subject.oci(), access.repository);
    let mut url = client.url(access.repository, &format!("referrers/{}", subject.oci()))?;
    let mut entries: Vec<Descriptor> = Vec::new();
    for _ in 0..PAGES {
        let mut request = Request::new("GET", url.clone());
        request.headers.push(("accept", MediaType::ImageIndex.to_string()));
        let (mut answer, bytes) = client.fetch(&what, access, &request, DOCUMENT_LIMIT)?;
        match answer.status.as_u16() {
            401 | 403 => {
                let denied = client.refused(&what, access, &mut answer);
                return fallback_listing(client, access, subject, &what, Some(denied));
            }
            200 if is_index(&answer) => match parse(&bytes) {
                Ok(index) => entries.extend(index.manifests().iter().cloned()),
                Err(e) => return Ok(Listing { entries, unread: Some(e) }),
            },
            // No such API: 404, or whatever the registry returns for an unknown path.
            _ => return fallback_listing(client, access, subject, &what, None),
        }
        entries = limited(&what, entries)?;
        match answer.header("link").and_then(next) {
            Some(link) => url = answer.url.join(link)?,
            None => return Ok(Listing { entries, unread: None }),
        }
    }
    Err(Error::new(Class::Infrastructure, what).why(format!("more than {PAGES} pages")))
}

/// Lists the index behind the fallback tag; `denied` is the API's answer.
fn fallback_listing(
    client: &Client<'_>,
    access: &Access<'_>,
    subject: Sha256,
    what: &str,
    denied: Option<Error>,
) -> Result<Listing> {
    match fallback(client, access, subject) {
        Ok(index) => Ok(Listing { entries: limited(what, index.manifests().clone())?, unread: denied }),
        Err(e) => Ok(Listing { entries: Vec::new(), unread: Some(denied.unwrap_or(e)) }),
    }
}

fn limited(what: &str, all: Vec<Descriptor>) -> Result<Vec<Descriptor>> {
    if all.len() <= MANIFESTS {
        return Ok(all);
    }
    Err(Error::new(Class::UntrustedData, what).why(format!("more than {MANIFESTS} entries")))
}

/// Adds `entries` to the index behind the fallback tag.
///
/// Registries have no compare-and-swap for tags, so the index is read again afterwards, and written again if another writer dropped entries.
pub(crate) fn update_fallback(
    client: &Client<'_>,
    access: &Access<'_>,
    subject: Sha256,
    entries: &[Descriptor],
) -> Result<()> {
    let tag = fallback_tag(subject);
    for _ in 0..ROUNDS {
        let Some(index) = merge(fallback(client, access, subject)?, entries) else { return Ok(()) };
        manifest::put(client, access, &tag, &MediaType::ImageIndex, &types::canonical(&index)?)?;
    }
    if merge(fallback(client, access, subject)?, entries).is_none() {
        return Ok(());
    }
    Err(Error::new(Class::Infrastructure, format!("cannot add the referrers to {}:{tag}", access.repository))
        .why(format!("another writer removed them {ROUNDS} times"))
        .hint("push again when no other push is running"))
}

/// Returns the index behind the fallback tag, empty without one.
fn fallback(client: &Client<'_>, access: &Access<'_>, subject: Sha256) -> Result<Index> {
    let tag = fallback_tag(subject);
    let Some(document) = manifest::get(client, access, &tag)? else { return Ok(types::index(Vec::new())) };
    parse(&document.bytes).map_err(|e| {
        let media_type = document.descriptor.media_type();
        Error::new(e.class(), format!("{}:{tag} is not a list of referrers", access.repository))
            .why(format!("it is a document of type {:?}", media_type.as_ref()))
            .hint("to attach artifacts to this image, delete that tag, or use a registry with the referrers API")
    })
}

fn is_index(answer: &Response) -> bool {
    answer
        .header("content-type")
        .is_some_and(|t| t.split(';').next().is_some_and(|t| MediaType::from(t.trim()) == MediaType::ImageIndex))
}

/// Returns the URL with `rel="next"` of a `Link` header (RFC 8288).
#[must_use]
pub fn next(link: &str) -> Option<&str> {
    link.split(',').find(|part| part.contains("rel=\"next\"") || part.contains("rel=next")).and_then(|part| {
        let (_, rest) = part.split_once('<')?;
        Some(rest.split_once('>')?.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(entries: &[&str]) -> Index {
        let entry = |entry| types::descriptor(MediaType::ImageManifest, Sha256::of(entry), 1);
        types::index(entries.iter().map(entry).collect())
    }

    #[test]
    fn keeps_the_entries_of_others() {
        let merged = merge(index(&["theirs", "ours"]), index(&["ours", "new"]).manifests()).unwrap();
        assert_eq!(merged, index(&["theirs", "ours", "new"]));
        assert_eq!(merge(merged, index(&["new", "ours"]).manifests()), None);
    }

    #[test]
    fn reads_lists_and_links() {
        assert!(parse(br#"{"schemaVersion":2,"manifests":[]}"#).is_ok());
        for bad in
            ["", "{}", r#"{"schemaVersion":1,"manifests":[]}"#, r#"{"schemaVersion":2,"mediaType":"x","manifests":[]}"#]
        {
            assert_eq!(parse(bad.as_bytes()).unwrap_err().class(), Class::UntrustedData, "{bad}");
        }
        assert_eq!(next(r#"</v2/a?n=1>; rel="prev", </v2/a?n=2>; rel="next""#), Some("/v2/a?n=2"));
        assert_eq!(next(r#"</v2/a>; rel="prev""#), None);
    }
}

//! Lists that come in pages: repositories, tags, referrers. A registry names the next page; only its path and query
//! count, so a list never leads elsewhere, and pages that lead in a circle, bring nothing or never end are refused.

use std::collections::HashSet;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, LINK};
use oci::{Descriptor, Digest, Document, Endpoint, Reference, RepositoryName, Tag, media};
use serde_json::Value;
use url::Url;

use crate::request::{Scope, read_bounded};
use crate::{Client, ClientError};

/// Names of one list at most.
pub const NAMES_MAX: usize = 500_000;
const NAME_BYTES_MAX: usize = 256;
const PAGE_NAMES: usize = 1000;
const PAGE_BYTES_MAX: u64 = 16 << 20;
const PAGES_MAX: usize = 10_000;
/// Pages in a row that bring nothing new. A registry may filter what the caller may not see out of its pages.
const PAGES_IDLE_MAX: usize = 20;
const REFERRERS_MAX: usize = 10_000;

const LIST_TAGS: &str = "list tags";
const LIST_REFERRERS: &str = "list referrers";

/// A list of names, in the registry's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names<T> {
    /// Those that are names.
    pub names: Vec<T>,
    /// Entries that are none, cut: nothing can be asked of them.
    pub strange: Vec<String>,
}

/// The pages of one list.
struct Pages<'a> {
    client: &'a Client,
    reference: &'a Reference,
    scope: Scope<'a>,
    action: &'static str,
    next: Option<Url>,
    asked: HashSet<Url>,
    idle: usize,
}

struct Page {
    status: StatusCode,
    is_index: bool,
    body: Bytes,
}

impl<'a> Pages<'a> {
    fn new(client: &'a Client, reference: &'a Reference, scope: Scope<'a>, action: &'static str, first: Url) -> Self {
        Self { client, reference, scope, action, next: Some(first), asked: HashSet::new(), idle: 0 }
    }

    fn protocol(&self, reason: String) -> ClientError {
        ClientError::Protocol { host: self.reference.host().to_owned(), reason }
    }

    /// The next page; none after the last. An answer with a status of `other` is handed out and ends the list.
    async fn next(&mut self, other: fn(StatusCode) -> bool) -> Result<Option<Page>, ClientError> {
        let Some(url) = self.next.take() else { return Ok(None) };
        if self.asked.len() >= PAGES_MAX {
            return Err(self.protocol(format!("a list of more than {PAGES_MAX} pages")));
        }
        let response = self.client.send(self.reference, self.scope, self.action, |http| http.get(url.clone())).await?;
        let status = response.status();
        if status != StatusCode::OK && !other(status) {
            let what = format!("the list at {}", url.path());
            return Err(self.client.refused(self.reference, self.action, what, response).await);
        }
        let is_index = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_index = is_index.is_some_and(|text| text.split(';').next() == Some(media::OCI_INDEX));
        let link = response.headers().get(LINK).and_then(|value| next_page(value.to_str().ok()?));
        if status == StatusCode::OK
            && let Some(link) = link
        {
            // Behind a proxy a registry may not know its own name: only path and query are taken from it.
            let target = url.join(&link).map_err(|_| self.protocol("a next page that is not a URL".to_owned()))?;
            let mut next = url.clone();
            next.set_path(target.path());
            next.set_query(target.query());
            self.next = Some(next);
        }
        self.asked.insert(url);
        if self.next.as_ref().is_some_and(|next| self.asked.contains(next)) {
            return Err(self.protocol("the pages of a list lead in a circle".to_owned()));
        }
        let body = read_bounded(self.reference.host(), response, PAGE_BYTES_MAX).await?;
        Ok(Some(Page { status, is_index, body }))
    }

    /// Says how many entries of a page were new.
    fn brought(&mut self, new: usize) -> Result<(), ClientError> {
        self.idle = if new == 0 { self.idle + 1 } else { 0 };
        if self.idle > PAGES_IDLE_MAX && self.next.is_some() {
            return Err(self.protocol(format!("{PAGES_IDLE_MAX} pages of a list without anything new")));
        }
        Ok(())
    }
}

impl Client {
    /// Every repository of the registry that `reference` names; its own repository counts for nothing. Many registries
    /// list none, or only to administrators: then the error is [`ClientError::NotFound`], [`ClientError::Denied`] or
    /// [`ClientError::Status`].
    pub async fn catalog(&self, reference: &Reference) -> Result<Names<RepositoryName>, ClientError> {
        let url = self.url(reference, &Endpoint::Catalog)?;
        self.names(reference, Scope::Catalog, "list its repositories", url, "repositories").await
    }

    /// Every tag of a repository; none when it has no such repository.
    pub async fn tags(&self, reference: &Reference) -> Result<Option<Names<Tag>>, ClientError> {
        let url = self.url(reference, &Endpoint::Tags { repository: reference.repository().clone() })?;
        match self.names(reference, Scope::Pull, LIST_TAGS, url, "tags").await {
            Ok(names) => Ok(Some(names)),
            Err(ClientError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn names<T: std::str::FromStr>(
        &self,
        reference: &Reference,
        scope: Scope<'_>,
        action: &'static str,
        first: Url,
        field: &str,
    ) -> Result<Names<T>, ClientError> {
        let with_last = |last: Option<&str>| {
            let mut url = first.clone();
            url.query_pairs_mut().append_pair("n", &PAGE_NAMES.to_string());
            if let Some(last) = last {
                url.query_pairs_mut().append_pair("last", last);
            }
            url
        };
        let mut pages = Pages::new(self, reference, scope, action, with_last(None));
        let (mut found, mut seen) = (Names { names: Vec::new(), strange: Vec::new() }, HashSet::new());
        while let Some(page) = pages.next(|_| false).await? {
            let list: Value = self.decode(reference, &page.body, "a list")?;
            let entries = match list.get(field) {
                None | Some(Value::Null) => &[][..],
                Some(Value::Array(entries)) => entries,
                Some(_) => return Err(pages.protocol(format!("a list whose \"{field}\" are none"))),
            };
            let (mut new, mut last) = (0, None);
            for entry in entries {
                let text = entry.as_str().filter(|text| text.len() <= NAME_BYTES_MAX);
                let text = text.ok_or_else(|| pages.protocol("a list with an entry that is not a name".to_owned()))?;
                last = Some(text);
                if !seen.insert(text.to_owned()) {
                    continue;
                }
                new += 1;
                match text.parse() {
                    Ok(name) => found.names.push(name),
                    Err(_) => found.strange.push(text.escape_debug().collect()),
                }
            }
            if seen.len() > NAMES_MAX {
                return Err(pages.protocol(format!("a list of more than {NAMES_MAX} names")));
            }
            pages.brought(new)?;
            // Some cut a list without saying so: a full page is asked on, until nothing new comes.
            if pages.next.is_none() && new > 0 && entries.len() >= PAGE_NAMES {
                pages.next = Some(with_last(last)).filter(|next| !pages.asked.contains(next));
            }
        }
        Ok(found)
    }

    /// The tags after `last`, in their order, at most `limit`; an empty page ends the list.
    pub async fn tag_list(
        &self,
        reference: &Reference,
        last: Option<&Tag>,
        limit: u32,
    ) -> Result<Vec<Tag>, ClientError> {
        let mut url = self.url(reference, &Endpoint::Tags { repository: reference.repository().clone() })?;
        url.query_pairs_mut().append_pair("n", &limit.to_string());
        if let Some(last) = last {
            url.query_pairs_mut().append_pair("last", last.as_str());
        }
        self.page(reference, Scope::Pull, LIST_TAGS, url, "tags").await
    }

    /// The repositories after `last`, in their order, at most `limit`; an empty page ends the list.
    pub async fn catalog_list(
        &self,
        reference: &Reference,
        last: Option<&str>,
        limit: u32,
    ) -> Result<Vec<RepositoryName>, ClientError> {
        let mut url = self.url(reference, &Endpoint::Catalog)?;
        url.query_pairs_mut().append_pair("n", &limit.to_string());
        if let Some(last) = last {
            url.query_pairs_mut().append_pair("last", last);
        }
        self.page(reference, Scope::Catalog, "list its repositories", url, "repositories").await
    }

    async fn page<T: std::str::FromStr>(
        &self,
        reference: &Reference,
        scope: Scope<'_>,
        action: &'static str,
        url: Url,
        field: &str,
    ) -> Result<Vec<T>, ClientError> {
        let mut pages = Pages::new(self, reference, scope, action, url);
        let Some(page) = pages.next(|_| false).await? else { return Ok(Vec::new()) };
        let list: Value = self.decode(reference, &page.body, "a list")?;
        let entries = list.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        Ok(entries.iter().filter_map(|entry| entry.as_str()?.parse().ok()).collect())
    }

    /// All that refers to `digest`, with this artifact type if one is given. A registry without the referrers API has
    /// them under a tag made of the digest.
    pub async fn referrers(
        &self,
        reference: &Reference,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, ClientError> {
        let mut found = match self.referrers_api(reference, digest, artifact_type).await? {
            Some(found) => found,
            None => match self.manifest_get(&reference.clone().with_tag(referrers_tag(digest))).await {
                Ok(index) => index.document.manifests().to_vec(),
                Err(ClientError::NotFound { .. }) => Vec::new(),
                Err(error) => return Err(error),
            },
        };
        // Filtering is optional for registries.
        found.retain(|entry| artifact_type.is_none_or(|wanted| entry.artifact_type.as_deref() == Some(wanted)));
        Ok(found)
    }

    /// What the registry's referrers API lists; none when it has no such API.
    pub(crate) async fn referrers_api(
        &self,
        reference: &Reference,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<Descriptor>>, ClientError> {
        let endpoint = Endpoint::Referrers { repository: reference.repository().clone(), digest: *digest };
        let mut url = self.url(reference, &endpoint)?;
        if let Some(artifact_type) = artifact_type {
            url.query_pairs_mut().append_pair("artifactType", artifact_type);
        }
        let mut pages = Pages::new(self, reference, Scope::Pull, LIST_REFERRERS, url);
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        while let Some(page) = pages.next(has_no_api).await? {
            // Some answer unknown paths with a page for people.
            if page.status != StatusCode::OK || !page.is_index {
                return Ok(None);
            }
            let index = Document::parse(&page.body, Some(media::OCI_INDEX))?;
            let before = found.len();
            found.extend(index.manifests().iter().filter(|entry| seen.insert(entry.digest)).cloned());
            if found.len() > REFERRERS_MAX {
                return Err(pages.protocol(format!("more than {REFERRERS_MAX} referrers of {digest}")));
            }
            pages.brought(found.len() - before)?;
        }
        Ok(Some(found))
    }
}

/// How registries say that they do not know the referrers API.
fn has_no_api(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 404 | 405 | 406 | 501)
}

/// The tag under which referrers stand where there is no API for them.
pub(crate) fn referrers_tag(digest: &Digest) -> Tag {
    let mut text = format!("{}-{}", digest.algorithm().as_str(), digest.hex());
    // A tag has 128 bytes at most, which cuts sha512, as the specification says.
    text.truncate(128);
    // Letters, digits and a dash are always a tag.
    text.parse().unwrap_or_else(|_| Tag::latest())
}

/// The target of `<…>; rel="next"`, with or without quotes.
fn next_page(link: &str) -> Option<String> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = |parameter: &str| matches!(parameter.trim(), "rel=\"next\"" | "rel=next");
    parameters.split([';', ',']).any(is_next).then(|| target.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_tags() {
        assert_eq!(next_page("</v2/_catalog?last=a&n=1>; rel=\"next\"").as_deref(), Some("/v2/_catalog?last=a&n=1"));
        assert_eq!(next_page("<x>; rel=next").as_deref(), Some("x"));
        assert_eq!(next_page("<x>; rel=\"prev\""), None);
        assert_eq!(next_page("x; rel=next"), None);
        let tag = referrers_tag(&Digest::sha256_of(b"x"));
        assert!(tag.as_str().starts_with("sha256-") && tag.as_str().len() == 71);
        let long: Digest = format!("sha512:{}", "a".repeat(128)).parse().unwrap();
        assert_eq!(referrers_tag(&long).as_str().len(), 128);
    }
}

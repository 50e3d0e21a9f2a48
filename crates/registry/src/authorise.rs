//! The one point that every route and every path to a blob passes. Whose caller it is, and what they may do, comes with
//! sign-in; until then a hub listens on loopback, where anyone may read and use `/v2/`, or was told `--insecure`.

use oci::RepositoryName;

use crate::Error;
use crate::upstream::Upstreams;

/// What a request wants of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Manifests, blobs, tags, referrers.
    Pull,
    /// Uploads, manifests, tags.
    Push,
    /// Manifests, tags, links to blobs.
    Delete,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Someone on the hub's own port.
    Port,
    /// A host, on the agent port: reads only.
    Host,
}

/// Whether the caller may. `repository` is none where a request is about the registry as a whole.
pub(crate) fn authorise(
    upstreams: &Upstreams,
    caller: Caller,
    action: Action,
    repository: Option<&RepositoryName>,
) -> Result<(), Error> {
    if let (Action::Push, Some(repository)) = (action, repository) {
        upstreams.push_check(repository)?;
    }
    match (caller, action) {
        (Caller::Port, _) | (Caller::Host, Action::Pull) => Ok(()),
        (Caller::Host, Action::Push | Action::Delete) => {
            Err(Error::Denied { what: repository.map_or_else(|| "the registry".to_owned(), ToString::to_string) })
        }
    }
}

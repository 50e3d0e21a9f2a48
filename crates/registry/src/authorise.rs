//! The one point that every route and every path to a blob passes. Whose caller it is, and what they may do, comes with
//! sign-in; until then a hub listens on loopback, where anyone may read and use `/v2/`, or was told `--insecure`. Hosts,
//! on the agent port, read what the rules for hosts let them have.

use api::access::HostIdentity;
use oci::RepositoryName;

use crate::{Error, Service};

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
pub(crate) enum Caller<'a> {
    /// Someone on the hub's own port.
    Port,
    /// A host, on the agent port: reads only.
    Host(&'a HostIdentity),
}

/// Whether the caller may. `repository` is none where a request is about the registry as a whole.
pub(crate) fn authorise(
    service: &Service,
    caller: Caller<'_>,
    action: Action,
    repository: Option<&RepositoryName>,
) -> Result<(), Error> {
    if let (Action::Push, Some(repository)) = (action, repository) {
        service.upstreams.push_check(repository)?;
    }
    match (caller, action, repository) {
        (Caller::Port, _, _) | (Caller::Host(_), Action::Pull, None) => Ok(()),
        (Caller::Host(host), Action::Pull, Some(repository)) => {
            if service.host_rules.may_pull(&host.labels, repository) {
                Ok(())
            } else {
                Err(Error::HostDenied { host: host.host.clone(), what: repository.to_string() })
            }
        }
        (Caller::Host(_), Action::Push | Action::Delete, _) => {
            Err(Error::Denied { what: repository.map_or_else(|| "the registry".to_owned(), ToString::to_string) })
        }
    }
}

/// Whether the caller may see the names of all repositories: a host that may not pull from all of them may not.
pub(crate) fn authorise_catalog(service: &Service, caller: Caller<'_>) -> Result<(), Error> {
    match caller {
        Caller::Host(host) if !service.host_rules.is_empty() => {
            Err(Error::HostDenied { host: host.host.clone(), what: "the list of repositories".to_owned() })
        }
        Caller::Port | Caller::Host(_) => Ok(()),
    }
}

//! What a person may give as a repository's address and as a ref: checked before it becomes an argument of git.

use crate::git::GitError;

/// The longest URL, path or ref, in bytes.
const GIVEN_BYTES_MAX: usize = 2048;
/// Transports that do not run commands of the caller's choice. `git@host:path` is ssh.
pub(crate) const PROTOCOLS: [&str; 5] = ["file", "http", "https", "ssh", "git"];

/// Whether a repository's address is an absolute path, a URL of an allowed transport, or `[user@]host:path`.
///
/// # Errors
/// Says which of these it fails to be.
pub(crate) fn repository_check(repository: &str) -> Result<(), GitError> {
    let refuse = |why| {
        let shown: String = without_password(repository).chars().take(200).collect();
        Err(GitError::RepositoryInvalid { repository: shown, why })
    };
    if repository.is_empty() || repository.len() > GIVEN_BYTES_MAX {
        return refuse("is not a repository's address: it is empty or longer than 2048 bytes");
    }
    if repository.starts_with('-') || repository.chars().any(char::is_control) {
        return refuse("is not a repository's address: it begins with '-' or has control characters in it");
    }
    if repository.starts_with('/') {
        return Ok(());
    }
    if let Some((scheme, rest)) = repository.split_once("://") {
        let authority = rest.split('/').next().unwrap_or_default();
        if !PROTOCOLS.contains(&scheme) {
            return refuse("uses a transport that is not allowed; use https, http, ssh, git or file");
        }
        if authority.starts_with('-') || authority.rsplit('@').next().is_some_and(|host| host.starts_with('-')) {
            return refuse("names a host that begins with '-'");
        }
        let user = authority.rsplit_once('@').map(|(user, _)| user);
        if user.is_some_and(|user| user.contains(':')) {
            return refuse("has a password in it, which would be kept with every release");
        }
        return Ok(());
    }
    let host = repository.split(':').next().unwrap_or_default();
    let is_scp_like = repository.contains(':') && !host.is_empty() && !host.contains('/') && !repository.contains("::");
    if !is_scp_like {
        return refuse("is neither a URL nor an absolute path on the hub's machine");
    }
    if host.rsplit('@').next().is_some_and(|host| host.starts_with('-')) {
        return refuse("names a host that begins with '-'");
    }
    Ok(())
}

fn without_password(repository: &str) -> String {
    let Some((scheme, rest)) = repository.split_once("://") else { return repository.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:***@{host}{path}")
        }
        None => repository.to_owned(),
    }
}

/// Whether a text can be the name of a branch, tag or commit, and nothing else.
///
/// # Errors
/// Says why not.
pub(crate) fn reference_check(reference: &str) -> Result<(), GitError> {
    let refuse = |why| Err(GitError::ReferenceInvalid { reference: reference.chars().take(200).collect(), why });
    if reference.is_empty() || reference.len() > GIVEN_BYTES_MAX {
        return refuse("is not a ref: it is empty or longer than 2048 bytes");
    }
    if reference.starts_with('-') {
        return refuse("is not a ref: it begins with '-'");
    }
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
    if reference.contains(forbidden) || reference.contains("..") || reference.contains("@{") {
        return refuse("is not the name of a branch, tag or commit; expressions such as `main~1` are not taken");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a38_addresses_that_run_commands_or_read_as_options_are_refused() {
        for repository in [
            "",
            "-u",
            "--upload-pack=x",
            "ext::sh -c x",
            "fd::3",
            "ext://x",
            "ssh://-oProxyCommand=x/y",
            "ssh://u@-o/y",
            "-oProxyCommand=x:y",
            "u@-o:y",
            "relative/path",
            "./x",
            "a\nb",
            "https://u:secret@h/x",
            "data:",
            ":x",
            "a/b:c",
        ] {
            let refused = repository_check(repository);
            assert!(refused.is_err() || repository == "data:", "{repository}");
            assert!(!format!("{refused:?}").contains("secret"), "{repository}");
        }
        for repository in ["/srv/x", "https://h/x.git", "ssh://git@h:22/x", "git@h:x/y.git", "file:///srv/x", "h:x"] {
            assert_eq!(repository_check(repository), Ok(()));
        }
        for reference in ["", "-x", "--all", "a..b", "main~1", "main^", "HEAD@{1}", "a b", "a:b", "a*"] {
            assert!(reference_check(reference).is_err(), "{reference}");
        }
    }
}

//! Whose files are in a container: those of the user that its processes run as, or they could not change them.

use std::collections::HashMap;
use std::io::Read;

use engine::{Engine, EngineError, ErrorKind};
use futures::TryStreamExt;

/// Bytes of a container's `/etc/passwd` or `/etc/group`, as a tar, at most.
const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Containers that are remembered.
const CONTAINERS_MAX: usize = 1000;

/// Number of a user and of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) user: u64,
    pub(super) group: u64,
}

/// Finds out and remembers.
#[derive(Debug, Default)]
pub(super) struct Owners(HashMap<String, Owner>);

impl Owners {
    /// The owner that files in this container get. A name that the container does not know is root's.
    pub(super) async fn of(&mut self, engine: &dyn Engine, container: &str) -> Result<Owner, EngineError> {
        if let Some(owner) = self.0.get(container) {
            return Ok(*owner);
        }
        let found = engine.container_inspect(container).await?.ok_or_else(|| {
            EngineError::new(ErrorKind::NotFound, format!("cannot copy into container {container}"), "it is gone")
        })?;
        let owner = match found.user.as_str() {
            "" => Owner::default(),
            user => {
                let users = file(engine, container, "/etc/passwd").await?;
                let groups =
                    if user.contains(':') { file(engine, container, "/etc/group").await? } else { String::new() };
                owner(user, &users, &groups)
            }
        };
        if self.0.len() == CONTAINERS_MAX {
            self.0.clear();
        }
        self.0.insert(container.to_owned(), owner);
        Ok(owner)
    }
}

/// A file of a container; empty when there is none.
async fn file(engine: &dyn Engine, container: &str, path: &str) -> Result<String, EngineError> {
    let mut pieces = match engine.container_archive_get(container, path).await {
        Ok(pieces) => pieces,
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    let what = format!("cannot read {path} of container {container}");
    let unreadable = |error: std::io::Error| EngineError::new(ErrorKind::Engine, &what, error.to_string());
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.try_next().await.map_err(unreadable)? {
        if bytes.len() + piece.len() > FILE_BYTES_MAX {
            return Err(EngineError::new(ErrorKind::Engine, &what, format!("it has more than {FILE_BYTES_MAX} bytes")));
        }
        bytes.extend_from_slice(&piece);
    }
    let mut text = Vec::new();
    if let Some(entry) = tar::Archive::new(bytes.as_slice()).entries().map_err(unreadable)?.next() {
        entry.map_err(unreadable)?.read_to_end(&mut text).map_err(unreadable)?;
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The numbers of `user`, `user:group`, either of them a name or a number, by a container's own lists.
fn owner(text: &str, users: &str, groups: &str) -> Owner {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let number = |fields: &[&str], place: usize| fields.get(place).and_then(|field| field.parse::<u64>().ok());
    let line = |list: &str, name: &str| {
        let mut lines = list.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let found = lines.find(|fields| fields.first() == Some(&name) || fields.get(2) == Some(&name));
        found.map(|fields| (number(&fields, 2), number(&fields, 3)))
    };
    let by_user = line(users, user).unwrap_or_default();
    let user = by_user.0.or_else(|| user.parse().ok()).unwrap_or(0);
    let group = match group {
        None => by_user.1.unwrap_or(0),
        Some(group) => line(groups, group).and_then(|found| found.0).or_else(|| group.parse().ok()).unwrap_or(0),
    };
    Owner { user, group }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_those_of_the_container() {
        let users = "root:x:0:0:root:/:/bin/sh\nnode:x:1000:1001::/srv:/bin/sh\n";
        let groups = "root:x:0:\nstaff:x:50:node\n";
        for (text, user, group) in [
            ("root", 0, 0),
            ("node", 1000, 1001),
            ("1000", 1000, 1001),
            ("1234", 1234, 0),
            ("node:staff", 1000, 50),
            ("7:8", 7, 8),
            ("nobody-knows", 0, 0),
        ] {
            assert_eq!(owner(text, users, groups), Owner { user, group }, "{text}");
        }
    }
}

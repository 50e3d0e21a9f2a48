//! Tags.

use base::db::{DbError, sql};
use futures::FutureExt;
use oci::{RepositoryName, Tag};

use super::Store;
use crate::Error;

impl Store {
    /// Removes a tag and nothing else.
    pub(crate) async fn tag_delete(&self, repository: &RepositoryName, tag: &Tag) -> Result<bool, Error> {
        let (owned, tag) = (repository.clone(), tag.clone());
        self.manifests_write(repository, move |tx| {
            let (repository, tag) = (owned.clone(), tag.clone());
            async move {
                let removed = sql("DELETE FROM tags WHERE repository = $1 AND tag = $2")
                    .bind(repository.as_str())
                    .bind(tag.as_str())
                    .execute(tx)
                    .await?;
                Ok(removed > 0)
            }
            .boxed()
        })
        .await
    }

    /// Tags in lexical order, those after `after`; none when the repository does not exist.
    pub(crate) async fn tags(
        &self,
        repository: &RepositoryName,
        after: &str,
        limit: u32,
    ) -> Result<Option<Vec<String>>, Error> {
        if !self.repository_exists(repository).await? {
            return Ok(None);
        }
        let rows = sql("SELECT tag FROM tags WHERE repository = $1 AND tag > $2 ORDER BY tag LIMIT $3")
            .bind(repository.as_str())
            .bind(after)
            .bind(limit)
            .all(&self.db)
            .await?;
        Ok(Some(rows.iter().map(|row| row.get("tag")).collect::<Result<_, DbError>>()?))
    }
}

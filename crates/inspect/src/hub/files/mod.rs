//! How the files of two images differ. What each layer lists is kept sorted; the layers of both images are gone through
//! side by side, so that nothing of them is in memory but the places where they are.

mod compare;
mod list;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::inspect::{FILES_DIFFERENT_MAX, FilesDifference};
use oci::Digest;

use super::Service;
use super::error::Error;
use super::store::ImageRow;

pub(super) use list::Builder;

/// Bytes of lists that are compared at once.
const LISTS_BYTES_MAX: u64 = 256 << 20;

impl Service {
    /// How the files of the second image differ from those of the first.
    pub(super) async fn files_difference(&self, first: &ImageRow, second: &ImageRow) -> Result<FilesDifference, Error> {
        let not = |why: String| FilesDifference { not_compared: Some(why), ..FilesDifference::default() };
        let layers = (self.store().layers_of(first.number).await?, self.store().layers_of(second.number).await?);
        if layers.0 == layers.1 {
            return Ok(FilesDifference::default());
        }
        // What is compared lies in memory as it is kept.
        let _one = self.inner.comparing.lock().await;
        let mut lists: BTreeMap<Digest, Arc<Vec<u8>>> = BTreeMap::new();
        let mut bytes = 0_u64;
        for layer in layers.0.iter().chain(&layers.1) {
            if lists.contains_key(layer) {
                continue;
            }
            let Some(length) = self.store().layer_files_bytes(layer).await? else {
                return Ok(not(format!(
                    "the files of the layer {layer} are not listed: it has too many, or could not be read to its end"
                )));
            };
            bytes = bytes.saturating_add(length);
            if bytes > LISTS_BYTES_MAX {
                return Ok(not("the images have more files than are compared".to_owned()));
            }
            let list = self.store().layer_files(layer).await?.unwrap_or_default();
            lists.insert(*layer, Arc::new(list));
        }
        let shared = layers.0.iter().zip(&layers.1).take_while(|(one, other)| one == other).count();
        let compared = tokio::task::spawn_blocking(move || {
            let of = |layers: &[Digest], from: usize| -> Vec<Arc<Vec<u8>>> {
                layers.iter().skip(from).filter_map(|layer| lists.get(layer).map(Arc::clone)).collect()
            };
            let (mut below, first, second) = (of(&layers.0, 0), of(&layers.0, shared), of(&layers.1, shared));
            below.truncate(shared);
            compare::compare(&below, &first, &second, FILES_DIFFERENT_MAX)
        });
        Ok(match compared.await? {
            Ok(difference) => difference,
            Err(failed) => not(failed.to_string()),
        })
    }
}

//! The layers of an image as they are read, in any order. Each says no more than a layer may, and all of them together no
//! more than an image may.

use std::collections::BTreeMap;

use super::Layer;

/// Bytes of findings and paths that the layers of one image have at most.
pub const IMAGE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Layers by their place, or by another name. Where there is more than an image may have, the largest are left out and
/// told to be: in whatever order they come, the same.
#[derive(Debug)]
pub struct Gathering<K> {
    layers: BTreeMap<K, (u64, Layer)>,
    bytes: u64,
    bytes_max: u64,
}

impl<K: Ord + Clone> Default for Gathering<K> {
    fn default() -> Self {
        Self::new(IMAGE_BYTES_MAX)
    }
}

impl<K: Ord + Clone> Gathering<K> {
    fn new(bytes_max: u64) -> Self {
        Self { layers: BTreeMap::new(), bytes: 0, bytes_max }
    }

    /// Takes a layer.
    pub fn add(&mut self, key: K, layer: Layer) {
        let bytes = layer.bytes();
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some((before, _)) = self.layers.insert(key, (bytes, layer)) {
            self.bytes = self.bytes.saturating_sub(before);
        }
        while self.bytes > self.bytes_max {
            let largest = self.layers.iter_mut().max_by(|(a, (one, _)), (b, (other, _))| (one, a).cmp(&(other, b)));
            let Some((_, (bytes, layer))) = largest else { return };
            self.bytes = self.bytes.saturating_sub(*bytes);
            (*bytes, *layer) = (0, left_out(self.bytes_max));
        }
    }

    /// The layers, each under its name.
    pub fn finish(self) -> BTreeMap<K, Layer> {
        self.layers.into_iter().map(|(key, (_, layer))| (key, layer)).collect()
    }
}

fn left_out(bytes_max: u64) -> Layer {
    Layer::unread(&format!(
        "the layers of the image say more than is kept, over the limit of {bytes_max} bytes: what is in this one is left \
         out, and what it hides of the layers below stays visible"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::{Examined, Fact, Report};

    fn layer(bytes: usize) -> Layer {
        let facts = vec![Fact::BuildId("0".repeat(bytes))];
        let files = vec![Examined { chain: vec![b"x".to_vec()], facts }];
        Layer::only(Report { files, files_count: 1, sought_secrets: true })
    }

    #[test]
    fn a24_an_image_of_many_full_layers_is_bounded_and_says_so() {
        let sizes = [40_000, 10_000, 40_000, 30_000, 20_000, 100];
        let gathered = |order: &[usize]| {
            let mut gathering = Gathering::new(70_000);
            for at in order {
                gathering.add(*at, layer(sizes[*at]));
                assert!(gathering.bytes <= 70_000);
            }
            gathering.finish()
        };
        let first = gathered(&[0, 1, 2, 3, 4, 5]);
        let whys = |layer: &Layer| match layer.report.files[0].facts.as_slice() {
            [Fact::Unexamined(why)] => Some(why.clone()),
            _ => None,
        };
        let left_out: Vec<usize> = first.iter().filter(|(_, layer)| whys(layer).is_some()).map(|(at, _)| *at).collect();
        assert_eq!(left_out, [0, 2]);
        assert!(whys(&first[&0]).unwrap().contains("over the limit of 70000 bytes"));
        for order in [[5, 4, 3, 2, 1, 0], [2, 0, 4, 1, 5, 3], [3, 5, 0, 2, 4, 1]] {
            let other = gathered(&order);
            assert!(first.iter().zip(&other).all(|(one, other)| one.1.report == other.1.report), "{order:?}");
        }
    }
}

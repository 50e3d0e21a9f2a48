//! Which images have something: rows of images by number, as many in a row as a bucket has, packed. A row for each pair
//! of image and component would take ten times the room, and the time.

use super::super::packed::{Damaged, Reader, Writer};
use crate::component::Evidence;

/// Numbers of images in one row: a row of as many fits on a page or two.
pub(super) const BUCKET: i64 = 256;
/// Places that are kept of a component in an image.
pub(super) const PLACES_KEPT: usize = 3;
/// The bit of another name of an OS package.
const OWNED: u8 = 0x80;

/// What is said of one image in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Held {
    /// A component: what speaks for it, and where it lies: the layer and the path's number.
    Component {
        evidence: Evidence,
        /// Whether it is another name of an OS package.
        is_owned: bool,
        places: Vec<(Option<u32>, i64)>,
    },
    /// Something under a licence: the components' numbers, rising.
    Licensed(Vec<i64>),
}

/// Reads a row: numbers of images within the bucket, rising, each with what is said of it.
pub(super) fn read(subject: i64, bytes: &[u8]) -> Result<Vec<(u16, Held)>, Damaged> {
    let mut reader = Reader::new(bytes);
    let (mut images, mut last) = (Vec::new(), 0_u64);
    while !reader.is_at_end() {
        last = last.saturating_add(reader.number()?);
        let image = u16::try_from(last).map_err(|_| Damaged("the number of an image is too large"))?;
        let held = if subject > 0 {
            let head = reader.byte()?;
            let evidence = match head & 3 {
                0 => Evidence::Installed,
                1 => Evidence::Contained,
                2 => Evidence::Inferred,
                _ => return Err(Damaged("a class of evidence is not known")),
            };
            let count = usize::from(head >> 2 & 0x1f);
            let mut places = Vec::with_capacity(count);
            for _ in 0..count {
                let layer = reader.number()?.checked_sub(1).and_then(|layer| u32::try_from(layer).ok());
                places.push((layer, reader.number()?.cast_signed()));
            }
            Held::Component { evidence, is_owned: head & OWNED != 0, places }
        } else {
            Held::Licensed(reader.rising()?.into_iter().map(u64::cast_signed).collect())
        };
        images.push((image, held));
    }
    Ok(images)
}

/// Reads the numbers of a row alone, each with whether it is another name of an OS package there.
pub(super) fn scan(subject: i64, bytes: &[u8], mut each: impl FnMut(u16, bool)) -> Result<(), Damaged> {
    let mut reader = Reader::new(bytes);
    let mut last = 0_u64;
    while !reader.is_at_end() {
        last = last.saturating_add(reader.number()?);
        let image = u16::try_from(last).map_err(|_| Damaged("the number of an image is too large"))?;
        let (head, count) = if subject > 0 {
            let head = reader.byte()?;
            (head, 2 * usize::from(head >> 2 & 0x1f))
        } else {
            (0, reader.size()?)
        };
        for _ in 0..count {
            reader.number()?;
        }
        each(image, head & OWNED != 0);
    }
    Ok(())
}

/// Writes a row of images that rise.
pub(super) fn write(images: &[(u16, Held)]) -> Vec<u8> {
    let (mut writer, mut last) = (Writer::default(), 0);
    for (image, held) in images {
        writer.number(u64::from(image - last));
        last = *image;
        match held {
            Held::Component { evidence, is_owned, places } => {
                let places = places.get(..PLACES_KEPT.min(places.len())).unwrap_or_default();
                writer.byte(*evidence as u8 | (places.len() as u8) << 2 | if *is_owned { OWNED } else { 0 });
                for (layer, place) in places {
                    writer.number(layer.map_or(0, |layer| u64::from(layer) + 1));
                    writer.number(place.cast_unsigned());
                }
            }
            Held::Licensed(components) => {
                writer.rising(&components.iter().map(|id| id.cast_unsigned()).collect::<Vec<_>>());
            }
        }
    }
    writer.finish()
}

/// The row with an image put in, in place of what was said of it, or with none taken out.
pub(super) fn put(subject: i64, bytes: &[u8], image: u16, held: Option<Held>) -> Result<Vec<u8>, Damaged> {
    let mut images = read(subject, bytes)?;
    let at = images.partition_point(|(known, _)| *known < image);
    let is_known = images.get(at).is_some_and(|(known, _)| *known == image);
    match (held, is_known) {
        (Some(held), true) => {
            if let Some(known) = images.get_mut(at) {
                known.1 = held;
            }
        }
        (Some(held), false) => images.insert(at, (image, held)),
        (None, true) => {
            images.remove(at);
        }
        (None, false) => {}
    }
    Ok(write(&images))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn held(is_component: bool) -> BoxedStrategy<Held> {
        if is_component {
            let evidence = prop::sample::select(vec![Evidence::Installed, Evidence::Contained, Evidence::Inferred]);
            let places = prop::collection::vec((any::<Option<u16>>(), 0..1_i64 << 40), 0..PLACES_KEPT + 1);
            (evidence, any::<bool>(), places)
                .prop_map(|(evidence, is_owned, places)| {
                    let places = places.into_iter().map(|(layer, id)| (layer.map(u32::from), id)).collect();
                    Held::Component { evidence, is_owned, places }
                })
                .boxed()
        } else {
            prop::collection::btree_set(1..1_i64 << 40, 0..5)
                .prop_map(|ids| Held::Licensed(ids.into_iter().collect()))
                .boxed()
        }
    }

    proptest! {
        #[test]
        fn rows_hold_what_was_put_into_them(
            (is_component, changes) in any::<bool>().prop_flat_map(|is_component| {
                (Just(is_component), prop::collection::vec((0..BUCKET as u16, prop::option::of(held(is_component))), 0..40))
            }),
        ) {
            let subject = if is_component { 1 } else { -1 };
            let (mut row, mut model) = (Vec::new(), BTreeMap::new());
            for (image, held) in changes {
                row = put(subject, &row, image, held.clone()).unwrap();
                match held {
                    Some(held) => drop(model.insert(image, held)),
                    None => drop(model.remove(&image)),
                }
            }
            let mut scanned = Vec::new();
            scan(subject, &row, |image, is_owned| scanned.push((image, is_owned))).unwrap();
            let owned = |held: &Held| matches!(held, Held::Component { is_owned: true, .. });
            prop_assert_eq!(scanned, model.iter().map(|(image, held)| (*image, owned(held))).collect::<Vec<_>>());
            prop_assert_eq!(read(subject, &row).unwrap(), model.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn damaged_rows_are_told(bytes in prop::collection::vec(any::<u8>(), 0..60), subject in -1..2_i64) {
            let _ = scan(subject, &bytes, |_, _| ());
            let _ = read(subject, &bytes);
        }
    }
}

//! Which images have something: rows of images by number, as many in a row as a bucket has, packed. A row for each pair
//! of image and component would take ten times the room, and the time.

use super::super::packed::{Damaged, Reader, Writer};
use crate::component::Evidence;

/// Numbers of images in one row, of a component: a row of as many fits on a page or two.
const BUCKET: i64 = 1024;
/// And of a licence, under which an image has hundreds of components.
const BUCKET_LICENCE: i64 = 32;
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

const fn bucket_size(subject: i64) -> i64 {
    if subject > 0 { BUCKET } else { BUCKET_LICENCE }
}

/// The bucket of an image in the rows of a subject, and its number within.
pub(super) fn place(subject: i64, image: i64) -> Result<(i64, u16), Damaged> {
    let size = bucket_size(subject);
    let low = u16::try_from(image.rem_euclid(size)).map_err(|_| TOO_LARGE)?;
    Ok((image.div_euclid(size), low))
}

/// The image of that number within a bucket.
pub(super) fn image(subject: i64, bucket: i64, low: u16) -> i64 {
    bucket * bucket_size(subject) + i64::from(low)
}

const TOO_LARGE: Damaged = Damaged("the number of an image is too large");

/// The number of the next image of a row.
fn number(reader: &mut Reader<'_>, last: u64) -> Result<u16, Damaged> {
    u16::try_from(last.saturating_add(reader.number()?)).map_err(|_| TOO_LARGE)
}

fn held(subject: i64, reader: &mut Reader<'_>) -> Result<Held, Damaged> {
    if subject < 0 {
        return Ok(Held::Licensed(reader.rising()?.into_iter().map(u64::cast_signed).collect()));
    }
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
    Ok(Held::Component { evidence, is_owned: head & OWNED != 0, places })
}

/// Passes over what is said of an image, but for whether it is another name of an OS package.
fn skipped(subject: i64, reader: &mut Reader<'_>) -> Result<bool, Damaged> {
    let (head, count) = if subject > 0 {
        let head = reader.byte()?;
        (head, 2 * usize::from(head >> 2 & 0x1f))
    } else {
        (0, reader.size()?)
    };
    for _ in 0..count {
        reader.number()?;
    }
    Ok(head & OWNED != 0)
}

fn write(held: &Held, writer: &mut Writer) {
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

/// Reads of a row what is said of those images that are wanted, by their numbers within the bucket.
pub(super) fn read(
    subject: i64,
    bytes: &[u8],
    wanted: impl Fn(u16) -> bool,
    mut each: impl FnMut(u16, Held),
) -> Result<(), Damaged> {
    let mut reader = Reader::new(bytes);
    let mut last = 0;
    while !reader.is_at_end() {
        last = number(&mut reader, u64::from(last))?;
        if wanted(last) {
            each(last, held(subject, &mut reader)?);
        } else {
            skipped(subject, &mut reader)?;
        }
    }
    Ok(())
}

/// Reads the numbers of a row alone, each with whether it is another name of an OS package there.
pub(super) fn scan(subject: i64, bytes: &[u8], mut each: impl FnMut(u16, bool)) -> Result<(), Damaged> {
    let mut reader = Reader::new(bytes);
    let mut last = 0;
    while !reader.is_at_end() {
        last = number(&mut reader, u64::from(last))?;
        each(last, skipped(subject, &mut reader)?);
    }
    Ok(())
}

/// The row with something else said of one image, or nothing; what is said of others is copied.
pub(super) fn changed(
    subject: i64,
    bytes: &[u8],
    image: u16,
    change: impl FnOnce(Option<Held>) -> Option<Held>,
) -> Result<Vec<u8>, Damaged> {
    let mut reader = Reader::new(bytes);
    let (mut last, mut before) = (0, bytes.len());
    let mut known = None;
    let mut next = None;
    while !reader.is_at_end() {
        let begins = bytes.len() - reader.rest().len();
        let at = number(&mut reader, u64::from(last))?;
        if at < image {
            skipped(subject, &mut reader)?;
            last = at;
            continue;
        }
        before = begins;
        if at > image {
            next = Some(at);
        } else {
            known = Some(held(subject, &mut reader)?);
            if !reader.is_at_end() {
                next = Some(number(&mut reader, u64::from(at))?);
            }
        }
        break;
    }
    let mut writer = Writer::default();
    writer.raw(bytes.get(..before).unwrap_or_default());
    if let Some(held) = change(known) {
        writer.number(u64::from(image.saturating_sub(last)));
        write(&held, &mut writer);
        last = image;
    }
    if let Some(next) = next {
        writer.number(u64::from(next.saturating_sub(last)));
        writer.raw(reader.rest());
    }
    Ok(writer.finish())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn said(is_component: bool) -> BoxedStrategy<Held> {
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
                (Just(is_component), prop::collection::vec((0..40_u16, prop::option::of(said(is_component))), 0..60))
            }),
        ) {
            let subject = if is_component { 1 } else { -1 };
            let (mut row, mut model) = (Vec::new(), BTreeMap::new());
            for (image, held) in changes {
                let mut known = None;
                let put = held.clone();
                row = changed(subject, &row, image, |there| {
                    known = there;
                    put
                })
                .unwrap();
                let before = match held {
                    Some(held) => model.insert(image, held),
                    None => model.remove(&image),
                };
                prop_assert_eq!(known, before);
            }
            let mut scanned = Vec::new();
            scan(subject, &row, |image, is_owned| scanned.push((image, is_owned))).unwrap();
            let owned = |held: &Held| matches!(held, Held::Component { is_owned: true, .. });
            prop_assert_eq!(scanned, model.iter().map(|(image, held)| (*image, owned(held))).collect::<Vec<_>>());
            let mut some = Vec::new();
            read(subject, &row, |image| image % 3 != 0, |image, held| some.push((image, held))).unwrap();
            model.retain(|image, _| image % 3 != 0);
            prop_assert_eq!(some, model.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn each_image_has_one_place(subject in prop::sample::select(vec![1_i64, -1]), number in 0..1_i64 << 40) {
            let (bucket, low) = place(subject, number).unwrap();
            prop_assert_eq!(image(subject, bucket, low), number);
        }

        #[test]
        fn damaged_rows_are_told(bytes in prop::collection::vec(any::<u8>(), 0..60), subject in prop::sample::select(vec![1_i64, -1])) {
            let _ = scan(subject, &bytes, |_, _| ());
            let _ = read(subject, &bytes, |image| image % 2 == 0, |_, _| ());
            let _ = changed(subject, &bytes, 7, |_| None);
        }
    }
}

//! Which images have something: rows of images by number, as many in a row as a bucket has, as runs. What is said of each
//! is kept with the image: of thousands that have something, a page shows a few.

use super::super::packed::{Damaged, Reader, Writer};

/// Numbers of images in one row.
const BUCKET: i64 = 1 << 14;

/// Images in a row, one after the other, by their numbers within the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u16,
    /// The number after the last.
    pub(super) end: u16,
    /// Whether it is another name of an OS package in these.
    pub(super) is_owned: bool,
}

/// Of an image, by its number within the bucket: that it is not there, or whether it is another name of an OS package.
pub(super) type Change = (u16, Option<bool>);

/// The bucket of an image, and its number within.
pub(super) fn place(image: i64) -> (i64, u16) {
    (image.div_euclid(BUCKET), image.rem_euclid(BUCKET) as u16)
}

/// The image of that number within a bucket.
pub(super) fn image(bucket: i64, low: u16) -> i64 {
    bucket * BUCKET + i64::from(low)
}

/// Reads a row: how far each run is from the one before, how long it is, and its kind in the lowest bit.
pub(super) fn runs(bytes: &[u8]) -> Result<Vec<Run>, Damaged> {
    // A run takes two bytes at least.
    let (mut reader, mut runs, mut end) = (Reader::new(bytes), Vec::with_capacity(bytes.len() / 2), 0_u64);
    while !reader.is_at_end() {
        let first = end.saturating_add(reader.number()?);
        let length = reader.number()?;
        end = first.saturating_add(length >> 1);
        let low = |number: u64| match u16::try_from(number) {
            Ok(low) if i64::from(low) <= BUCKET => Ok(low),
            _ => Err(Damaged("the number of an image is too large")),
        };
        runs.push(Run { first: low(first)?, end: low(end)?, is_owned: length & 1 == 1 });
    }
    Ok(runs)
}

/// The row with something else said of some images.
pub(super) fn changed(bytes: &[u8], changes: &[Change]) -> Result<Vec<u8>, Damaged> {
    let mut runs = runs(bytes)?;
    for (image, kind) in changes {
        set(&mut runs, *image, *kind);
    }
    let (mut writer, mut end) = (Writer::default(), 0);
    let mut rest = runs.into_iter().peekable();
    while let Some(mut run) = rest.next() {
        while let Some(next) = rest.next_if(|next| next.first == run.end && next.is_owned == run.is_owned) {
            run.end = next.end;
        }
        writer.number(u64::from(run.first - end));
        writer.number(u64::from(run.end - run.first) << 1 | u64::from(run.is_owned));
        end = run.end;
    }
    Ok(writer.finish())
}

fn set(runs: &mut Vec<Run>, image: u16, kind: Option<bool>) {
    let at = runs.partition_point(|run| run.end <= image);
    let around = runs.get(at).copied().filter(|run| run.first <= image);
    let before = around.map(|run| Run { end: image, ..run }).filter(|run| run.first < run.end);
    let here = kind.map(|is_owned| Run { first: image, end: image + 1, is_owned });
    let after = around.map(|run| Run { first: image + 1, ..run }).filter(|run| run.first < run.end);
    runs.splice(at..at + usize::from(around.is_some()), [before, here, after].into_iter().flatten());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn listed(row: &[u8]) -> BTreeMap<u16, bool> {
        runs(row)
            .unwrap()
            .into_iter()
            .flat_map(|run| (run.first..run.end).map(move |low| (low, run.is_owned)))
            .collect()
    }

    proptest! {
        #[test]
        fn rows_hold_what_was_put_into_them(
            changes in prop::collection::vec(
                prop::collection::vec((0..40_u16, prop::option::of(any::<bool>())), 0..6), 0..20,
            ),
        ) {
            let (mut row, mut model) = (Vec::new(), BTreeMap::new());
            for changes in changes {
                row = changed(&row, &changes).unwrap();
                for (image, kind) in changes {
                    match kind {
                        Some(is_owned) => model.insert(image, is_owned),
                        None => model.remove(&image),
                    };
                }
                prop_assert_eq!(&listed(&row), &model);
            }
            // The same images are the same bytes, in whatever order they came.
            let all: Vec<_> = model.into_iter().map(|(image, is_owned)| (image, Some(is_owned))).collect();
            prop_assert_eq!(row, changed(&[], &all).unwrap());
        }

        #[test]
        fn each_image_has_one_place(number in 0..1_i64 << 40) {
            let (bucket, low) = place(number);
            prop_assert_eq!(image(bucket, low), number);
            prop_assert_eq!(listed(&changed(&[], &[(low, Some(true))]).unwrap()), BTreeMap::from([(low, true)]));
        }

        #[test]
        fn damaged_rows_are_told(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = runs(&bytes);
            let _ = changed(&bytes, &[(7, None), (9, Some(true))]);
        }
    }

    #[test]
    fn what_all_images_have_takes_a_few_bytes() {
        let all: Vec<_> = (0..BUCKET as u16).map(|image| (image, Some(false))).collect();
        assert_eq!(changed(&[], &all).unwrap().len(), 4);
    }
}

//! What an image has, packed: its components by number with what speaks for each and where it lies, and which of them are
//! under which licence.

use std::collections::{BTreeMap, BTreeSet};

use super::super::packed::{Damaged, Reader, Writer};
use crate::component::Evidence;

/// Places that are kept of a component in an image.
pub(super) const PLACES_KEPT: usize = 3;
/// The bit of another name of an OS package.
const OWNED: u8 = 0x80;
/// Components that are written together, so that who looks for some passes over all others at once.
const BLOCK: usize = 32;

/// What is said of a component in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Held {
    pub(in crate::hub) evidence: Evidence,
    /// Whether it is another name of an OS package.
    pub(in crate::hub) is_owned: bool,
    /// Layers, and numbers of chains of paths.
    pub(in crate::hub) places: Vec<(Option<u32>, i64)>,
}

/// What an image has of what is sought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::hub) struct Picked {
    /// How many components.
    pub(in crate::hub) count: u64,
    /// The first of them by number.
    pub(in crate::hub) first: Vec<(i64, Held)>,
}

/// What an image has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AllHeld {
    pub(super) components: BTreeMap<i64, Held>,
    /// The components under each licence.
    pub(super) licences: BTreeMap<i64, BTreeSet<i64>>,
}

impl AllHeld {
    /// Puts in what else is known of the same image.
    pub(super) fn extend(&mut self, other: Self) {
        self.components.extend(other.components);
        for (licence, components) in other.licences {
            self.licences.entry(licence).or_default().extend(components);
        }
    }

    /// What rows of the index are of, each with whether it is another name of an OS package: components by number, and
    /// licences by number below zero.
    pub(super) fn subjects(&self) -> impl Iterator<Item = (i64, bool)> + '_ {
        let components = self.components.iter().map(|(component, held)| (*component, held.is_owned));
        components.chain(self.licences.keys().map(|licence| (-licence, false)))
    }

    /// The licences come first: who looks for what is under one passes over the others.
    pub(super) fn write(&self) -> Vec<u8> {
        let at: BTreeMap<i64, u64> = self.components.keys().copied().zip(0..).collect();
        let mut writer = Writer::default();
        writer.each(&self.licences.iter().collect::<Vec<_>>(), |writer, (licence, components)| {
            let mut positions = Writer::default();
            positions.rising(&components.iter().filter_map(|component| at.get(component).copied()).collect::<Vec<_>>());
            writer.number(licence.cast_unsigned());
            writer.bytes(&positions.finish());
        });
        let all: Vec<(&i64, &Held)> = self.components.iter().collect();
        let mut last = 0;
        writer.each(&all.chunks(BLOCK).collect::<Vec<_>>(), |writer, block| {
            let begin = last;
            let mut within = Writer::default();
            for (component, held) in *block {
                within.number(component.wrapping_sub(last).cast_unsigned());
                last = **component;
                let places = held.places.get(..PLACES_KEPT.min(held.places.len())).unwrap_or_default();
                within.byte(held.evidence as u8 | (places.len() as u8) << 2 | if held.is_owned { OWNED } else { 0 });
                for (layer, place) in places {
                    within.number(layer.map_or(0, |layer| u64::from(layer) + 1));
                    within.number(place.cast_unsigned());
                }
            }
            // How far the block goes comes before what is in it.
            writer.number(last.wrapping_sub(begin).cast_unsigned());
            writer.bytes(&within.finish());
        });
        writer.finish()
    }
}

/// The rows of the index that an image is in: components by number, and licences by number below zero.
pub(super) fn subjects(bytes: &[u8]) -> Result<Vec<i64>, Damaged> {
    let mut reader = Reader::new(bytes);
    let mut subjects = reader.each(|reader| {
        let licence = reader.number()?.cast_signed();
        reader.bytes()?;
        Ok(licence.wrapping_neg())
    })?;
    let mut component = 0_i64;
    for _ in 0..reader.size()? {
        reader.number()?;
        let mut block = Reader::new(reader.bytes()?);
        while !block.is_at_end() {
            component = component.wrapping_add(block.number()?.cast_signed());
            skip(&mut block)?;
            subjects.push(component);
        }
    }
    Ok(subjects)
}

/// What is sought in an image.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted<'a> {
    /// These components.
    Components(&'a BTreeSet<i64>),
    /// Whatever is under a licence.
    Under(i64),
}

/// Of the components that are sought those that count, as many of them as the limit says.
pub(super) fn pick(
    bytes: &[u8],
    wanted: Wanted<'_>,
    limit: usize,
    counts: impl Fn(bool) -> bool,
) -> Result<Picked, Damaged> {
    let mut reader = Reader::new(bytes);
    let mut under = Vec::new();
    for _ in 0..reader.size()? {
        let licence = reader.number()?.cast_signed();
        let positions = reader.bytes()?;
        if matches!(wanted, Wanted::Under(known) if known == licence) {
            under = Reader::new(positions).rising()?;
        }
    }
    let mut positions = under.into_iter().peekable();
    let none = BTreeSet::new();
    let components = match wanted {
        Wanted::Components(components) => components,
        Wanted::Under(_) => &none,
    };
    let mut components = components.iter().peekable();
    let mut picked = Picked::default();
    let (mut component, mut position) = (0_i64, 0_u64);
    for _ in 0..reader.size()? {
        let (end, next) = (component.wrapping_add(reader.number()?.cast_signed()), position + BLOCK as u64);
        let mut block = Reader::new(reader.bytes()?);
        while components.next_if(|known| **known <= component).is_some() {}
        let is_passed =
            components.peek().is_none_or(|known| **known > end) && positions.peek().is_none_or(|known| *known >= next);
        if is_passed {
            (component, position) = (end, next);
            continue;
        }
        while !block.is_at_end() {
            component = component.wrapping_add(block.number()?.cast_signed());
            while components.next_if(|known| **known < component).is_some() {}
            let is_wanted = components.next_if(|known| **known == component).is_some()
                || positions.next_if(|known| *known == position).is_some();
            position += 1;
            if is_wanted && picked.first.len() < limit {
                let held = held(&mut block)?;
                if counts(held.is_owned) {
                    picked.count += 1;
                    picked.first.push((component, held));
                }
            } else {
                let is_owned = skip(&mut block)?;
                picked.count += u64::from(is_wanted && counts(is_owned));
            }
        }
    }
    Ok(picked)
}

fn held(reader: &mut Reader<'_>) -> Result<Held, Damaged> {
    let head = reader.byte()?;
    let evidence = match head & 3 {
        0 => Evidence::Installed,
        1 => Evidence::Contained,
        2 => Evidence::Inferred,
        _ => return Err(Damaged("a class of evidence is not known")),
    };
    let place = |reader: &mut Reader<'_>| {
        let layer = reader.number()?.checked_sub(1).and_then(|layer| u32::try_from(layer).ok());
        Ok((layer, reader.number()?.cast_signed()))
    };
    let places = (0..head >> 2 & 0x1f).map(|_| place(reader)).collect::<Result<_, Damaged>>()?;
    Ok(Held { evidence, is_owned: head & OWNED != 0, places })
}

/// Passes over what is said of a component, but for whether it is another name of an OS package.
fn skip(reader: &mut Reader<'_>) -> Result<bool, Damaged> {
    let head = reader.byte()?;
    for _ in 0..2 * (head >> 2 & 0x1f) {
        reader.number()?;
    }
    Ok(head & OWNED != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all() -> impl Strategy<Value = AllHeld> {
        let evidence = prop::sample::select(vec![Evidence::Installed, Evidence::Contained, Evidence::Inferred]);
        let places = prop::collection::vec((prop::option::of(any::<u16>().prop_map(u32::from)), 0..1_i64 << 40), 0..4);
        let held = (evidence, any::<bool>(), places);
        let held = held.prop_map(|(evidence, is_owned, places)| Held { evidence, is_owned, places });
        let components =
            prop::collection::btree_map(1..300_i64, (held, prop::collection::btree_set(1..4_i64, 0..3)), 0..100);
        components.prop_map(|all| {
            let mut known = AllHeld::default();
            for (component, (held, licences)) in all {
                known.components.insert(component, held);
                for licence in licences {
                    known.licences.entry(licence).or_default().insert(component);
                }
            }
            known
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_picked(
            known in all(), sought in prop::collection::btree_set(1..300_i64, 0..60), licence in 1..5_i64,
            limit in 0..20_usize, is_owned_counting in any::<bool>(),
        ) {
            let bytes = known.write();
            let counts = |is_owned: bool| is_owned_counting || !is_owned;
            let check = |wanted: Wanted<'_>, model: &BTreeSet<i64>| {
                let model: Vec<(i64, Held)> = known.components.iter()
                    .filter(|(component, held)| model.contains(component) && counts(held.is_owned))
                    .map(|(component, held)| (*component, held.clone()))
                    .collect();
                let picked = pick(&bytes, wanted, limit, counts).unwrap();
                let count = model.len() as u64;
                prop_assert_eq!(picked, Picked { count, first: model.into_iter().take(limit).collect() });
                Ok(())
            };
            check(Wanted::Components(&sought), &sought)?;
            check(Wanted::Under(licence), &known.licences.get(&licence).cloned().unwrap_or_default())?;
            let of = |subjects: Vec<i64>| subjects.into_iter().collect::<BTreeSet<_>>();
            prop_assert_eq!(of(subjects(&bytes).unwrap()), of(known.subjects().map(|(subject, _)| subject).collect()));
        }

        #[test]
        fn damaged_rows_are_told(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = subjects(&bytes);
            let _ = pick(&bytes, Wanted::Under(1), 3, |_| true);
            let _ = pick(&bytes, Wanted::Components(&BTreeSet::from([3, 4])), 3, |is_owned| !is_owned);
        }
    }
}

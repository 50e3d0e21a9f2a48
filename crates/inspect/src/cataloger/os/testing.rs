//! What tests of the catalogers share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::{Error, Fact, NOTES_MAX};
use crate::component::Component;

/// Everything that a file told.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Told {
    pub(crate) packages: Vec<Component>,
    /// Name and architecture, and the paths.
    pub(crate) owned: Vec<(String, Vec<String>)>,
    pub(crate) licences: Vec<(String, Vec<String>)>,
    /// Name, vendor and module.
    pub(crate) origins: Vec<(String, Option<String>, Option<String>)>,
    pub(crate) notes: Vec<(String, Error)>,
}

impl Told {
    pub(crate) fn of(read: impl FnOnce(&mut dyn FnMut(Fact<'_>))) -> Self {
        let mut told = Self::default();
        read(&mut |fact| match fact {
            Fact::Package(component) => told.packages.push(component),
            Fact::Owns { package, paths } => {
                let mut owned = Vec::new();
                paths.for_each(|path| owned.push(String::from_utf8_lossy(path).into_owned()));
                told.owned.push((named(package), owned));
            }
            Fact::Licence { package, licences } => told.licences.push((named(package), licences)),
            Fact::Origin { package, vendor, module } => {
                told.origins.push((package.name.to_owned(), vendor.map(str::to_owned), module.map(str::to_owned)));
            }
            Fact::Unexamined { what, why } => told.notes.push((what, why)),
        });
        assert!(told.notes.len() as u64 <= NOTES_MAX + 1, "{} notes", told.notes.len());
        told
    }

    /// One line a package: name, version, architecture, source, licences.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.packages.iter().map(line).collect()
    }

    pub(crate) fn whys(&self) -> Vec<String> {
        self.notes.iter().map(|(what, why)| format!("{what}: {why}")).collect()
    }
}

fn named(package: super::Package<'_>) -> String {
    package.architecture.map_or(package.name.to_owned(), |architecture| format!("{}:{architecture}", package.name))
}

fn line(component: &Component) -> String {
    let source = component.source.as_ref().map(|source| format!("{} {}", source.name, source.version));
    [
        component.name.as_str(),
        &component.version,
        component.architecture.as_deref().unwrap_or("-"),
        source.as_deref().unwrap_or("-"),
        &component.licences.join(" + "),
    ]
    .join("|")
}

/// One change to a file.
#[derive(Clone, Debug)]
pub(crate) enum Mutation {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    /// Four bytes that are a number in either order: a small one, a large one, or one that is near the file's own.
    Number(prop::sample::Index, u32),
    Cut(prop::sample::Index),
    /// Copies a part to another place.
    Splice(prop::sample::Index, prop::sample::Index, usize),
    Remove(prop::sample::Index, usize),
}

pub(crate) fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let index = any::<prop::sample::Index>;
    let number = prop_oneof![0_u32..40, Just(u32::MAX), Just(i32::MAX as u32), any::<u32>()];
    let number = (number, any::<bool>()).prop_map(|(number, swap)| if swap { number.swap_bytes() } else { number });
    let mutation = prop_oneof![
        2 => (index(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        3 => (index(), 0_u8..8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        3 => (index(), number).prop_map(|(at, number)| Mutation::Number(at, number)),
        1 => index().prop_map(Mutation::Cut),
        2 => (index(), index(), 1_usize..5000).prop_map(|(from, to, length)| Mutation::Splice(from, to, length)),
        1 => (index(), 1_usize..600).prop_map(|(at, length)| Mutation::Remove(at, length)),
    ];
    prop::collection::vec(mutation, 1..12)
}

pub(crate) fn mutated(original: &[u8], mutations: &[Mutation]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for mutation in mutations {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        match mutation {
            Mutation::Set(at, byte) => bytes[at.index(length)] = *byte,
            Mutation::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
            Mutation::Number(at, number) => {
                let at = at.index(length) & !1;
                for (place, byte) in bytes[at..].iter_mut().zip(number.to_le_bytes()) {
                    *place = byte;
                }
            }
            Mutation::Cut(at) => bytes.truncate(at.index(length)),
            Mutation::Splice(from, to, count) => {
                let (from, to) = (from.index(length), to.index(length));
                let part = bytes[from..length.min(from + count)].to_vec();
                for (place, byte) in bytes[to..].iter_mut().zip(part) {
                    *place = byte;
                }
            }
            Mutation::Remove(at, count) => {
                let at = at.index(length);
                bytes.drain(at..length.min(at + count));
            }
        }
    }
    bytes
}

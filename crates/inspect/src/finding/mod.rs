//! What is wrong with what an image holds: components are matched with advisories, and findings with what is stated on
//! them.
//!
//! All of this is pure. [`Gathered`] takes advisories from wherever they come, groups them into vulnerabilities and makes
//! [`Record`]s; [`Advisories`] are records ready to be matched. [`Advisories::matches`] says what is known of one
//! component by itself, which needs no image: ecosystem, name, version and distribution. [`examine`] does so for all
//! components of an image, and says which statements and ignore entries speak of what was found.
//!
//! A component is found by its normalised names: [`Package::names`] of the component and [`Advisory::names`] of an
//! advisory have one in common wherever the two are to be compared, so that a new advisory is compared with few of many
//! components. What names a component, and cannot be said to affect it or not, is [`Undecided`], and never nothing.
//!
//! [`Advisory::names`]: crate::advisory::osv::Advisory::names

mod advisories;
mod gathered;
mod image;
pub mod read;
mod record;
pub mod store;
#[cfg(test)]
mod tests;

pub use advisories::{Advisories, Hit, Matches, Undecided};
pub use gathered::{Gathered, RecordsError, Taken};
pub use image::{Against, IgnoreList, examine};
pub use record::{Data, Lists, Record, Source, Subject};

pub use crate::advisory::index::{Package, Scope};

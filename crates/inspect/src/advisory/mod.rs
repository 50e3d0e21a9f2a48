//! Advisories: what is known to be wrong with which versions of which packages.

pub mod aliases;
pub mod cvss;
pub mod epss;
pub mod index;
pub mod kev;
pub mod name;
pub mod osv;
pub mod place;
pub mod range;
pub mod severity;

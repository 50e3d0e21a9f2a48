//! Archives and compressed files: what they are, what they hold, and the one budget that bounds reading them.
//!
//! Everything but zip is read as a stream; zip needs [`Content`](crate::content::Content), which a [`Spool`] makes of a
//! stream. Nothing is ever written under a name that an archive states.

mod ahead;
pub mod ar;
mod budget;
pub mod cpio;
pub mod deb;
pub mod decompress;
mod error;
mod kind;
mod name;
pub mod rpm;
mod source;
mod spare;
mod spool;
mod stream;
pub mod zip;

#[cfg(test)]
mod tests;

pub use ahead::Ahead;
pub use budget::{Budget, Level, Limit, Limits, OverLimit};
pub use decompress::{Compression, Decoder};
pub use error::{Error, Format};
pub use kind::{HEAD_BYTES, Kind, kind};
pub use name::{UnsafeName, clean_name, escaped, excerpt};
pub use source::Source;
pub use spool::Spool;
pub use stream::Member;

//! What is inside an image.

pub mod advisory;
pub mod archive;
pub mod assemble;
mod bill;
pub mod cataloger;
pub mod component;
pub mod content;
pub mod document;
pub mod executable;
pub mod finding;
pub mod hub;
pub mod image;
pub mod layers;
pub mod licence;
pub mod local;
pub mod os_release;
pub mod path;
pub mod purl;
pub mod secret;
pub mod tar;
pub mod version;
pub mod walk;

//! `*.nuspec`, the manifest of a NuGet package: `package/metadata` with `id`, `version` and `license` or `licenseUrl`.

use super::xml::{Piece, Reader, attribute};
use crate::cataloger::Report;
use crate::cataloger::text::decode;
use crate::component::{Ecosystem, Evidence};

/// The depth at which the fields stand: within `package` and `metadata`.
const FIELD_DEPTH: usize = 3;
/// What `licenseUrl` says where `license` holds.
const URL_STAND_IN: &str = "https://aka.ms/deprecateLicenseUrl";

pub(super) fn read(bytes: &[u8]) -> Report {
    let mut report = Report::default();
    let text = decode(bytes);
    let mut reader = Reader::new(&text);
    let (mut id, mut version, mut licence, mut address) = (None, None, None, None);
    // Names are only compared, so a count stands for the stack of open tags.
    let (mut depth, mut in_metadata) = (0_usize, false);
    let mut field: Option<(&str, bool)> = None;
    let mut value = String::new();
    for piece in reader.by_ref() {
        match piece {
            Piece::Start { name, attributes, empty } => {
                if !empty {
                    depth += 1;
                }
                if depth == FIELD_DEPTH - 1 && !empty {
                    in_metadata = name == "metadata";
                }
                if depth == FIELD_DEPTH && in_metadata && !empty {
                    let is_file = attribute(attributes, "type").is_some_and(|kind| kind == "file");
                    field = Some((name, is_file));
                    value.clear();
                }
            }
            Piece::Text(text) => {
                if field.is_some() && depth == FIELD_DEPTH {
                    value.push_str(&text);
                }
            }
            Piece::End { .. } => {
                if depth == FIELD_DEPTH
                    && let Some((name, is_file)) = field.take()
                {
                    let value = value.trim().to_owned();
                    match name {
                        "id" => id = Some(value),
                        "version" => version = Some(value),
                        "license" if is_file => licence = Some(format!("file {value}")),
                        "license" => licence = Some(value),
                        "licenseUrl" if value != URL_STAND_IN => address = Some(value),
                        _ => {}
                    }
                }
                depth = depth.saturating_sub(1);
            }
        }
    }
    if reader.broken() {
        report.note("it ends within a tag or comment");
    }
    match (id, version) {
        (Some(id), Some(version)) if !id.is_empty() => {
            let licences = licence.or(address).into_iter().collect();
            report.add(Ecosystem::NuGet, Evidence::Contained, &id, &version, licences);
        }
        _ => report.note("it states no id or no version"),
    }
    report
}

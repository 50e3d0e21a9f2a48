//! How a workspace stands, service by service, and the proof that what runs is what the environment has.

use std::collections::{BTreeMap, BTreeSet};

use api::delivery::ReleaseId;
use engine::{ContainerState, ContainerSummary, Health, WantedContainer};
use oci::Digest;
use serde::Serialize;

use crate::plan::Observed;
use crate::state::KnownImages;
use crate::wanted::{Origin, Wanted, WantedService, place_of};

/// One container of a service, or a service that has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The service.
    pub service: String,
    /// The engine's id of its container.
    pub container: Option<String>,
    /// What it does.
    pub state: Option<ContainerState>,
    /// What its healthcheck says.
    pub health: Health,
    /// With what status it ended.
    pub exit_code: Option<i64>,
    /// The release that the environment has.
    pub release: Option<ReleaseId>,
    /// The release's image.
    pub digest: Option<Digest>,
    /// What was found out about where it comes from.
    pub proof: Proof,
}

/// Whether a container is what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// Its image follows from the release's digest, and it was made from the release's definition.
    Equal,
    /// It runs another image, or was made from another definition.
    Different {
        /// Which.
        what: String,
    },
    /// What the release's image is was never found out, and the hub cannot be asked.
    Unknown {
        /// Why.
        why: String,
    },
    /// From the checkout.
    Source {
        /// The sources changed since it was made.
        changed: bool,
    },
    /// From an image that the project names, for which the environment has no release.
    Image,
    /// It does not run.
    Absent,
}

/// All services that should be, each with its containers. `images` are the ids that follow from releases' digests;
/// `unknown` says why some could not be found out.
pub fn rows(
    wanted: &Wanted,
    observed: &Observed,
    images: &KnownImages,
    unknown: &BTreeMap<String, String>,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, service) in &wanted.services {
        for (index, container) in service.containers.iter().enumerate() {
            let here = observed
                .containers
                .values()
                .filter(|found| place_of(&found.labels) == Some((name.as_str(), index + 1)));
            let found: Vec<&ContainerSummary> = here.collect();
            let (release, digest) = match &service.origin {
                Origin::Release { id, image } => (Some(id.clone()), Some(image.digest)),
                Origin::Source(_) | Origin::Image { .. } => (None, None),
            };
            let row = |found: Option<&ContainerSummary>| Row {
                service: name.clone(),
                container: found.map(|found| found.id.clone()),
                state: found.map(|found| found.state),
                health: found.map_or(Health::None, |found| found.health),
                exit_code: found.and_then(|found| found.exit_code),
                release: release.clone(),
                digest,
                proof: found.map_or(Proof::Absent, |found| {
                    proof(service, container, found, images.get(&container.image), unknown.get(name))
                }),
            };
            if found.is_empty() {
                rows.push(row(None));
            }
            rows.extend(found.into_iter().map(|found| row(Some(found))));
        }
    }
    rows
}

fn proof(
    service: &WantedService,
    container: &WantedContainer,
    found: &ContainerSummary,
    ids: Option<&BTreeSet<String>>,
    unknown: Option<&String>,
) -> Proof {
    let same_definition = found.wanted_hash() == Some(container.hash().as_str());
    let same_image = ids.is_some_and(|ids| ids.contains(&found.image_id));
    match &service.origin {
        Origin::Source(_) => Proof::Source { changed: !same_definition },
        Origin::Image { .. } => Proof::Image,
        Origin::Release { .. } => match (ids, same_image, same_definition) {
            (Some(_), true, true) => Proof::Equal,
            (None, _, _) => Proof::Unknown { why: unknown.cloned().unwrap_or_default() },
            (_, false, _) => Proof::Different { what: "image".to_owned() },
            (_, true, false) => Proof::Different { what: "definition".to_owned() },
        },
    }
}

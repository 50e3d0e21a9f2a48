//! `longshore image rm`.

use api::Problem;
use client::ClientError;
use serde::Serialize;

use super::{Hub, Name, problem};
use crate::output;
use crate::reach::Global;

/// Remove tags and images from the hub's registry.
///
/// A tag goes alone: its image stays, by its digest and its other tags. A digest takes the image's tags along. What a
/// release, an environment or an index of several platforms needs is kept, and so is what a rule protects. The bytes of
/// what nothing needs any longer are collected after a grace period.
#[derive(clap::Args)]
pub(in crate::commands) struct Args {
    /// What to remove
    #[arg(value_name = "REPOSITORY:TAG|REPOSITORY@DIGEST", required = true, value_parser = pinned)]
    images: Vec<Name>,
}

/// Neither a whole repository nor `latest` is meant by leaving out the rest.
fn pinned(text: &str) -> Result<Name, String> {
    let name: Name = text.parse()?;
    match (&name.tag, &name.digest) {
        (Some(_), None) | (None, Some(_)) => Ok(name),
        (Some(_), Some(_)) => Err("write a tag or a digest, not both".to_owned()),
        (None, None) => Err("write REPOSITORY:TAG or REPOSITORY@DIGEST".to_owned()),
    }
}

/// What became of one image.
#[derive(Serialize)]
struct Removed {
    image: String,
    removed: bool,
    /// What the tag led to.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<oci::Digest>,
    /// Why it was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<String>,
}

pub(super) async fn run(global: &Global, args: Args) -> api::Result<()> {
    let hub = Hub::of(global)?;
    let client = hub.client()?;
    let is_one = args.images.len() == 1;
    let (mut all, mut first): (Vec<Removed>, Option<Problem>) = (Vec::new(), None);
    for name in args.images {
        let repository = hub.repository(name.repository.clone())?;
        let (shown, reference) = match (name.tag, name.digest) {
            (Some(tag), _) => (format!("{}:{tag}", name.repository), repository.with_tag(tag)),
            (None, Some(digest)) => (format!("{}@{digest}", name.repository), repository.with_digest(digest)),
            // `pinned` lets no other pass.
            (None, None) => continue,
        };
        let led_to = match reference.tag() {
            Some(_) => client.manifest_head(&reference).await.map_err(problem)?.map(|head| head.digest),
            None => None,
        };
        let refused = match client.manifest_delete(&reference).await {
            Ok(true) => None,
            Ok(false) => Some(
                Problem::new(404, "image-unknown", "There is no such image")
                    .detail(shown.clone())
                    .hint(format!("`longshore image ls {}` shows what there is.", name.repository)),
            ),
            Err(error @ ClientError::Unreachable { .. }) => return Err(problem(error)),
            Err(ClientError::Status { status, message, .. }) => {
                Some(Problem::new(status, "image-kept", "The hub keeps it").detail(format!("{shown}: {message}")))
            }
            Err(error) => Some(problem(error)),
        };
        if !global.json {
            match (&refused, &led_to) {
                (None, Some(digest)) => output::line(&format!("removed {shown}; its image stays as @{digest}")),
                (None, None) => output::line(&format!("removed {shown} with its tags")),
                // Of a single one the problem itself is told.
                (Some(_), _) if is_one => {}
                (Some(refused), _) => output::note(&format!("kept {}", detail_or_title(refused, &shown))),
            }
        }
        let kept = refused.as_ref().map(|refused| detail_or_title(refused, &shown));
        all.push(Removed { image: shown, removed: refused.is_none(), digest: led_to, kept });
        first = first.or(refused);
    }
    if global.json {
        output::json(&all)?;
    } else if all.iter().any(|image| image.removed) {
        output::note("Bytes that nothing needs any longer are collected after the grace period.");
    }
    first.map_or(Ok(()), Err)
}

fn detail_or_title(problem: &Problem, shown: &str) -> String {
    if problem.detail.starts_with(shown) && problem.detail != shown {
        problem.detail.clone()
    } else {
        format!("{shown}: {}", problem.title.to_lowercase())
    }
}

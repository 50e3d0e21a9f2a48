//! What speaks for a component and where it lies: in which layer, along which chain of paths.

use api::inspect::{Evidence, Place};
use maud::{Markup, html};

use crate::words::{and_more, plain};

/// Places that are open; more are folded away.
const PLACES_OPEN_MAX: usize = 2;
/// Places that are named at all; the others are counted.
const PLACES_NAMED_MAX: usize = 30;
/// Files within files that are named; those between are left out.
const CHAIN_MAX: usize = 8;
/// The longest path that is shown whole, in characters.
const PATH_CHARS_MAX: usize = 160;

/// What speaks for a component.
pub(crate) fn evidence(evidence: Evidence) -> Markup {
    let (word, title) = match evidence {
        Evidence::Installed => ("installed", "A package manager recorded it, or the compiler wrote it down."),
        Evidence::Contained => ("contained", "Its own archive, files or lock file are there."),
        Evidence::Inferred => ("inferred", "Concluded from names, fingerprints or version strings."),
    };
    html! { span.tag.word title=(title) { (word) } }
}

/// Where something lies. `here` is the image's page, where layers can be opened.
pub(crate) fn places(places: &[Place], here: Option<&str>) -> Markup {
    let (open, folded) = places.split_at(places.len().min(PLACES_OPEN_MAX));
    html! {
        @if places.is_empty() { span.none { "not recorded" } }
        @else { ul.places { @for place in open { li { (chain(place, here)) } } } }
        @if !folded.is_empty() {
            details {
                summary { (and_more(folded.len())) }
                ul.places { @for place in folded.iter().take(PLACES_NAMED_MAX) { li { (chain(place, here)) } } }
                @if folded.len() > PLACES_NAMED_MAX { p.small { (and_more(folded.len() - PLACES_NAMED_MAX)) } }
            }
        }
    }
}

/// One place: the layer, the file, the file within it, and so on.
pub(crate) fn chain(place: &Place, here: Option<&str>) -> Markup {
    let length = place.chain.len();
    let is_shown = |at: usize| length <= CHAIN_MAX || at < CHAIN_MAX / 2 || at + CHAIN_MAX / 2 >= length;
    html! {
        @if let Some(layer) = place.layer {
            @let number = u64::from(layer) + 1;
            @match here {
                Some(here) => a.small href={ (here) "/inside?layer=" (number) } { "layer " (number) },
                None => span.small { "layer " (number) },
            }
            " "
        }
        @for (at, path) in place.chain.iter().enumerate() {
            @if is_shown(at) {
                @if at > 0 { (within()) }
                code { (plain(path, PATH_CHARS_MAX)) }
            } @else if at == CHAIN_MAX / 2 { (within()) span.small { (and_more(length - CHAIN_MAX)) } }
        }
    }
}

fn within() -> Markup {
    html! { span.aside { " holds " } span.within aria-hidden="true" { " › " } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_told_from_the_outermost_file_and_bounded() {
        let place = |length: usize| Place { layer: Some(2), chain: (0..length).map(|at| format!("f{at}")).collect() };
        let html = chain(&place(3), Some("/images/a@b")).into_string();
        assert!(html.contains(r#"<a class="small" href="/images/a@b/inside?layer=3">layer 3</a>"#), "{html}");
        let files: Vec<&str> = html.split("<code>").skip(1).map(|part| part.split('<').next().unwrap()).collect();
        assert_eq!(files, ["f0", "f1", "f2"]);
        let html = chain(&place(5_000), None).into_string();
        assert_eq!(html.matches("<code>").count(), CHAIN_MAX);
        assert!(html.contains("and 4,992 more") && html.contains("f4999"), "{html}");
        let many: Vec<Place> = (0..5_000).map(|_| place(1)).collect();
        let html = places(&many, None).into_string();
        assert_eq!(html.matches("<li>").count(), PLACES_OPEN_MAX + PLACES_NAMED_MAX);
    }
}

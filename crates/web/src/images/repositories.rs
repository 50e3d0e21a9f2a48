//! Repositories, found by a part of their name.

use api::images::{LISTED_MAX, RepositoryBrief};
use api::{Micros, Page};
use maud::{Markup, html};

use super::{commands, path, with_query};
use crate::words::{count, since};

/// The page's `<main>`.
pub(crate) fn main(search: &str, page: &Page<RepositoryBrief>, registry: &str, now: Micros) -> Markup {
    html! {
        h1 { "Images" }
        form.search action="/images" method="get" role="search" {
            input type="search" name="search" value=(search) aria-label="Part of a name" placeholder="Part of a name";
            button type="submit" { "Search" }
        }
        @if !page.items.is_empty() {
            (table(page, now))
        } @else if search.is_empty() {
            section {
                h2 { "No image yet" }
                p { "Push one, or build an app; it is listed here at once:" }
                (commands(&format!("docker tag IMAGE {registry}/NAME:TAG\ndocker push {registry}/NAME:TAG")))
                p { "Or bring in what another registry has, with its tags and signatures:" }
                (commands("longshore image import HOST/PREFIX --to PREFIX"))
            }
        } @else {
            p { "No repository has “" (search) "” in its name. " a href="/images" { "All repositories" } }
        }
        @if let Some(next) = &page.next {
            nav.pages aria-label="Pages" {
                a rel="next" href=(with_query("/images", &[("search", search), ("after", next)])) { "Next page" }
            }
        }
    }
}

fn table(page: &Page<RepositoryBrief>, now: Micros) -> Markup {
    html! {
        table.list role="table" aria-label="Repositories" {
            thead role="rowgroup" { tr role="row" {
                th role="columnheader" scope="col" { "Repository" }
                th role="columnheader" scope="col" { "Newest tag" }
                th role="columnheader" scope="col" { "Pushed" }
                th.number role="columnheader" scope="col" { "Tags" }
            } }
            tbody role="rowgroup" {
                @for repository in &page.items {
                    tr role="row" {
                        th role="rowheader" scope="row" { a href=(path(&repository.name)) { (repository.name) } }
                        td role="cell" data-label="Newest tag" {
                            @match &repository.newest {
                                Some(tag) => a href=(path(&format_args!("{}:{tag}", repository.name))) { (tag) },
                                None => span.none { "none" },
                            }
                        }
                        td role="cell" data-label="Pushed" {
                            @match repository.tagged_at {
                                Some(at) => span { (since(at, now)) " ago" },
                                None => span.none { "never" },
                            }
                        }
                        td.number role="cell" data-label="Tags" { span { (tags_words(repository)) } }
                    }
                }
            }
        }
    }
}

/// How many tags a repository has, as far as they are counted.
pub(crate) fn tags_words(repository: &RepositoryBrief) -> String {
    let number = usize::try_from(repository.tags).unwrap_or(usize::MAX);
    if repository.tags >= u64::from(LISTED_MAX) { format!("{} or more", count(number)) } else { count(number) }
}

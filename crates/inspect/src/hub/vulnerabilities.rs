//! What a file of advisories says of vulnerabilities as a whole, and which of them are worse than a file before said.

use std::collections::{BTreeMap, HashMap, HashSet};

use api::Micros;
use api::inspect::Severity;

use super::error::Error;
use super::findings::{severity_of, unusable};
use super::store::{Reason, Vulnerability, Worse};
use crate::advisory::severity::{Assessment, Severity as Rated};
use crate::finding::{Lists, Record};

/// Who rates a vulnerability: those who speak of it alone before notices on several, which rate the worst of them.
#[derive(Default)]
struct Ratings {
    own: Option<Rated>,
    notice: Option<Rated>,
}

impl Ratings {
    fn note(&mut self, rated: Rated, is_notice: bool) {
        let known = if is_notice { &mut self.notice } else { &mut self.own };
        if rated.rank() > known.and_then(Rated::rank) {
            *known = Some(rated);
        }
    }

    fn severity(&self) -> Rated {
        self.own.or(self.notice).unwrap_or_default()
    }
}

/// The vulnerabilities of which one of these names is one, from all that records say of each.
pub(super) fn of(
    records: &[Record],
    lists: &Lists,
    named: &HashSet<&String>,
) -> Result<BTreeMap<String, Vulnerability>, Error> {
    let mut all: BTreeMap<String, (Vulnerability, Ratings)> = BTreeMap::new();
    for record in records {
        let of = record.subjects.iter().filter(|subject| subject.ids.iter().any(|id| named.contains(id)));
        let mut of = of.peekable();
        if of.peek().is_none() {
            continue;
        }
        let advisory = record.advisory().map_err(unusable)?;
        let rated = advisory.assessment(0).severity;
        let is_notice = record.subjects.iter().all(|subject| !subject.ids.contains(&advisory.id));
        for subject in of {
            let Some(id) = subject.ids.first() else { continue };
            let (one, ratings) = all.entry(id.clone()).or_insert_with(|| {
                let one = Vulnerability {
                    id: id.clone(),
                    names: subject.ids.clone(),
                    summary: String::new(),
                    severity: String::new(),
                    known_exploited: subject.ids.iter().any(|id| lists.exploited.contains_key(id)),
                    published: None,
                };
                (one, Ratings::default())
            });
            if !one.names.contains(&advisory.id) {
                one.names.push(advisory.id.clone());
            }
            if one.summary.is_empty() {
                one.summary.clone_from(&advisory.summary);
            }
            ratings.note(rated, is_notice);
            if let Some(rating) = &subject.rating {
                ratings.note(Assessment::from_text(rating).severity, false);
            }
            let published = advisory.published.map(|time| Micros(time.as_microsecond()));
            one.published = [one.published, published].into_iter().flatten().min();
        }
    }
    let rated = |(id, (one, ratings)): (String, (Vulnerability, Ratings))| {
        (id, Vulnerability { severity: ratings.severity().as_str().to_owned(), ..one })
    };
    Ok(all.into_iter().map(rated).collect())
}

/// Which of the later ones were known before, by any name, and are worse than they were.
pub(super) fn worse(before: &BTreeMap<String, Vulnerability>, after: &BTreeMap<String, Vulnerability>) -> Vec<Worse> {
    let by_name: HashMap<&String, &Vulnerability> =
        before.values().flat_map(|one| one.names.iter().map(move |name| (name, one))).collect();
    let mut worse = Vec::new();
    for one in after.values() {
        let known: Vec<&Vulnerability> = one.names.iter().filter_map(|name| by_name.get(name).copied()).collect();
        let Some(was) = known.iter().map(|known| severity_of(&known.severity)).max() else { continue };
        let mut note = |reason| worse.push(Worse { id: one.id.clone(), reason, was });
        if one.known_exploited && known.iter().all(|known| !known.known_exploited) {
            note(Reason::Exploited);
        }
        if severity_of(&one.severity) > was {
            note(Reason::Severity);
        }
    }
    worse
}

/// The word of a severity, as [`severity_of`] reads it.
pub(super) const fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Negligible => "negligible",
        Severity::Low => "low",
        Severity::Unknown => "unknown",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

//! News of advisories: what a file of them changed for what is known here is recorded once, and sent to the webhook until
//! it is taken or given up.
//!
//! What changed is noted with the transaction that makes it known, and told when all components were compared; one
//! transaction records the alerts and takes the notes away. An image's first comparison is no news: whoever pushes it sees
//! what is wrong with it. Nor is an advisory in an image for which somebody stated that it does not matter there; where
//! vulnerabilities are counted and not told one by one, nobody looks for that.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::inspect::{AdvisoryNews, Alert, AlertImage, AlertReason, AlertRunning, News, Severity, SummaryNews};
use api::{AppName, EnvName, Micros, Page, ServiceName};
use base::lease::Fence;
use base::page::PageRequest;
use base::tasks::Progress;
use uuid::Uuid;

use super::Service;
use super::error::Error;
use super::examined::Haste;
use super::findings::{Known, severity_of};
use super::numbers::Numbers;
use super::store::{Key, Message, OwnedIn, Pending, Reason, Seek, Sent, State, Vulnerability};
use super::webhook::Outcome;
use crate::assemble::id;

#[cfg(test)]
mod tests;

/// Rows that are told at once.
const PENDING_MAX: u32 = 200_000;
/// Vulnerabilities that are told one by one at once; the rest is counted in one alert.
const ALERTS_MAX: usize = 100;
/// Images of which somebody states something that are looked at for an alert: in them the vulnerability may be lifted.
const VOICED_LOOKED_AT: usize = 500;
/// Images that an alert names.
const IMAGES_SHOWN: usize = 20;
/// Components that an alert names.
const COMPONENTS_SHOWN: usize = 20;
/// Environments of services that an alert names.
const RUNNING_SHOWN: usize = 50;
/// Versions with a fix that an alert names.
const FIXED_SHOWN: usize = 20;
/// Vulnerabilities that a summary names.
const IDS_SHOWN: usize = 200;
/// Running images of which it is looked up where they run.
const RUNNING_MAX: usize = 5_000;
/// Components whose images are looked up at once.
const COMPONENTS_AT_ONCE: usize = 20;
/// Components that are listed at once.
const PAGE: u32 = 1_000;

/// How long a message that failed waits at first; twice as long each further time.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
/// How long it waits at most.
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// After so long, and so many tries, a message is given up that nobody takes.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(24 * 3600);
const GIVEN_UP_TRIES: u32 = 8;
/// A message that the receiver refuses is given up sooner: others wait behind it.
const REFUSALS_MAX: u32 = 5;

/// What is known of all images.
struct Portfolio<'o> {
    /// Those that run.
    used: Numbers,
    /// Those of which somebody states something.
    voiced: Numbers,
    owned_in: &'o OwnedIn,
}

/// What images have, of some components.
#[derive(Default)]
struct Affected {
    images: Numbers,
    /// Components that some image has.
    components: BTreeSet<i64>,
}

impl Service {
    /// Records what the last file of advisories changed, once all components were compared with it.
    pub(super) async fn alerts_record(&self, fence: Fence, known: &Arc<Known>) -> Result<Progress, Error> {
        let Some((pending, last)) = self.store().alerts_pending(PENDING_MAX).await? else {
            return Ok(Progress::Done);
        };
        let news = self.news(pending, &self.owned_in(known).await?).await?;
        let count = news.len();
        let alerts = news.into_iter().map(|news| (Uuid::now_v7().to_string(), news)).collect();
        let (is_sent, now) = (self.inner.config.webhook.is_some(), self.now());
        if self.store().alerts_record(fence, known.version, last, alerts, is_sent, now).await? && count > 0 {
            tracing::info!(alerts = count, "advisories affect what is known here");
            self.inner.sending.wake();
            self.changed();
        }
        Ok(Progress::More)
    }

    /// What is to be told, the worst first, and what is counted alone last.
    async fn news(&self, mut pending: HashMap<String, Pending>, owned_in: &OwnedIn) -> Result<Vec<News>, Error> {
        if pending.remove("").is_some() {
            // Whatever else changed since is among the first advisories.
            return Ok(self.first_summary(owned_in).await?.into_iter().map(News::Summary).collect());
        }
        let ids: Vec<String> = pending.keys().cloned().collect();
        let mut known = self.store().vulnerabilities_of(&ids).await?;
        known.sort_by(|a, b| rank(a).cmp(&rank(b)));
        let portfolio =
            Portfolio { used: self.store().images_used().await?, voiced: self.store().voiced().await?, owned_in };
        let mut news = Vec::new();
        let mut rest: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for (at, one) in known.iter().enumerate() {
            let Some(pending) = pending.remove(&one.id) else { continue };
            let (reasons, affected) = self.affected(one, &pending).await?;
            if reasons.is_empty() {
                continue;
            }
            if news.len() < ALERTS_MAX {
                news.extend(self.advisory_news(one, reasons, &affected, &portfolio).await?.map(News::Advisory));
            } else {
                affected.keys().for_each(|component| rest.entry(*component).or_default().push(at));
            }
        }
        let (mut images, mut counted) = (Numbers::default(), BTreeSet::new());
        let components: Vec<i64> = rest.keys().copied().collect();
        for chunk in components.chunks(COMPONENTS_AT_ONCE) {
            let holders = self.holders_of(chunk, owned_in).await?;
            images.extend(&holders.images);
            counted.extend(holders.components.iter().filter_map(|component| rest.get(component)).flatten().copied());
        }
        let counted: Vec<&Vulnerability> = counted.into_iter().filter_map(|at| known.get(at)).collect();
        news.extend(summary(false, &counted, images.len()).map(News::Summary));
        Ok(news)
    }

    /// What the first file of advisories says of what is known here.
    async fn first_summary(&self, owned_in: &OwnedIn) -> Result<Option<SummaryNews>, Error> {
        let (mut images, mut ids) = (Numbers::default(), BTreeSet::new());
        let mut after = 0;
        loop {
            let page = self.store().affected_after(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = *last;
            for chunk in page.chunks(COMPONENTS_AT_ONCE) {
                let holders = self.holders_of(chunk, owned_in).await?;
                images.extend(&holders.images);
                let components: Vec<i64> = holders.components.into_iter().collect();
                ids.extend(self.store().affecting(&components).await?);
            }
        }
        let ids: Vec<String> = ids.into_iter().collect();
        let mut known = self.store().vulnerabilities_of(&ids).await?;
        known.sort_by(|a, b| rank(a).cmp(&rank(b)));
        Ok(summary(true, &known.iter().collect::<Vec<_>>(), images.len()))
    }

    /// Why a vulnerability is news, and which components it is about with the versions that are not affected any more.
    async fn affected(
        &self,
        one: &Vulnerability,
        pending: &Pending,
    ) -> Result<(Vec<AlertReason>, BTreeMap<i64, Vec<String>>), Error> {
        let mut affected = self.store().affected_by(&one.id).await?;
        let reason = |(reason, was): (&Reason, &Severity)| match reason {
            Reason::Affected => pending
                .components
                .iter()
                .any(|component| affected.contains_key(component))
                .then_some(AlertReason::Affected),
            // It may have been taken back by a later file.
            Reason::Exploited => one.known_exploited.then_some(AlertReason::Exploited),
            Reason::Severity => (severity_of(&one.severity) > *was).then_some(AlertReason::Severity { before: *was }),
            Reason::First => None,
        };
        let reasons: Vec<AlertReason> = pending.reasons.iter().filter_map(reason).collect();
        if reasons == [AlertReason::Affected] {
            affected.retain(|component, _| pending.components.contains(component));
        }
        Ok((reasons, affected))
    }

    /// Which images have these components, but as other names of OS packages: advisories speak of the packages.
    async fn holders_of(&self, components: &[i64], owned_in: &OwnedIn) -> Result<Affected, Error> {
        let holders = self.store().holders(&Seek::Components(components.to_vec()), owned_in.clone()).await?;
        Ok(Affected { images: holders.images, components: holders.subjects })
    }

    /// An alert on one vulnerability; none where no image has what it affects.
    async fn advisory_news(
        &self,
        one: &Vulnerability,
        reasons: Vec<AlertReason>,
        affected: &BTreeMap<i64, Vec<String>>,
        portfolio: &Portfolio<'_>,
    ) -> Result<Option<AdvisoryNews>, Error> {
        let Portfolio { used, owned_in, .. } = portfolio;
        let mut holders = Affected::default();
        let components: Vec<i64> = affected.keys().copied().collect();
        for chunk in components.chunks(COMPONENTS_AT_ONCE) {
            let Affected { images, components } = self.holders_of(chunk, owned_in).await?;
            holders.images.extend(&images);
            holders.components.extend(components);
        }
        let lifted = self.lifted_in(&one.id, &holders.images, &portfolio.voiced).await?;
        holders.images = holders.images.falling(&lifted, false).collect();
        if holders.images.len() == 0 {
            return Ok(None);
        }
        let running: Vec<i64> = holders.images.falling(used, true).take(RUNNING_MAX).collect();
        let idle = holders.images.falling(used, false);
        let shown_images: Vec<i64> = running.iter().copied().chain(idle).take(IMAGES_SHOWN).collect();
        let running = self.running(&running).await?;
        let shown: Vec<i64> = holders.components.iter().copied().take(COMPONENTS_SHOWN).collect();
        let keys = self.store().keys(&shown).await?;
        let mut fixed_in: Vec<String> = Vec::new();
        for fixed in holders.components.iter().filter_map(|component| affected.get(component)).flatten() {
            if fixed_in.len() < FIXED_SHOWN && !fixed_in.contains(fixed) {
                fixed_in.push(fixed.clone());
            }
        }
        Ok(Some(AdvisoryNews {
            id: one.id.clone(),
            aliases: one.names.iter().filter(|name| **name != one.id).cloned().collect(),
            summary: Some(one.summary.clone()).filter(|summary| !summary.is_empty()),
            severity: severity_of(&one.severity),
            known_exploited: one.known_exploited,
            published: one.published,
            reasons,
            fixed_in,
            components: shown.iter().filter_map(|component| Some(id(&Key::component(keys.get(component)?)))).collect(),
            components_count: holders.components.len() as u64,
            images: self.alert_images(&shown_images).await?,
            images_count: holders.images.len(),
            running_count: running.len() as u64,
            running: running.into_iter().take(RUNNING_SHOWN).collect(),
        }))
    }

    /// In which images a vulnerability is lifted wherever it is found.
    async fn lifted_in(&self, id: &str, images: &Numbers, voiced: &Numbers) -> Result<Numbers, Error> {
        let asked: Vec<i64> = images.falling(voiced, true).take(VOICED_LOOKED_AT).collect();
        let mut lifted = Numbers::default();
        for (number, row) in self.store().images(&asked).await? {
            let examined = match self.look_at(&row.digest, Haste::Aside).await {
                Ok(examined) => examined,
                Err(error @ Error::Db(_)) => return Err(error),
                // What cannot be looked at is affected, as far as anybody knows.
                Err(_) => continue,
            };
            let mut found = examined.findings.iter().filter(|finding| finding.id == id).peekable();
            if found.peek().is_some() && found.all(|finding| finding.lifted) {
                lifted.insert(number);
            }
        }
        Ok(lifted)
    }

    /// Images by number, as alerts name them.
    async fn alert_images(&self, numbers: &[i64]) -> Result<Vec<AlertImage>, Error> {
        let rows = self.store().images(numbers).await?;
        let digests: Vec<_> = rows.values().map(|row| row.digest).collect();
        let repositories = self.store().repositories(&digests).await?;
        let places: Vec<_> =
            digests.iter().filter_map(|digest| Some((repositories.get(digest)?.clone(), *digest))).collect();
        let tags = self.inner.registry.tags_leading_to(&places).await?;
        let image = |number: &i64| {
            let row = rows.get(number).filter(|row| row.state == State::Done)?;
            let place = (repositories.get(&row.digest)?.clone(), row.digest);
            let tag = tags.get(&place).and_then(|tags| tags.first()).map(ToString::to_string);
            Some(AlertImage { repository: place.0, digest: place.1, tag })
        };
        Ok(numbers.iter().filter_map(image).collect())
    }

    /// Where images run, by number.
    async fn running(&self, numbers: &[i64]) -> Result<Vec<AlertRunning>, Error> {
        let digests: Vec<_> = self.store().images(numbers).await?.into_values().map(|row| row.digest).collect();
        let releases = self.store().releases(&digests).await?;
        let ids: BTreeSet<_> = releases.iter().map(|release| release.release.clone()).collect();
        let exposures = self.store().exposures(&ids.into_iter().collect::<Vec<_>>(), false).await?;
        let mut hosts: BTreeMap<(&EnvName, &AppName, &ServiceName), HashSet<&str>> = BTreeMap::new();
        for release in &releases {
            for exposed in exposures.get(&release.release).into_iter().flatten() {
                let known = hosts.entry((&exposed.env, &release.app, &release.service)).or_default();
                known.extend(exposed.hosts.iter().map(|host| host.as_str()));
            }
        }
        let running =
            |((env, app, service), hosts): ((&EnvName, &AppName, &ServiceName), HashSet<&str>)| AlertRunning {
                app: app.clone(),
                service: service.clone(),
                environment: env.clone(),
                hosts: hosts.len() as u64,
            };
        Ok(hosts.into_iter().map(running).collect())
    }

    pub(super) async fn alerts_page(&self, page: &PageRequest) -> Result<Page<Alert>, Error> {
        let after = page.after.as_deref().map(cursor).transpose()?;
        let alerts = self.store().alerts(after, page.limit.saturating_add(1)).await?;
        Ok(Page::from_surplus(alerts, page.limit, |alert| format!("{}.{}", alert.at.0, alert.number)))
    }

    /// Sends the first message that waits.
    ///
    /// # Errors
    /// A database failed, or another hub sends now; the next run goes on.
    pub(super) async fn alerts_send(&self) -> Result<Progress, Error> {
        self.alerts_gauge().await?;
        let Some(webhook) = &self.inner.config.webhook else { return Ok(Progress::Done) };
        let Some(fence) = self.lease().await? else { return Ok(Progress::Done) };
        let Some(message) = self.store().alert_first().await? else { return Ok(Progress::Done) };
        let now = self.now();
        if message.due_at > now {
            return Ok(Progress::After(message.due_at.since(now)));
        }
        let outcome = webhook.send(&message.alert, now).await;
        let (number, now) = (message.alert.number, self.now());
        let sent = sent(&message, outcome, now);
        match &sent {
            Sent::Taken => tracing::debug!(alert = number, "an alert was sent"),
            Sent::Again { why, .. } => tracing::warn!(alert = number, why, "an alert is sent again later"),
            Sent::Dead { why, .. } => tracing::error!(alert = number, why, "an alert is given up that nobody takes"),
        }
        self.store().alert_sent(fence, number, sent, now).await?;
        self.changed();
        Ok(Progress::More)
    }

    async fn alerts_gauge(&self) -> Result<(), Error> {
        let (waiting, dead) = self.store().alerts_count().await?;
        for (state, count) in [("waiting", waiting), ("dead", dead)] {
            let help = "Alerts on advisories that wait for the webhook, or that it never took.";
            base::metrics::gauge("longshore_inspect_alerts", help, &[("state", state)]).set_unsigned(count);
        }
        Ok(())
    }
}

/// The worst first.
fn rank(one: &Vulnerability) -> (bool, Reverse<Severity>, &str) {
    (!one.known_exploited, Reverse(severity_of(&one.severity)), &one.id)
}

/// Vulnerabilities counted, the worst first; none where there are none.
fn summary(first: bool, counted: &[&Vulnerability], images: u64) -> Option<SummaryNews> {
    let mut severities: BTreeMap<Severity, u64> = BTreeMap::new();
    for one in counted {
        *severities.entry(severity_of(&one.severity)).or_default() += 1;
    }
    (!counted.is_empty()).then(|| SummaryNews {
        first,
        severities,
        known_exploited: counted.iter().filter(|one| one.known_exploited).count() as u64,
        images_count: images,
        ids: counted.iter().take(IDS_SHOWN).map(|one| one.id.clone()).collect(),
    })
}

/// What is to be done after a message was sent.
fn sent(message: &Message, outcome: Outcome, now: Micros) -> Sent {
    let tries = message.tries.saturating_add(1);
    let (why, is_refused) = match outcome {
        Outcome::Taken => return Sent::Taken,
        Outcome::Refused(why) => (why, true),
        Outcome::Failed(why) => (why, false),
    };
    if is_refused && tries >= REFUSALS_MAX {
        // The others may well be taken.
        return Sent::Dead { until: Micros(i64::MIN), why };
    }
    let is_old = now.since(message.alert.at) >= GIVEN_UP_AFTER;
    if is_old && tries >= GIVEN_UP_TRIES {
        return Sent::Dead { until: now.minus(GIVEN_UP_AFTER), why };
    }
    let pause = PAUSE_FIRST.saturating_mul(1 << message.tries.min(16)).min(PAUSE_MAX);
    Sent::Again { due_at: now.plus(pause), why }
}

fn cursor(text: &str) -> Result<(Micros, i64), Error> {
    let read = || {
        let (at, number) = text.split_once('.')?;
        Some((Micros(at.parse().ok()?), number.parse().ok()?))
    };
    read().ok_or_else(|| Error::Request("the page cursor is not one".to_owned()))
}

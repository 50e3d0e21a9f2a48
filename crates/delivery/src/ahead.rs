//! Delivery as fan-out sees it: which hosts will need which images next.

use std::collections::{BTreeMap, BTreeSet};

use api::delivery::{ImageAddress, PlanState, ReleaseId, Rollouts, StepAction, StepState};
use api::{EnvName, HostName};
use async_trait::async_trait;
use tokio::sync::watch;

use crate::Service;
use crate::error::Error;
use crate::model::{PlanRecord, target_matches};
use crate::store::{environments, hosts, plans, releases};

/// What a plan will ask of hosts soon: steps that wait, in the wave that is under way and the one after it, and that need
/// an image. A plan that goes back needs what is there already.
fn steps_ahead(plan: &PlanRecord) -> impl Iterator<Item = (&HostName, &ReleaseId)> {
    let (current, _) = plan.wave_current();
    let is_ahead = plan.state == PlanState::Running;
    plan.steps
        .iter()
        .filter(move |record| is_ahead && record.wave <= current.saturating_add(1))
        .map(|record| &record.step)
        .filter(|step| step.state == StepState::Waiting && step.action != StepAction::Remove)
        .map(|step| (&step.host, &step.release))
}

impl Service {
    async fn ahead(&self) -> Result<BTreeMap<HostName, Vec<ImageAddress>>, Error> {
        let db = &self.inner.db;
        let mut images: BTreeMap<ReleaseId, Option<ImageAddress>> = BTreeMap::new();
        let mut ahead: BTreeMap<HostName, Vec<ImageAddress>> = BTreeMap::new();
        for id in plans::under_way(db).await? {
            let Some(plan) = plans::get(db, &id).await? else { continue };
            for (host, release) in steps_ahead(&plan).collect::<BTreeSet<_>>() {
                if !images.contains_key(release) {
                    let found = releases::by_prefix(db, release.as_str()).await?.pop();
                    images.insert(release.clone(), found.map(|release| release.image));
                }
                let Some(Some(image)) = images.get(release) else { continue };
                let wanted = ahead.entry(host.clone()).or_default();
                if !wanted.contains(image) {
                    wanted.push(image.clone());
                }
            }
        }
        Ok(ahead)
    }

    async fn hosts_of(&self, env: &EnvName) -> Result<Vec<HostName>, Error> {
        let environment = environments::get(&self.inner.db, env).await?;
        let rows = hosts::all(&self.inner.db).await?.into_iter().map(|row| row.view);
        let rows = rows.filter(|host| target_matches(&environment.spec.target, &host.name, &host.labels));
        Ok(rows.map(|host| host.name).collect())
    }

    async fn labels(&self) -> Result<BTreeMap<HostName, BTreeMap<String, String>>, Error> {
        let rows = hosts::all(&self.inner.db).await?.into_iter();
        Ok(rows.map(|row| (row.view.name, row.view.labels)).collect())
    }
}

#[async_trait]
impl Rollouts for Service {
    async fn host_labels(&self) -> api::Result<BTreeMap<HostName, BTreeMap<String, String>>> {
        Ok(self.labels().await?)
    }

    async fn images_ahead(&self) -> api::Result<BTreeMap<HostName, Vec<ImageAddress>>> {
        Ok(self.ahead().await?)
    }

    async fn env_hosts(&self, env: &EnvName) -> api::Result<Vec<HostName>> {
        Ok(self.hosts_of(env).await?)
    }

    async fn release_image(&self, id: &str) -> api::Result<(ReleaseId, ImageAddress)> {
        let release = self.release_find(id).await?;
        Ok((release.id, release.image))
    }

    fn rollouts_changed(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }
}

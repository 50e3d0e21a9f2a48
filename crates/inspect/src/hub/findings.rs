//! What is wrong with images, as advisories say.

use api::inspect::{Advisories, Finding};

use super::Service;
use super::error::Error;
use super::find::Target;
use super::store::ImageRow;
use crate::document::{self, Contents};

impl Service {
    pub(super) async fn findings_of(&self, _: &ImageRow, _: &Contents) -> Result<Vec<Finding>, Error> {
        Ok(Vec::new())
    }
    pub(super) async fn findings_brief(&self, _: &ImageRow) -> Result<Vec<Finding>, Error> {
        Ok(Vec::new())
    }
    pub(super) async fn document_findings(&self, _: &ImageRow, _: &Contents) -> Result<Vec<document::Finding>, Error> {
        Ok(Vec::new())
    }
    pub(super) async fn advisories_known(&self) -> Result<Advisories, Error> {
        Ok(Advisories::default())
    }
    pub(super) async fn advisory_target(&self, _: &str) -> Result<Target, Error> {
        Ok(Target { seek: None, advisory: None, fixed_in: Default::default() })
    }
}

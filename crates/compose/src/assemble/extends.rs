//! `extends`: a service takes over another's definition, from its own file or from another.

use super::{Assembler, DEPTH_MAX, Place, paths, section_mut};
use crate::diagnostic::{child, did_you_mean};
use crate::field::Field;
use crate::merge;
use crate::normalise::mount_target;
use crate::schema::{self, Kind};
use crate::shape;
use crate::yaml::{Entry, Map, Node, Value};

/// Services that are being extended, the outermost first: the file's name and the service's.
type Trail = Vec<(String, String)>;

impl Assembler<'_, '_, '_> {
    /// Carries out what the services of a file extend.
    pub(super) fn extends(&mut self, root: &mut Node, file: &str, place: Place<'_>) {
        let Some(services) = section_mut(root, "services") else { return };
        let names: Vec<String> = services.keys().cloned().collect();
        for name in names {
            if self.findings.full() {
                return;
            }
            self.extend(services, &name, file, place, &mut Trail::new());
        }
    }

    /// Puts a service in its place with what it extends; whether all went well.
    fn extend(&mut self, services: &mut Map, name: &str, file: &str, place: Place<'_>, trail: &mut Trail) -> bool {
        let taken = services.get_mut(name).and_then(|entry| match &mut entry.node.value {
            Value::Map(service) => service.remove("extends"),
            _ => None,
        });
        let Some(Entry { node: extends, key }) = taken else { return true };
        let path = child(&child("services", name), "extends");
        let kind = schema::kind_of(schema::SERVICE, "extends", self.context.stage).unwrap_or(Kind::Whole);
        shape::check(&extends, kind, self.context.stage, &path, self.findings);
        let field = Field { node: &extends, mark: key, path: path.clone() };
        let (from, wanted) = (field.get("file"), field.get("service"));
        let Some(wanted) = wanted.and_then(|wanted| wanted.string(self.findings)) else {
            self.findings.error(key, &path, "this does not say which service is extended");
            return false;
        };
        let from = match from {
            Some(from) => match from.string(self.findings) {
                Some(from) => Some(paths::join(paths::HERE, &from)),
                None => return false,
            },
            None => None,
        };
        trail.push((file.to_owned(), name.to_owned()));
        let next = (from.clone().unwrap_or_else(|| file.to_owned()), wanted.clone());
        let circle = trail.contains(&next);
        if circle || trail.len() > DEPTH_MAX {
            let shown = trail.iter().chain([&next]).map(|(file, service)| format!("{service} in {file}"));
            let what = match circle {
                true => format!("services extend one another in a circle: {}", shown.collect::<Vec<_>>().join(" -> ")),
                false => format!("services extend one another more than {DEPTH_MAX} deep"),
            };
            self.findings.error_with_hint(key, &path, what, "take one of these extends away".to_owned());
            return false;
        }
        let base = match &from {
            Some(from) => self.base_elsewhere(from, &wanted, &field, place, trail),
            None => self.base_here(services, &wanted, file, &field, place, trail),
        };
        trail.pop();
        let Some(mut base) = base else { return false };
        if !self.charge(&base, key, &path) {
            return false;
        }
        // What its tags say is of the file that it stands in.
        merge::settle(&mut base);
        let Some(own) = services.remove(name) else { return false };
        give_way(&mut base, &own.node);
        let node = merge::merge(base, own.node, Kind::Section(schema::SERVICE), self.context.stage);
        services.insert(name.to_owned(), Entry { key: own.key, node });
        true
    }

    fn base_here(
        &mut self,
        services: &mut Map,
        wanted: &str,
        file: &str,
        field: &Field<'_>,
        place: Place<'_>,
        trail: &mut Trail,
    ) -> Option<Node> {
        if !services.contains_key(wanted) {
            let hint = did_you_mean(wanted, services.keys().map(String::as_str));
            let what = format!("there is no service {wanted:?} in {file}");
            self.findings.error_with_hint(field.mark, &field.path, what, hint);
            return None;
        }
        if !self.extend(services, wanted, file, place, trail) {
            return None;
        }
        services.get(wanted).map(|entry| entry.node.clone())
    }

    fn base_elsewhere(
        &mut self,
        from: &str,
        wanted: &str,
        field: &Field<'_>,
        place: Place<'_>,
        trail: &mut Trail,
    ) -> Option<Node> {
        // One that is at work further out is not here, and is read again.
        let mut root = match self.extended.remove(from) {
            Some(root) => root,
            None => {
                let (text, file) = self.read(from, field.mark, &field.path)?;
                self.tree(&text, file, Place { folder: paths::parent(from), ..place })?
            }
        };
        let base = match section_mut(&mut root, "services") {
            Some(services) => self.base_here(services, wanted, from, field, place, trail),
            None => {
                self.findings.error(field.mark, &field.path, format!("there are no services in {from}"));
                None
            }
        };
        self.extended.insert(from.to_owned(), root);
        let mut base = base?;
        if let Value::Map(service) = &mut base.value {
            paths::default_context(service, paths::parent(from));
        }
        Some(base)
    }
}

/// Takes out of a service the mounts that another one, laid over it, has at the same places.
fn give_way(base: &mut Node, over: &Node) {
    let targets: Vec<String> = Field::root(over)
        .get("volumes")
        .map(|volumes| volumes.items().filter_map(|mount| mount_target(&mount)).collect())
        .unwrap_or_default();
    let Value::Map(service) = &mut base.value else { return };
    if let Some(Value::List(mounts)) = service.get_mut("volumes").map(|entry| &mut entry.node.value) {
        mounts.retain(|mount| mount_target(&Field::root(mount)).is_none_or(|target| !targets.contains(&target)));
    }
}

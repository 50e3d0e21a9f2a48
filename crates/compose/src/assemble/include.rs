//! `include`: another project's services, networks, volumes, configs and secrets are taken in.

use std::collections::BTreeMap;

use super::{Assembler, DEPTH_MAX, Place, TOP, paths, section_mut};
use crate::diagnostic::child;
use crate::dotenv::{self, Format};
use crate::field::Field;
use crate::normalise::variables;
use crate::schema::{self, Kind};
use crate::shape;
use crate::yaml::{Entry, Map, Node, Value};

/// What is taken over; the rest of an included file says nothing here.
const TAKEN: [&str; 5] = ["configs", "networks", "secrets", "services", "volumes"];
/// Keys of a file that are its own affair.
const OWN: [&str; 3] = ["include", "name", "version"];

/// One entry of `include`.
struct Wanted {
    files: Vec<String>,
    folder: String,
    env_files: Option<Vec<Node>>,
}

impl Assembler<'_, '_, '_> {
    /// Takes in what a file includes.
    pub(super) fn include(&mut self, root: &mut Node, place: Place<'_>) {
        let Value::Map(top) = &mut root.value else { return };
        let Some(Entry { node, key }) = top.remove("include") else { return };
        let kind = schema::kind_of(schema::TOP, "include", self.context.stage).unwrap_or(Kind::Whole);
        shape::check(&node, kind, self.context.stage, "include", self.findings);
        let field = Field { node: &node, mark: key, path: "include".to_owned() };
        for entry in field.items() {
            if self.findings.full() {
                return;
            }
            let Some(wanted) = self.wanted(&entry) else { continue };
            let Some(model) = self.model(&wanted, &entry, place) else { continue };
            self.take_in(root, model);
        }
    }

    fn wanted(&mut self, entry: &Field<'_>) -> Option<Wanted> {
        let mut env_files = None;
        let mut folder = None;
        let files: Vec<String> = if entry.is_map() {
            folder = entry.get("project_directory").and_then(|field| field.string(self.findings));
            env_files = entry.get("env_file").map(|field| field.items().map(|item| item.node.clone()).collect());
            entry.get("path").map(|field| field.strings(self.findings)).unwrap_or_default()
        } else {
            entry.string(self.findings).into_iter().collect()
        };
        let files: Vec<String> = files.iter().map(|file| paths::join(paths::HERE, file)).collect();
        let Some(first) = files.first() else {
            entry.error_with_hint(
                self.findings,
                "this does not say which file is included",
                "write `path:`".to_owned(),
            );
            return None;
        };
        let folder = folder.map_or_else(|| paths::parent(first).to_owned(), |folder| paths::join(paths::HERE, &folder));
        Some(Wanted { files, folder, env_files })
    }

    /// The tree of an included project; none when it is here already, or is wrong.
    fn model(&mut self, wanted: &Wanted, entry: &Field<'_>, place: Place<'_>) -> Option<Node> {
        let first = wanted.files.first()?;
        if self.including.contains(first) || self.including.len() >= DEPTH_MAX {
            let shown = self.including.iter().chain([first]).cloned().collect::<Vec<_>>().join(" -> ");
            let what = match self.including.contains(first) {
                true => format!("files include one another in a circle: {shown}"),
                false => format!("files include one another more than {DEPTH_MAX} deep"),
            };
            entry.error_with_hint(self.findings, what, "take one of these includes away".to_owned());
            return None;
        }
        // Two ways to one and the same project are no conflict.
        let texts = |nodes: &Vec<Node>| nodes.iter().map(|node| format!("{:?}", node.value)).collect::<Vec<_>>();
        let identity = format!("{:?} {} {:?}", wanted.files, wanted.folder, wanted.env_files.as_ref().map(texts));
        if self.included.contains(&identity) {
            return None;
        }
        self.included.push(identity);
        let values = self.environment(wanted, entry, place);
        let lookup = |name: &str| (place.environment)(name).or_else(|| values.get(name).cloned().flatten());
        let inner = Place { folder: &wanted.folder, environment: &lookup };
        self.including.push(first.clone());
        let mut merged = None;
        for name in &wanted.files {
            if let Some((text, file)) = self.read(name, entry.mark, &entry.path)
                && let Some(node) = self.layer(name, &text, file, inner)
            {
                merged = Some(self.lay(merged, node));
            }
        }
        self.including.pop();
        if let Some(services) = merged.as_mut().and_then(|model| section_mut(model, "services")) {
            paths::default_contexts(services, &wanted.folder);
        }
        merged
    }

    /// Defaults for variables, from the files that are named, or from `.env` in the project's folder.
    fn environment(
        &mut self,
        wanted: &Wanted,
        entry: &Field<'_>,
        place: Place<'_>,
    ) -> BTreeMap<String, Option<String>> {
        const NOTHING: &str = "/dev/null";
        let mut values: BTreeMap<String, Option<String>> = BTreeMap::new();
        match &wanted.env_files {
            Some(files) => {
                for node in files {
                    if matches!(&node.value, Value::Scalar(name) if name == NOTHING) {
                        continue;
                    }
                    let field = Field { node, mark: node.mark, path: child(&entry.path, "env_file") };
                    let before = values.clone();
                    let lookup = |name: &str| (place.environment)(name).or_else(|| before.get(name).cloned().flatten());
                    let format = Format::default();
                    values.extend(variables(&field, true, format, &lookup, self.context, self.findings));
                }
            }
            None => {
                let name = paths::join(&wanted.folder, ".env");
                match self.context.read(&name) {
                    Ok(Some(text)) => {
                        let file = self.findings.file_add(&name);
                        let (format, environment) = (Format::default(), place.environment);
                        values = dotenv::parse(&text, file, format, environment, self.findings);
                    }
                    Ok(None) => {}
                    Err(why) => entry.error(self.findings, format!("{name} cannot be read: {why}")),
                }
            }
        }
        values
    }

    fn take_in(&mut self, root: &mut Node, model: Node) {
        let mark = model.mark;
        let (Value::Map(top), Value::Map(model)) = (&mut root.value, model.value) else {
            self.findings.error(mark, "", "this should be a mapping");
            return;
        };
        for (key, entry) in model {
            if OWN.contains(&key.as_str()) {
                continue;
            }
            if !TAKEN.contains(&key.as_str()) {
                // Nobody looks at it; what it should have been is told by the check of all keys.
                let alone = Node::new(Value::Map(Map::from([(key, entry)])), mark);
                shape::check(&alone, TOP, self.context.stage, "", self.findings);
                continue;
            }
            let place = entry.key;
            let Value::Map(named) = entry.node.value else { continue };
            let empty = || Entry { key: place, node: Node::new(Value::Map(Map::new()), place) };
            let section = top.entry(key.clone()).or_insert_with(empty);
            if matches!(section.node.value, Value::Null) {
                section.node.value = Value::Map(Map::new());
            }
            let Value::Map(section) = &mut section.node.value else { continue };
            for (name, entry) in named {
                if let Some(own) = section.get(&name) {
                    let path = child(&key, &name);
                    let what = format!(
                        "{path} is included, and also stands on line {} of a file that includes it",
                        own.key.line
                    );
                    let hint = "give one of them another name, or change it in a file that is laid over both";
                    self.findings.error_with_hint(entry.key, &path, what, hint.to_owned());
                    continue;
                }
                section.insert(name, entry);
            }
        }
    }
}

//! From texts to one canonical tree: files are laid over one another, and what they name is put in.
//!
//! For each file in turn: parse, put variables in, bring it into one shape, take in what it includes, carry out what its
//! services extend, lay it over the files before it (Compose Specification, 13-merge, 14-include, 05-services "extends").
//! Paths are made relative to the folder of the first Compose file as soon as a file is read. What files, circles and
//! copies multiply is bounded.

mod extends;
mod include;
mod paths;

use std::collections::BTreeMap;

use crate::Source;
use crate::diagnostic::Findings;
use crate::interpolate::{Environment, Interpolator};
use crate::merge;
use crate::schema::{self, Kind};
use crate::shape;
use crate::stage::Context;
use crate::yaml::{self, Map, Mark, Node, Value};

/// Values of all files, those that services extend counted as often as they are copied.
const NODES_MAX: usize = 400_000;
/// Bytes of all these values.
const SCALAR_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Files within files, and services that extend services.
const DEPTH_MAX: usize = 32;

/// The whole document, as the table has it.
const TOP: Kind = Kind::Section(schema::TOP);

/// Where a file stands, and what it sees.
#[derive(Clone, Copy)]
struct Place<'p> {
    /// Its folder, relative to that of the first Compose file, without `./`; `.` is that itself.
    folder: &'p str,
    /// The variables that it sees.
    environment: Environment<'p>,
}

/// Puts the files of one project together.
pub(crate) struct Assembler<'c, 'f, 'a> {
    context: &'c Context<'a>,
    findings: &'f mut Findings<'a>,
    interpolator: Interpolator,
    nodes: usize,
    bytes: usize,
    /// Files that are being included, the outermost first.
    including: Vec<String>,
    /// What was included already, with all that decides what it becomes.
    included: Vec<String>,
    /// Files that were read for a service of theirs.
    extended: BTreeMap<String, Node>,
}

impl<'c, 'f, 'a> Assembler<'c, 'f, 'a> {
    pub(crate) fn new(context: &'c Context<'a>, findings: &'f mut Findings<'a>) -> Self {
        Assembler {
            context,
            findings,
            interpolator: Interpolator::new(context.workspace()),
            nodes: 0,
            bytes: 0,
            including: Vec::new(),
            included: Vec::new(),
            extended: BTreeMap::new(),
        }
    }

    /// The tree of a project's files, each laid over those before it.
    pub(crate) fn project(&mut self, files: &[Source<'_>]) -> Option<Node> {
        let place = Place { folder: paths::HERE, environment: self.context.environment };
        let mut merged = None;
        for (index, file) in (0_u16..).zip(files) {
            if let Some(node) = self.layer(file.name, file.text, index, place) {
                merged = Some(self.lay(merged, node));
            }
        }
        merged
    }

    /// A file with all that it includes and that its services extend.
    fn layer(&mut self, name: &str, text: &str, file: u16, place: Place<'_>) -> Option<Node> {
        let mut node = self.tree(text, file, place)?;
        if self.context.workspace() {
            self.include(&mut node, place);
            self.extends(&mut node, name, place);
        }
        Some(node)
    }

    fn lay(&self, base: Option<Node>, over: Node) -> Node {
        let mut laid = match base {
            Some(base) => merge::merge(base, over, TOP, self.context.stage),
            None => over,
        };
        merge::settle(&mut laid);
        laid
    }

    /// One file's own tree.
    fn tree(&mut self, text: &str, file: u16, place: Place<'_>) -> Option<Node> {
        let mut node = yaml::parse(text, file, self.findings)?;
        if !self.charge(&node, node.mark, "") {
            return None;
        }
        self.interpolator.node(&mut node, place.environment, "", self.findings);
        shape::canonicalise(&mut node, TOP, self.context.stage, "", self.findings);
        if place.folder != paths::HERE {
            paths::rebase(&mut node, place.folder);
        }
        Some(node)
    }

    /// Counts a tree; an error when it is one too many.
    fn charge(&mut self, node: &Node, mark: Mark, path: &str) -> bool {
        let (nodes, bytes) = yaml::weight(node);
        self.nodes += nodes;
        self.bytes += bytes;
        if self.nodes <= NODES_MAX && self.bytes <= SCALAR_BYTES_MAX {
            return true;
        }
        let what = format!(
            "with all that is included and extended the project has more than {NODES_MAX} values or {SCALAR_BYTES_MAX} bytes"
        );
        self.findings.error(mark, path, what);
        false
    }

    /// The text of a file that another names, and the number that stands for it in marks.
    fn read(&mut self, name: &str, mark: Mark, path: &str) -> Option<(String, u16)> {
        if crate::model::is_address(name) {
            let what = format!("{name} is an address, and Compose files are not fetched");
            self.findings.error_with_hint(mark, path, what, "keep a copy of the file beside this one".to_owned());
            return None;
        }
        match self.context.read(name) {
            Ok(Some(text)) => Some((text, self.findings.file_add(name))),
            Ok(None) => {
                self.findings.error(mark, path, format!("there is no file {name}"));
                None
            }
            Err(why) => {
                self.findings.error(mark, path, format!("{name} cannot be read: {why}"));
                None
            }
        }
    }
}

/// The mapping under a key.
fn section_mut<'n>(node: &'n mut Node, key: &str) -> Option<&'n mut Map> {
    let Value::Map(map) = &mut node.value else { return None };
    match &mut map.get_mut(key)?.node.value {
        Value::Map(map) => Some(map),
        _ => None,
    }
}

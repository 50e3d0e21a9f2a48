//! YAML text to a tree that knows where each part stands.
//!
//! YAML 1.2 with anchors, aliases and merge keys, read from parser events. What aliases multiply is counted against a
//! budget while the tree grows, so that a small text cannot become a large tree.

use std::collections::{BTreeMap, HashMap};

use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use crate::diagnostic::Findings;

/// Bytes of one file.
pub(crate) const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// Nodes of one file, aliases written out.
pub(crate) const NODES_MAX: usize = 100_000;
/// Bytes of one file's scalars, aliases written out.
pub(crate) const SCALAR_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of one key: paths in messages are made of keys.
pub(crate) const KEY_BYTES_MAX: usize = 512;
/// Collections within collections, aliases written out.
pub(crate) const DEPTH_MAX: usize = 48;

const CORE_TAGS: &str = "tag:yaml.org,2002:";

/// A place in one of the sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    /// Index of the source.
    pub(crate) file: u16,
    /// From 1.
    pub(crate) line: u32,
    /// From 1.
    pub(crate) column: u32,
}

/// A part of the document.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) mark: Mark,
    pub(crate) tag: Option<MergeTag>,
}

/// Scalars stay text: what they mean is for the reader of a field to say, after variables were put in.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Map),
}

/// A mapping; its order means nothing in Compose files.
pub(crate) type Map = BTreeMap<String, Entry>;

/// A value of a mapping, and where its key stands.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Mark,
    pub(crate) node: Node,
}

/// Compose's own tags, which say how an overlay is laid over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MergeTag {
    /// Take away what is there.
    Reset,
    /// Put this in place of what is there.
    Override,
}

impl Node {
    pub(crate) fn new(value: Value, mark: Mark) -> Self {
        Node { value, mark, tag: None }
    }

    /// What kind of node it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// Reads one document. `None` after an error, which is then among the findings.
pub(crate) fn parse(text: &str, file: u16, findings: &mut Findings<'_>) -> Option<Node> {
    let start = Mark { file, line: 1, column: 1 };
    if text.len() > TEXT_BYTES_MAX {
        findings.error(start, "", format!("the file is larger than {TEXT_BYTES_MAX} bytes"));
        return None;
    }
    let mut builder = Builder { file, stack: Vec::new(), anchors: HashMap::new(), nodes: 0, bytes: 0, root: None };
    for event in Parser::new_from_str(text) {
        let step = match event {
            Ok((event, span)) => builder.event(event, span),
            Err(error) => Err((builder.mark(error.marker()), format!("this is not YAML: {}", error.info()))),
        };
        if let Err((mark, what)) = step {
            findings.error(mark, "", what);
            return None;
        }
    }
    if builder.root.is_none() {
        findings.error_with_hint(start, "", "the file is empty", "it needs at least `services:`".to_owned());
    }
    builder.root
}

type Problem = (Mark, String);

struct Builder {
    file: u16,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Anchored>,
    nodes: usize,
    bytes: usize,
    root: Option<Node>,
}

struct Anchored {
    node: Node,
    size: Size,
}

#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

/// A collection whose end was not seen yet.
struct Frame {
    mark: Mark,
    tag: Option<MergeTag>,
    anchor: usize,
    open: Open,
}

enum Open {
    List(Vec<Node>),
    Map { map: Map, key: Option<(String, Mark)>, merged: Vec<Node> },
}

impl Builder {
    fn mark(&self, marker: &Marker) -> Mark {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Mark { file: self.file, line: number(marker.line()), column: number(marker.col()).saturating_add(1) }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let mark = self.mark(&span.start);
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                Err((mark, "a second document begins here, but a Compose file is one document".to_owned()))
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.charge(mark, Size { nodes: 1, bytes: text.len(), depth: 0 })?;
                let plain = style == ScalarStyle::Plain;
                let (merge_tag, string) = tag_read(tag.as_deref(), mark)?;
                let null = plain && !string && matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL");
                let value = if null { Value::Null } else { Value::Scalar(text.into_owned()) };
                self.place(Node { value, mark, tag: merge_tag }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => self.open(mark, tag.as_deref(), anchor, Open::List(Vec::new())),
            Event::MappingStart(_, anchor, tag) => {
                let open = Open::Map { map: Map::new(), key: None, merged: Vec::new() };
                self.open(mark, tag.as_deref(), anchor, open)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => {
                let Some(anchored) = self.anchors.get(&anchor) else {
                    return Err((mark, "this alias stands within what it refers to".to_owned()));
                };
                let size = anchored.size;
                self.charge(mark, size)?;
                let node = self.anchors.get(&anchor).map(|anchored| anchored.node.clone());
                node.map_or(Ok(()), |node| self.place(node, 0))
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, mark: Mark, tag: Option<&Tag>, anchor: usize, open: Open) -> Result<(), Problem> {
        self.charge(mark, Size { nodes: 1, bytes: 0, depth: 1 })?;
        let (tag, _) = tag_read(tag, mark)?;
        self.stack.push(Frame { mark, tag, anchor, open });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Problem> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let value = match frame.open {
            Open::List(items) => Value::List(items),
            Open::Map { mut map, merged, .. } => {
                for source in merged {
                    merge_key(&mut map, source)?;
                }
                Value::Map(map)
            }
        };
        self.place(Node { value, mark: frame.mark, tag: frame.tag }, frame.anchor)
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        if anchor != 0 {
            let size = size_of(&node);
            // The copy that is kept for aliases counts as well: anchors within anchors would multiply it.
            self.charge(node.mark, Size { depth: 0, ..size })?;
            self.anchors.insert(anchor, Anchored { node: node.clone(), size });
        }
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut frame.open {
            Open::List(items) => items.push(node),
            Open::Map { map, key, merged } => match key.take() {
                None => match node.value {
                    Value::Scalar(text) if text.len() > KEY_BYTES_MAX => {
                        return Err((node.mark, format!("this key is longer than {KEY_BYTES_MAX} bytes")));
                    }
                    Value::Scalar(text) => *key = Some((text, node.mark)),
                    _ => return Err((node.mark, format!("{} cannot be a key", node.kind()))),
                },
                Some((text, _)) if text == "<<" => merged.push(node),
                Some((text, mark)) => {
                    if let Some(first) = map.get(&text) {
                        let line = first.key.line;
                        return Err((mark, format!("{text:?} stands here twice: first on line {line}")));
                    }
                    map.insert(text, Entry { key: mark, node });
                }
            },
        }
        Ok(())
    }

    fn charge(&mut self, mark: Mark, size: Size) -> Result<(), Problem> {
        self.nodes += size.nodes;
        self.bytes += size.bytes;
        let too_much = if self.nodes > NODES_MAX {
            format!("more than {NODES_MAX} values")
        } else if self.bytes > SCALAR_BYTES_MAX {
            format!("more than {SCALAR_BYTES_MAX} bytes of values")
        } else if self.stack.len() + size.depth > DEPTH_MAX {
            format!("more than {DEPTH_MAX} levels")
        } else {
            return Ok(());
        };
        Err((mark, format!("with its aliases written out the file has {too_much}")))
    }
}

/// Compose's tag, and whether the node is a string whatever it looks like.
fn tag_read(tag: Option<&Tag>, mark: Mark) -> Result<(Option<MergeTag>, bool), Problem> {
    let Some(tag) = tag else { return Ok((None, false)) };
    match (tag.handle(), tag.suffix()) {
        ("!", "reset") => Ok((Some(MergeTag::Reset), false)),
        ("!", "override") => Ok((Some(MergeTag::Override), false)),
        // A lone `!` is YAML's "as it stands".
        ("!" | "", "" | "!") | (CORE_TAGS, "str") => Ok((None, true)),
        (CORE_TAGS, "null" | "bool" | "int" | "float" | "seq" | "map") => Ok((None, false)),
        (handle, suffix) => {
            Err((mark, format!("the tag {handle}{suffix} is not known here: there are !reset and !override")))
        }
    }
}

/// `<<`: takes over what is not there, from a mapping or from several, the first of them going first.
fn merge_key(map: &mut Map, source: Node) -> Result<(), Problem> {
    match source.value {
        Value::Map(from) => {
            for (key, entry) in from {
                map.entry(key).or_insert(entry);
            }
            Ok(())
        }
        Value::List(items) if items.iter().all(|item| matches!(item.value, Value::Map(_))) => {
            items.into_iter().try_for_each(|item| merge_key(map, item))
        }
        _ => Err((source.mark, "`<<` takes a mapping or a list of mappings".to_owned())),
    }
}

/// Values of a tree, and bytes of its scalars and keys.
pub(crate) fn weight(node: &Node) -> (usize, usize) {
    let Size { nodes, bytes, .. } = size_of(node);
    (nodes, bytes)
}

fn size_of(node: &Node) -> Size {
    let sum = |size: Size, inner: Size| Size {
        nodes: size.nodes + inner.nodes,
        bytes: size.bytes + inner.bytes,
        depth: size.depth.max(inner.depth + 1),
    };
    match &node.value {
        Value::Null => Size { nodes: 1, bytes: 0, depth: 0 },
        Value::Scalar(text) => Size { nodes: 1, bytes: text.len(), depth: 0 },
        Value::List(items) => items.iter().map(size_of).fold(Size { nodes: 1, bytes: 0, depth: 1 }, sum),
        Value::Map(map) => map.iter().fold(Size { nodes: 1, bytes: 0, depth: 1 }, |size, (key, entry)| {
            let inner = size_of(&entry.node);
            sum(size, Size { nodes: inner.nodes + 1, bytes: inner.bytes + key.len(), ..inner })
        }),
    }
}

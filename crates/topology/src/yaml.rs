//! Text to a tree of nodes, each with its line and column.
//!
//! The tree is built from the parser's events, not by its own loader: the loader stops at the first repeated key, and
//! keeps no place of a key. What a file may make us hold is bounded: its length, its depth, and the nodes that aliases
//! copy.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr::Scalar;
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};
use serde_json::Value;

use crate::diagnostic::{Path, Segment};

/// Longest file, in bytes.
const MAX_BYTES: usize = 1024 * 1024;
/// Deepest nesting.
const MAX_DEPTH: usize = 64;
/// Most values, copies by aliases included.
const MAX_NODES: usize = 10_000;

/// Line and column, both from 1.
pub(crate) type At = (usize, usize);

/// A file that is no YAML, or more than we take.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) message: String,
    pub(crate) help: String,
}

/// A value and where it starts.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) data: Data,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

impl Data {
    /// The value of what holds nothing else; null of a list or a mapping.
    pub(crate) fn leaf(&self) -> Value {
        match self {
            Self::Null | Self::List(_) | Self::Map(_) => Value::Null,
            Self::Bool(b) => Value::from(*b),
            Self::Int(i) => Value::from(*i),
            Self::Float(f) => Value::from(*f),
            Self::Text(text) => Value::from(text.as_str()),
        }
    }
}

/// One line of a mapping. Repeated keys are kept: that they are wrong is not this module's to say.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: At,
    pub(crate) value: Node,
}

impl Node {
    /// The entries of a mapping; none of anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.data {
            Data::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Where `path` stands, or the nearest place above it that the file has. A scalar's place is the value, that of a
    /// mapping or list its key.
    pub(crate) fn locate(&self, path: &Path) -> At {
        let (key, value) = self.find(path);
        let is_scalar = value.is_some_and(|v| !matches!(v.data, Data::Map(_) | Data::List(_) | Data::Null));
        value.filter(|_| is_scalar).map_or(key, |v| v.at)
    }

    /// Where the key of `path` stands, or the nearest place above it that the file has.
    pub(crate) fn locate_key(&self, path: &Path) -> At {
        self.find(path).0
    }

    /// Key and value of `path`; the nearest key above it and no value if the file has none.
    fn find(&self, path: &Path) -> (At, Option<&Self>) {
        let (mut node, mut at) = (self, (1, 1));
        for segment in path.segments() {
            let next = match (segment, &node.data) {
                (Segment::Key(key), Data::Map(entries)) => {
                    entries.iter().find(|e| e.key == *key).map(|e| (&e.value, e.at))
                }
                (Segment::Index(i), Data::List(items)) => items.get(*i).map(|n| (n, n.at)),
                _ => None,
            };
            match next {
                Some(next) => (node, at) = next,
                None => return (at, None),
            }
        }
        (at, Some(node))
    }
}

/// Reads one document.
pub(crate) fn read(text: &str) -> Result<Node, Fault> {
    if text.len() > MAX_BYTES {
        return Err(fault(
            (1, 1),
            format!("the file has {} bytes, more than {MAX_BYTES}", text.len()),
            "keep data out of the topology",
        ));
    }
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| syntax(text, &e))?;
        builder.take(event, at(span))?;
    }
    builder.root.ok_or_else(|| fault((1, 1), "the file is empty".to_owned(), EMPTY))
}

/// What a smallest topology looks like.
pub(crate) const EMPTY: &str =
    "write at least `name: kyc`, `inbound: { requests: kyc.requests }` and `outbound: { decisions: kyc.decisions }`";

fn at(span: Span) -> At {
    (span.start.line().max(1), span.start.col() + 1)
}

fn fault((line, column): At, message: String, help: &str) -> Fault {
    Fault { line, column, message, help: help.to_owned() }
}

fn syntax(text: &str, error: &ScanError) -> Fault {
    let place = (error.marker().line().max(1), error.marker().col() + 1);
    let line = text.lines().nth(place.0 - 1).unwrap_or_default();
    let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
    if let Some(column) = indent.chars().position(|c| c == '\t') {
        return fault(
            (place.0, column + 1),
            "a tab in the indentation".to_owned(),
            "indent with spaces: YAML allows no tabs",
        );
    }
    fault(
        place,
        format!("not YAML: {}", error.info()),
        "look at this line and the one before: indentation, a blank after each `:`, quotes and brackets closed",
    )
}

/// A collection that is still open.
struct Open {
    node: Node,
    anchor: usize,
    /// A key that waits for its value.
    key: Option<(String, At)>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, Weight)>,
    taken: Weight,
    root: Option<Node>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: At) -> Result<(), Fault> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let data = scalar(text, style, tag.as_ref(), at)?;
                self.add(Node { at, data }, anchor, Weight::default())
            }
            Event::SequenceStart(anchor, _) => self.start(Node { at, data: Data::List(Vec::new()) }, anchor),
            Event::MappingStart(anchor, _) => self.start(Node { at, data: Data::Map(Vec::new()) }, anchor),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.add(open.node, open.anchor, Weight::default()),
                None => Ok(()),
            },
            Event::Alias(anchor) => self.copy(anchor, at),
            Event::DocumentStart(_) if self.root.is_some() => Err(fault(
                at,
                "a second document in one file".to_owned(),
                "keep one topology in one file: remove the `---` and what follows",
            )),
            _ => Ok(()),
        }
    }

    fn start(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        if self.open.len() >= MAX_DEPTH {
            return Err(fault(node.at, format!("nested more than {MAX_DEPTH} deep"), "write it flatter"));
        }
        if let Some(Open { node: Node { data: Data::Map(_), .. }, key: None, .. }) = self.open.last() {
            return Err(fault(node.at, "a mapping or list as a key".to_owned(), "write a plain word before the `:`"));
        }
        self.open.push(Open { node, anchor, key: None });
        Ok(())
    }

    fn copy(&mut self, anchor: usize, at: At) -> Result<(), Fault> {
        let Some((node, weight)) = self.anchors.get(&anchor) else {
            return Err(fault(at, "an alias of a value that is not complete".to_owned(), "write the value out"));
        };
        // The copy stands where the alias is, so that diagnostics name the line that uses it.
        let (weight, copied) = (*weight, self.taken.plus(*weight));
        if copied.nodes > MAX_NODES || copied.bytes > MAX_BYTES {
            return Err(too_much(at));
        }
        let copy = Node { at, data: node.data.clone() };
        self.add(copy, 0, weight)
    }

    /// Takes a complete node; `copied` is what an alias adds to it.
    fn add(&mut self, node: Node, anchor: usize, copied: Weight) -> Result<(), Fault> {
        self.taken = self.taken.plus(copied).plus(Weight { nodes: 1, bytes: 0 });
        if self.taken.nodes > MAX_NODES {
            return Err(too_much(node.at));
        }
        if anchor > 0 {
            let weight = Weight::of(&node);
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut open.node.data, open.key.take()) {
            (Data::List(items), _) => items.push(node),
            (Data::Map(entries), Some((key, at))) => entries.push(Entry { key, at, value: node }),
            (Data::Map(_), None) => open.key = Some((key_of(&node)?, node.at)),
            _ => {}
        }
        Ok(())
    }
}

fn too_much(at: At) -> Fault {
    fault(
        at,
        format!("more than {MAX_NODES} values or {MAX_BYTES} bytes, aliases copied"),
        "write less, or use fewer aliases",
    )
}

/// What a node holds in memory.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    nodes: usize,
    bytes: usize,
}

impl Weight {
    fn plus(self, other: Self) -> Self {
        Self { nodes: self.nodes + other.nodes, bytes: self.bytes + other.bytes }
    }

    fn of(node: &Node) -> Self {
        let one = |bytes| Self { nodes: 1, bytes };
        match &node.data {
            Data::Text(text) => one(text.len()),
            Data::List(items) => items.iter().map(Self::of).fold(one(0), Self::plus),
            Data::Map(entries) => {
                entries.iter().map(|e| Self::of(&e.value).plus(one(e.key.len()))).fold(one(0), Self::plus)
            }
            _ => one(0),
        }
    }
}

fn key_of(node: &Node) -> Result<String, Fault> {
    match &node.data {
        Data::Text(text) => Ok(text.clone()),
        Data::Int(i) => Ok(i.to_string()),
        Data::Bool(b) => Ok(b.to_string()),
        _ => Err(fault(
            node.at,
            "a key that is not a word".to_owned(),
            "write a plain word before the `:`, in quotes if it must be",
        )),
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Cow<'_, Tag>>, at: At) -> Result<Data, Fault> {
    let parsed = Scalar::parse_from_cow_and_metadata(text, style, tag);
    Ok(match parsed {
        Some(Scalar::Null) => Data::Null,
        Some(Scalar::Boolean(b)) => Data::Bool(b),
        Some(Scalar::Integer(i)) => Data::Int(i),
        Some(Scalar::FloatingPoint(f)) if f.is_finite() => Data::Float(f.into_inner()),
        Some(Scalar::FloatingPoint(_)) => return Err(fault(at, "not a finite number".to_owned(), "write a number")),
        Some(Scalar::String(s)) => Data::Text(s.into_owned()),
        None => return Err(fault(at, "the value does not fit its tag".to_owned(), "remove the tag (`!!…`)")),
    })
}

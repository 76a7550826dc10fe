//! Topic configuration: which entries there are, their types and defaults, and what the log makes of them.

use std::collections::BTreeMap;

use crate::log::Settings;

/// A topic's own entries, without defaults.
pub(crate) type Entries = BTreeMap<String, String>;

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// An integer of at least this.
    Long(i64),
    /// A share between 0 and 1.
    Share,
    Bool,
    OneOf(&'static [&'static str]),
    /// A list of some of these.
    List(&'static [&'static str]),
    /// Free text, which one node has no use for.
    Text,
}

/// One entry.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) name: &'static str,
    kind: Kind,
    default: &'static str,
}

const CODECS: &[&str] = &["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"];
const TIMES: &[&str] = &["CreateTime", "LogAppendTime"];
const FOREVER: &str = "9223372036854775807";

const fn definition(name: &'static str, kind: Kind, default: &'static str) -> Definition {
    Definition { name, kind, default }
}

/// Every entry that Apache Kafka has and that may be set here. Those about replicas, flushing and caches are kept and
/// shown, but change nothing: there is one replica and no fsync. `compression.type` is one of them: batches stay as sent.
const DEFINITIONS: &[Definition] = &[
    definition("cleanup.policy", Kind::List(&["compact", "delete"]), "delete"),
    definition("compression.type", Kind::OneOf(CODECS), "producer"),
    definition("delete.retention.ms", Kind::Long(0), "86400000"),
    definition("file.delete.delay.ms", Kind::Long(0), "60000"),
    definition("flush.messages", Kind::Long(1), FOREVER),
    definition("flush.ms", Kind::Long(0), FOREVER),
    definition("follower.replication.throttled.replicas", Kind::Text, ""),
    definition("index.interval.bytes", Kind::Long(0), "4096"),
    definition("leader.replication.throttled.replicas", Kind::Text, ""),
    definition("max.compaction.lag.ms", Kind::Long(1), FOREVER),
    definition("max.message.bytes", Kind::Long(0), ""),
    definition("message.timestamp.after.max.ms", Kind::Long(0), "3600000"),
    definition("message.timestamp.before.max.ms", Kind::Long(0), FOREVER),
    definition("message.timestamp.type", Kind::OneOf(TIMES), "CreateTime"),
    definition("min.cleanable.dirty.ratio", Kind::Share, "0.5"),
    definition("min.compaction.lag.ms", Kind::Long(0), "0"),
    definition("min.insync.replicas", Kind::Long(1), "1"),
    definition("preallocate", Kind::Bool, "false"),
    definition("retention.bytes", Kind::Long(-1), "-1"),
    definition("retention.ms", Kind::Long(-1), "604800000"),
    definition("segment.bytes", Kind::Long(14), ""),
    definition("segment.index.bytes", Kind::Long(4), "10485760"),
    definition("segment.jitter.ms", Kind::Long(0), "0"),
    definition("segment.ms", Kind::Long(1), "604800000"),
    definition("unclean.leader.election.enable", Kind::Bool, "false"),
];

fn find(name: &str) -> Option<&'static Definition> {
    DEFINITIONS.iter().find(|definition| definition.name == name)
}

impl Definition {
    /// The number that the wire has for the type.
    pub(crate) fn wire_type(&self) -> i8 {
        match self.kind {
            Kind::Bool => 1,
            Kind::OneOf(_) | Kind::Text => 2,
            Kind::Long(_) => 5,
            Kind::Share => 6,
            Kind::List(_) => 7,
        }
    }

    fn check(&self, value: &str) -> Result<(), String> {
        let good = match self.kind {
            Kind::Long(least) => value.trim().parse::<i64>().is_ok_and(|number| number >= least),
            Kind::Share => value.trim().parse::<f64>().is_ok_and(|share| (0.0..=1.0).contains(&share)),
            Kind::Bool => matches!(value, "true" | "false"),
            Kind::OneOf(all) => all.contains(&value),
            Kind::List(all) => !value.is_empty() && items(value).all(|item| all.contains(&item)),
            Kind::Text => true,
        };
        if good { Ok(()) } else { Err(format!("Invalid value {value} for configuration {}", self.name)) }
    }

    /// Whether values of it can be appended to and subtracted from.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.kind, Kind::List(_) | Kind::Text)
    }
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// The broker's own defaults for topics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Defaults {
    pub(crate) max_message_bytes: usize,
    pub(crate) segment_bytes: u64,
}

impl Defaults {
    /// The default of an entry.
    pub(crate) fn of(&self, definition: &Definition) -> String {
        match definition.name {
            "max.message.bytes" => self.max_message_bytes.to_string(),
            "segment.bytes" => self.segment_bytes.to_string(),
            _ => definition.default.to_owned(),
        }
    }

    /// What a log makes of a topic's entries. They are checked: anything unreadable falls back to no limit.
    pub(crate) fn settings(&self, entries: &Entries) -> Settings {
        let text = |name: &str| match (entries.get(name), find(name)) {
            (Some(value), _) => value.trim().to_owned(),
            (None, Some(definition)) => self.of(definition),
            (None, None) => String::new(),
        };
        let long = |name: &str| text(name).parse::<i64>().unwrap_or(i64::MAX);
        let limit = |name: &str| Some(long(name)).filter(|limit| *limit >= 0);
        let policies = text("cleanup.policy");
        let policy = |wanted: &str| items(&policies).any(|policy| policy == wanted);
        Settings {
            delete: policy("delete"),
            compact: policy("compact"),
            retention_ms: limit("retention.ms"),
            retention_bytes: limit("retention.bytes").and_then(|bytes| u64::try_from(bytes).ok()),
            segment_bytes: long("segment.bytes").try_into().unwrap_or(u64::MAX),
            segment_ms: long("segment.ms"),
            max_message_bytes: long("max.message.bytes").try_into().unwrap_or(usize::MAX),
            log_append_time: text("message.timestamp.type") == "LogAppendTime",
            before_max_ms: long("message.timestamp.before.max.ms"),
            after_max_ms: long("message.timestamp.after.max.ms"),
            min_cleanable_dirty_ratio: text("min.cleanable.dirty.ratio").parse().unwrap_or(0.5),
            min_compaction_lag_ms: long("min.compaction.lag.ms"),
            max_compaction_lag_ms: long("max.compaction.lag.ms"),
            delete_retention_ms: long("delete.retention.ms"),
        }
    }
}

/// All entries, for describing.
pub(crate) fn definitions() -> &'static [Definition] {
    DEFINITIONS
}

/// Finds an entry's definition, or says that there is none.
pub(crate) fn definition_of(name: &str) -> Result<&'static Definition, String> {
    find(name).ok_or_else(|| format!("Unknown topic config name: {name}"))
}

/// Checks a topic's entries.
pub(crate) fn check(entries: &Entries) -> Result<(), String> {
    entries.iter().try_for_each(|(name, value)| definition_of(name)?.check(value))
}

/// What an incremental change does to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Set,
    Delete,
    Append,
    Subtract,
}

/// Applies one incremental change. The result is yet to be checked.
pub(crate) fn change(
    entries: &mut Entries,
    defaults: &Defaults,
    name: &str,
    operation: Operation,
    value: Option<&str>,
) -> Result<(), String> {
    let definition = definition_of(name)?;
    let missing = || format!("Null value not supported for {name}");
    match operation {
        Operation::Delete => {
            entries.remove(name);
        }
        Operation::Set => {
            entries.insert(name.to_owned(), value.ok_or_else(missing)?.to_owned());
        }
        Operation::Append | Operation::Subtract => {
            if !definition.is_list() {
                return Err(format!("Config value append is not allowed for config key: {name}"));
            }
            let changed: Vec<&str> = items(value.ok_or_else(missing)?).collect();
            let before = entries.get(name).cloned().unwrap_or_else(|| defaults.of(definition));
            let mut after: Vec<&str> = items(&before).filter(|item| !changed.contains(item)).collect();
            if operation == Operation::Append {
                after.extend(changed);
            }
            entries.insert(name.to_owned(), after.join(","));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: Defaults = Defaults { max_message_bytes: 1_048_588, segment_bytes: 1 << 24 };

    fn entries(of: &[(&str, &str)]) -> Entries {
        of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn values_are_checked() {
        assert_eq!(check(&entries(&[("cleanup.policy", "compact,delete"), ("retention.ms", "-1")])), Ok(()));
        for wrong in [
            ("cleanup.policy", "shred"),
            ("retention.ms", "soon"),
            ("nonsense", "1"),
            ("min.cleanable.dirty.ratio", "2"),
        ] {
            assert!(check(&entries(&[wrong])).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn settings_follow_entries_and_defaults() {
        let settings = DEFAULTS.settings(&entries(&[("cleanup.policy", "compact"), ("retention.ms", "-1")]));
        assert!(settings.compact && !settings.delete && settings.retention_ms.is_none());
        assert_eq!((settings.max_message_bytes, settings.segment_bytes), (1_048_588, 1 << 24));
    }

    #[test]
    fn lists_are_appended_to_and_subtracted_from() {
        let mut entries = Entries::new();
        change(&mut entries, &DEFAULTS, "cleanup.policy", Operation::Append, Some("compact")).unwrap();
        assert_eq!(entries["cleanup.policy"], "delete,compact");
        change(&mut entries, &DEFAULTS, "cleanup.policy", Operation::Subtract, Some("delete")).unwrap();
        assert_eq!(entries["cleanup.policy"], "compact");
        change(&mut entries, &DEFAULTS, "cleanup.policy", Operation::Delete, None).unwrap();
        assert!(entries.is_empty());
        assert!(change(&mut entries, &DEFAULTS, "retention.ms", Operation::Append, Some("1")).is_err());
    }
}

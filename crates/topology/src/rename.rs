//! A topology under another name: the same application beside the first one, on the same cluster, without a topic or a
//! group in common.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::diagnostic::Diagnostics;
use crate::yaml::{self, Data, Node};

/// The text of a topology file under another name. Every topic and every group that the file names gets a name that
/// begins with `name` and a dot; what follows from the topology's name follows from the new one. Bridges are left out:
/// they belong to the topics of the original. Comments are lost, the result is JSON, which is YAML too.
///
/// The result is checked by [`parse`](crate::parse) as any other file; a name may be too long, for example.
///
/// # Errors
/// If the text is no YAML. What else is wrong with it stays so.
///
/// ```
/// let text = "name: kyc\ninbound: { requests: kyc.requests }\noutbound: { decisions: decided }\n";
/// let other = anabranch_topology::renamed("topics.yaml", text, "kyc-2")?;
/// let other = anabranch_topology::parse("topics.yaml", &other, None)?.topology;
/// assert_eq!(other.inbound.requests.name, "kyc-2.requests");
/// assert_eq!(other.outbound["decisions"].name, "kyc-2.decided");
/// # Ok::<(), anabranch_topology::Diagnostics>(())
/// ```
pub fn renamed(file: &str, text: &str, name: &str) -> Result<String, Diagnostics> {
    let root = yaml::read(text).map_err(|fault| Diagnostics::of_syntax(file, fault))?;
    let mut value = plain(&root);
    let old = value.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let other = |text: &str| {
        let rest = text.strip_prefix(&old).and_then(|rest| rest.strip_prefix('.'));
        format!("{name}.{}", rest.unwrap_or(text))
    };
    if let Some(file) = value.as_object_mut() {
        file.insert("name".to_owned(), json!(name));
        file.remove("bridges");
    }
    if let Some(Value::String(prices)) = value.get_mut("prices") {
        *prices = beside(file, prices);
    }
    for side in ["inbound", "outbound"] {
        for topic in value.get_mut(side).and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
            rename(topic, "topic", &other);
        }
    }
    for agent in value.get_mut("agents").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        if agent.is_object() {
            rename(agent, "group", &other);
        }
    }
    Ok(format!("{value:#}\n"))
}

/// A path relative to the file, from wherever the result will lie.
fn beside(file: &str, path: &str) -> String {
    let joined = Path::new(file).parent().unwrap_or(Path::new("")).join(path);
    std::path::absolute(&joined).unwrap_or(joined).display().to_string()
}

/// A text, or the text that an object has under `key`.
fn rename(value: &mut Value, key: &str, other: &impl Fn(&str) -> String) {
    let place = if value.is_object() { value.get_mut(key) } else { Some(value) };
    if let Some(Value::String(text)) = place {
        *text = other(text);
    }
}

/// A tree as it is written. Of a key that is repeated the last one counts; the check of the original has refused it.
fn plain(node: &Node) -> Value {
    match &node.data {
        Data::List(items) => Value::Array(items.iter().map(plain).collect()),
        Data::Map(entries) => Value::Object(entries.iter().map(|e| (e.key.clone(), plain(&e.value))).collect()),
        leaf => leaf.leaf(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
name: kyc
partitions: 3
inbound:
  requests: { topic: applications, partitions: 12, retention: 30d, configs: { max.message.bytes: 2000000 } }
  review: kyc.review # kyc.review of the original
outbound:
  decisions: kyc.decisions
  cases: { topic: kycases }
bridges:
  - { from: other.in, to: other.out }
agents:
  identity: { group: kyc-identity, required: true, config: { topic: kyc.requests, group: a } }
  fraud:
";

    #[test]
    fn no_topic_and_no_group_is_shared_and_all_else_stays() {
        let parse = |text: &str| crate::parse("t", text, None).map(|c| c.topology).unwrap();
        let (old, new) = (parse(TEXT), parse(&renamed("t", TEXT, "kyc-7f").unwrap()));
        assert_eq!(new.name, "kyc-7f");
        let names = |topology: &crate::Topology| -> Vec<String> {
            let agents = ["identity", "fraud", crate::SUPERVISOR, crate::COMPOSER].map(|a| topology.group_of(a));
            topology.topics(&[]).into_iter().map(|t| t.name).chain(agents).collect()
        };
        let old_names = names(&old);
        for name in names(&new) {
            assert!(name.starts_with("kyc-7f."), "{name}");
            assert!(!old_names.contains(&name), "{name}");
        }
        assert_eq!(new.inbound.requests.name, "kyc-7f.applications");
        assert_eq!(new.outbound["cases"].name, "kyc-7f.kycases");
        assert_eq!(new.group_of("identity"), "kyc-7f.kyc-identity");
        assert_eq!(new.inbound.requests.configs, old.inbound.requests.configs);
        assert_eq!(new.agents["identity"].config, old.agents["identity"].config, "an agent's own words are its own");
        let shape =
            |t: crate::Topology| t.topics(&[]).into_iter().map(|t| (t.partitions, t.configs)).collect::<Vec<_>>();
        assert_eq!(shape(old), shape(new));
    }

    #[test]
    fn what_is_wrong_stays_wrong() {
        for text in ["name: [", ""] {
            assert!(renamed("t", text, "x").is_err(), "{text:?}");
        }
        for text in ["name: kyc\n", "- 1\n", "null\n", "name: kyc\nagents: 3\ninbound: { requests: 7 }\n"] {
            let text = renamed("t", text, "x").unwrap();
            assert!(crate::parse("t", &text, None).is_err(), "{text}");
        }
    }
}

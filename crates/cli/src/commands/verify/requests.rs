//! The requests that are sent: made from templates, so that no case is like another.

use std::net::Ipv6Addr;
use std::path::Path;

use anabranch_topology::Topology;
use serde_json::{Number, Value};

use crate::commands::dev::demo;
use crate::commands::send::input;
use crate::usage::usage;

/// The reference application: its name, and agents that it alone has together.
const KYC: (&str, [&str; 4]) = ("kyc", ["identity", "document", "fraud", "compliance"]);

/// What can stand in a template.
pub(super) const PLACEHOLDERS: &str = "\
Within any text of a template, {case} is the case's number (0, 1, 2, …), {ip} an address that no other case has, and {id} the
case's correlation id. A text that is just \"{number}\" becomes the number itself.";

/// JSON values with placeholders; cases take them by turns.
#[derive(Debug)]
pub(super) struct Templates(Vec<Value>);

impl Templates {
    /// Those of a file, or those that are known for the topology.
    ///
    /// # Errors
    /// If the file cannot be used, or none is given and none is known.
    pub(super) fn of(file: Option<&Path>, topology: &Topology) -> anyhow::Result<Self> {
        match file {
            Some(file) => Self::read(file),
            None if is_kyc(topology) => Self::kyc(),
            None => Err(usage(format!(
                "what does a request of topology {} look like? Write one into a file and name it with --request FILE, for \
                 example {{\"customer\": \"customer-{{case}}\", \"amount\": 10}}. {}",
                topology.name,
                PLACEHOLDERS.replace('\n', " ")
            ))),
        }
    }

    fn read(file: &Path) -> anyhow::Result<Self> {
        let parse = |message: input::Message| serde_json::from_str(&message.text);
        let values: Result<Vec<Value>, _> = input::read(file)?.into_iter().map(parse).collect();
        // Numbers that no value of ours can hold; that it is JSON has been seen.
        values.map(Self).map_err(|e| usage(format!("{}: {e}", file.display())))
    }

    /// The demo's clean case, from an address and a device of its own each: many from one would be a fraud alert.
    fn kyc() -> anyhow::Result<Self> {
        let mut request =
            demo::clean_request().ok_or_else(|| usage("there is no clean demo case; name a --request"))?;
        request["source"] = serde_json::json!({ "ip": "{ip}", "device_id": "device-{case}" });
        Ok(Self(vec![request]))
    }

    /// The request of case number `n`, as JSON.
    pub(super) fn request(&self, n: u64, id: &str) -> String {
        let template = usize::try_from(n).unwrap_or(usize::MAX) % self.0.len().max(1);
        let mut request = self.0.get(template).cloned().unwrap_or_default();
        fill(&mut request, n, id);
        request.to_string()
    }
}

fn is_kyc(topology: &Topology) -> bool {
    topology.name == KYC.0 && KYC.1.iter().all(|agent| topology.agents.contains_key(*agent))
}

fn fill(value: &mut Value, n: u64, id: &str) {
    match value {
        Value::String(text) if text == "{number}" => *value = Value::Number(Number::from(n)),
        Value::String(text) if text.contains('{') => {
            *text = text.replace("{case}", &n.to_string()).replace("{ip}", &address(n).to_string()).replace("{id}", id);
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, n, id)),
        Value::Object(members) => members.values_mut().for_each(|member| fill(member, n, id)),
        _ => {}
    }
}

/// An address in a network of its own, among those for documentation.
fn address(n: u64) -> Ipv6Addr {
    let [.., a, b, c, d] = n.to_be_bytes();
    Ipv6Addr::new(0x2001, 0xdb8, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), 0, 0, 0, 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn templates(text: &str) -> Templates {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("requests.json");
        std::fs::write(&file, text).unwrap();
        Templates::read(&file).unwrap()
    }

    #[test]
    fn placeholders_are_filled_wherever_they_stand() {
        let templates =
            templates(r#"{"a": ["x-{case}-{id}", {"b": "{number}", "c": "{ip}"}], "d": "{other}", "e": 1}"#);
        let request: Value = serde_json::from_str(&templates.request(7, "case-7")).unwrap();
        let expected =
            serde_json::json!({"a": ["x-7-case-7", {"b": 7, "c": "2001:db8:0:7::1"}], "d": "{other}", "e": 1});
        assert_eq!(request, expected);
    }

    #[test]
    fn templates_are_taken_by_turns() {
        let templates = templates("{\"first\": \"{case}\"}\n{\"second\": 0}\n");
        let all: Vec<String> = (0..3).map(|n| templates.request(n, "id")).collect();
        assert_eq!(all, ["{\"first\":\"0\"}", "{\"second\":0}", "{\"first\":\"2\"}"]);
    }

    #[test]
    fn the_reference_application_needs_no_file_and_its_cases_share_nothing_that_is_suspicious() {
        let text = include_str!("../../../../../topics.yaml");
        let topology = anabranch_topology::parse("topics.yaml", text, None).unwrap().topology;
        let templates = Templates::of(None, &topology).unwrap();
        let sources: BTreeSet<(String, String)> = (0..70_000)
            .step_by(997)
            .map(|n| {
                let request: Value = serde_json::from_str(&templates.request(n, "id")).unwrap();
                let of = |name: &str| request["source"][name].as_str().unwrap().to_owned();
                (of("ip"), of("device_id"))
            })
            .collect();
        assert_eq!(sources.len(), 71);
        let ips: BTreeSet<_> = sources.iter().map(|(ip, _)| ip).collect();
        assert_eq!(ips.len(), 71);
    }

    #[test]
    fn of_another_application_a_request_has_to_be_given() {
        let topology = crate::reading::example();
        let error = Templates::of(None, &topology).unwrap_err().to_string();
        assert!(error.contains("--request FILE") && error.contains("{case}"), "{error}");
        let missing = Templates::of(Some(Path::new("/nowhere/x.json")), &topology).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/x.json"), "{missing}");
    }
}

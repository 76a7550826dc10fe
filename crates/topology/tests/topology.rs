//! Files as users write them: broken ones give exact errors, all at once; good ones give the topology that is meant.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anabranch_topology::{
    COMPOSER, Order, SUPERVISOR, Severity, TopicRole, Topology, compile_when, json_schema, parse, prices,
};
use proptest::prelude::*;

const MINIMAL: &str = "name: a\ninbound: { requests: in }\noutbound: { x: out }\n";

fn files(dir: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    files
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// A broken file's first line may name the agents that have a crate.
fn crates(text: &str) -> Option<Vec<String>> {
    let names = text.lines().next()?.strip_prefix("# crates: ")?;
    Some(names.split(", ").map(str::to_owned).collect())
}

fn valid(text: &str) -> Topology {
    let checked = parse("topics.yaml", text, None).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(checked.warnings, [], "no warning is expected");
    checked.topology
}

#[test]
fn broken_files_give_exact_errors() {
    let files = files("tests/broken");
    assert!(files.len() >= 10);
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let shown = match parse("topics.yaml", &text, crates(&text).as_deref()) {
            Err(diagnostics) => {
                assert!(diagnostics.iter().any(|d| d.severity == Severity::Error));
                diagnostics.to_string()
            }
            Ok(checked) => {
                assert!(!checked.warnings.is_empty(), "{name} is not broken");
                checked.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            }
        };
        insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "broken", omit_expression => true }, {
            insta::assert_snapshot!(name, shown);
        });
    }
}

#[test]
fn a_minimal_file_has_every_default() {
    let topology = valid(&read("tests/valid/minimal.yaml"));
    insta::assert_debug_snapshot!(topology);
}

#[test]
fn a_full_file_sets_every_field() {
    let topology = valid(&read("tests/valid/full.yaml"));
    insta::assert_debug_snapshot!(topology);
}

#[test]
fn the_shipped_topology_is_valid() {
    let topology = valid(&read("../../topics.yaml"));
    assert_eq!(
        topology.outbound.keys().collect::<Vec<_>>(),
        ["decisions", "cases", "fraud-alerts", "customer-messages"]
    );
    for agent in ["identity", "document", "fraud", "compliance"] {
        assert_eq!(topology.agent(agent).required, Some(true), "{agent}");
    }
}

#[test]
fn the_committed_schema_is_the_one_that_is_used() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/topics.schema.json");
    let schema = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, &schema).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == schema,
        "the schema drifted: run `UPDATE_SCHEMA=1 cargo test -p anabranch-topology` and commit it"
    );
}

#[test]
fn topics_that_follow() {
    let topology = valid(&read("tests/valid/full.yaml"));
    let topics = topology.topics(&["adverse-media", COMPOSER]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&topics).unwrap());
    let partitions = |role| topics.iter().find(|t| t.role == role).unwrap().partitions;
    assert_eq!(partitions(TopicRole::Results), partitions(TopicRole::Review));
    assert_eq!(partitions(TopicRole::Results), partitions(TopicRole::State));
    assert_eq!(topics, topology.topics(&[COMPOSER, "adverse-media"]), "the order is fixed");
}

#[test]
fn a_topic_with_two_aliases_is_created_once() {
    let text = "name: a\ninbound: { requests: in }\noutbound: { x: out, y: out }\n";
    let checked = parse("topics.yaml", text, None).unwrap();
    assert_eq!(checked.warnings.len(), 1);
    let out = checked.topology.topics(&[]).into_iter().filter(|t| t.name == "out").count();
    assert_eq!(out, 1);
}

#[test]
fn groups_follow_the_convention_or_the_line() {
    let topology = valid(&read("tests/valid/full.yaml"));
    assert_eq!(topology.group_of("document"), "loans.document");
    assert_eq!(topology.group_of("unheard-of"), "loans.unheard-of");
    assert_eq!(topology.group_of("identity"), "loans-identity-blue");
    assert_eq!(topology.group_of(SUPERVISOR), "loans.supervisor");
}

#[test]
fn an_agent_without_a_line_has_the_defaults() {
    let topology = valid(&read("tests/valid/full.yaml"));
    let agent = topology.agent("unheard-of");
    assert_eq!(agent.concurrency, 32);
    assert_eq!(agent.order, Order::Partition);
    assert_eq!(topology.model_of(&agent).name, "gpt-4o-mini");
    let identity = topology.agent("identity");
    assert_eq!(identity.retry.max_attempts, 7, "its own");
    assert_eq!(identity.retry.initial_backoff, Duration::from_millis(500), "from the defaults");
    assert_eq!(topology.model_of(&identity).name, "gpt-4o");
}

#[test]
fn aliases_are_copied_and_bombs_are_refused() {
    let text = "name: a\ninbound: { requests: in }\noutbound: { x: out }\nagents:\n  one: &one { concurrency: 3 }\n  two: *one\n";
    assert_eq!(valid(text).agent("two").concurrency, 3);
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..40 {
        let before = format!("*a{}, ", i - 1).repeat(10);
        bomb += &format!("a{i}: &a{i} [{before}]\n");
    }
    let error = parse("topics.yaml", &bomb, None).unwrap_err().to_string();
    assert!(error.contains("aliases copied"), "{error}");
    let heavy = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), "*a, ".repeat(3000));
    let error = parse("topics.yaml", &heavy, None).unwrap_err().to_string();
    assert!(error.contains("aliases copied"), "{error}");
}

#[test]
fn deep_and_long_files_are_refused() {
    for open in ["[", "{a: ", "- ", "? "] {
        let error = parse("topics.yaml", &open.repeat(100_000), None).unwrap_err();
        assert_eq!(error.iter().count(), 1);
    }
    let long = "#".repeat(2 * 1024 * 1024);
    assert!(parse("topics.yaml", &long, None).unwrap_err().to_string().contains("bytes"));
    for when in ["(", "[", "{a: ", "f(", "a.map(x, ", "!(", "-", "a ? b : ", "a.", "a + "] {
        let text = format!("{MINIMAL}agents: {{ b: {{ when: '{}' }} }}\n", when.repeat(4000));
        let error = parse("topics.yaml", &text, None).unwrap_err().to_string();
        assert!(error.contains("agents.b.when"), "{error}");
    }
}

#[test]
fn the_deepest_expressions_that_are_taken_fit_a_stack() {
    let inner = "a ? b : ".repeat(80) + "request.c";
    for (open, close) in
        [("(", ")"), ("[", "]"), ("{'a': ", "}"), ("size(", ")"), ("request.d.map(x, ", ")"), ("!(", ")")]
    {
        let when = format!("{}{inner}{}", open.repeat(6), close.repeat(6));
        assert!(compile_when(&when).is_ok(), "{when}");
        assert!(compile_when(&format!("{open}{when}{close}")).is_err(), "{when}");
    }
    assert!(compile_when(&("request.a".to_owned() + &" + 1".repeat(250))).is_ok());
}

#[test]
fn a_byte_order_mark_and_line_ends_of_windows_are_taken() {
    let text = format!("\u{feff}{}", MINIMAL.replace('\n', "\r\n"));
    assert_eq!(valid(&text), valid(MINIMAL));
}

#[test]
fn faults_past_a_bound_are_counted() {
    let text: String = (0..500).map(|i| format!("field{i}: 1\n")).collect();
    let error = parse("topics.yaml", &(MINIMAL.to_owned() + &text), None).unwrap_err();
    assert_eq!(error.iter().count(), 201);
    assert_eq!(error.iter().last().unwrap().message, "300 more are not shown");
}

#[test]
fn prices_may_have_a_file_of_their_own() {
    let text = format!("{MINIMAL}budgets: {{ per_case: {{ money: 1 }} }}\nprices: prices.yaml\n");
    let topology = valid(&text);
    let list = prices("prices.yaml", "gpt-4o-mini: { input: 0.15, output: 0.6 }\n", &topology).unwrap();
    assert_eq!(list["gpt-4o-mini"].input, 0.15);
    let said = |text: &str| prices("prices.yaml", text, &topology).unwrap_err().to_string();
    let missing = said("gpt-4o: { input: 2.5, output: 10 }\n");
    assert!(
        missing.starts_with("prices.yaml:1:1: error: a budget counts money, and the model `gpt-4o-mini`"),
        "{missing}"
    );
    let wrong = said("gpt-4o-mini: { input: 0.15, output: -1 }\ngpt-4o: 3\n");
    assert!(wrong.contains("prices.yaml:1:37: error: gpt-4o-mini.output: -1 is not a number from 0"), "{wrong}");
    assert!(wrong.contains("prices.yaml:2:9: error: gpt-4o: expected a mapping, found the number 3"), "{wrong}");
    for text in ["", "- 1\n", "a: [", "null\n"] {
        assert!(prices("prices.yaml", text, &topology).is_err(), "{text:?}");
    }
}

#[test]
fn diagnostics_are_json_too() {
    let error = parse("topics.yaml", "name: kyc\n", None).unwrap_err();
    insta::assert_snapshot!(serde_json::to_string_pretty(&error).unwrap());
}

fn schema_accepts(value: &serde_json::Value) -> bool {
    static VALIDATOR: std::sync::LazyLock<jsonschema::Validator> =
        std::sync::LazyLock::new(|| jsonschema::validator_for(&json_schema()).unwrap());
    VALIDATOR.is_valid(value)
}

/// JSON is YAML: editors, which use the schema, and `parse` must agree on it.
fn parse_accepts(value: &serde_json::Value) -> bool {
    parse("topics.yaml", &value.to_string(), None).is_ok()
}

fn file_with(path: &[&str], value: serde_json::Value) -> serde_json::Value {
    let mut file = serde_json::json!({ "name": "kyc", "inbound": { "requests": "in" }, "outbound": { "x": "out" } });
    let mut place = &mut file;
    for key in path {
        place = &mut place[*key];
    }
    *place = value;
    file
}

fn odd_value() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        (-3i64..200_000).prop_map(Into::into),
        (-1.0f64..3.0).prop_map(Into::into),
        "[0-9]{0,3}(ms|s|m|h|d|w|MiB|kB|B|KiB)?".prop_map(Into::into),
        "(key|partition|none|other)".prop_map(Into::into),
        Just(serde_json::json!([])),
        Just(serde_json::json!(["a", 1])),
        Just(serde_json::json!({})),
        Just(serde_json::json!({ "topic": "elsewhere", "partitions": 6 })),
    ]
}

/// Places where only the shape decides, or where the rules take every shape that the generator makes.
const PLACES: &[&[&str]] = &[
    &["partitions"],
    &["replication_factor"],
    &["directory"],
    &["confidence", "max_follow_up_rounds"],
    &["join", "closed_memory"],
    &["models", "other", "temperature"],
    &["models", "other", "max_output_tokens"],
    &["models", "other", "timeout"],
    &["agents", "identity"],
    &["agents", "identity", "concurrency"],
    &["agents", "identity", "order"],
    &["agents", "identity", "drain_timeout"],
    &["agents", "identity", "required"],
    &["agents", "identity", "http_port"],
    &["agents", "identity", "retry", "max_attempts"],
    &["agents", "identity", "config"],
    &["agents", "identity", "nonsense"],
    &["outbound", "y"],
    &["bridges"],
];

proptest! {
    #[test]
    fn random_text_never_panics(text in "\\PC{0,200}") {
        let _ = parse("topics.yaml", &text, None);
    }

    #[test]
    fn random_yaml_never_panics(text in "([a-c:\\[\\]{},\"'&*!|>%@#?. \n\t-]|name: |agents: |inbound:\n  |- ){0,60}") {
        let _ = parse("topics.yaml", &text, None);
    }

    #[test]
    fn a_damaged_file_never_panics(at in 0usize..3000, damage in "[ -~\n\t]{0,4}", cut in 0usize..8) {
        let mut text: Vec<char> = read("tests/valid/full.yaml").chars().collect();
        let at = at % text.len();
        text.splice(at..(at + cut).min(text.len()), damage.chars());
        if let Err(error) = parse("topics.yaml", &text.iter().collect::<String>(), None) {
            for d in &error {
                prop_assert!(d.line >= 1 && d.column >= 1 && !d.message.is_empty() && !d.help.is_empty());
                prop_assert!(!d.message.contains("the schema let it through"), "{}", d);
            }
        }
    }

    #[test]
    fn schema_and_parser_agree(place in 0..PLACES.len(), value in odd_value()) {
        let file = file_with(PLACES[place], value);
        prop_assert_eq!(schema_accepts(&file), parse_accepts(&file), "{}", file);
    }
}

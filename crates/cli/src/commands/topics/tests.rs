use std::collections::BTreeMap;

use anabranch_kafka::ConfigEntry;
use anabranch_topology::{TopicSpec, Topology};

use super::plan::{Actual, Plan, Step, plan};
use super::show;
use crate::reading::example;

fn entry(value: &str) -> ConfigEntry {
    ConfigEntry { value: Some(value.to_owned()), is_default: false, read_only: false, sensitive: false }
}

/// A cluster that has exactly what is desired.
fn cluster_with(specs: &[TopicSpec]) -> Actual {
    let configs = |spec: &TopicSpec| spec.configs.iter().map(|(name, value)| (name.clone(), entry(value))).collect();
    Actual {
        partitions: specs.iter().map(|spec| (spec.name.clone(), spec.partitions)).collect(),
        configs: specs.iter().map(|spec| (spec.name.clone(), configs(spec))).collect(),
    }
}

fn given() -> (Topology, Vec<TopicSpec>, Actual) {
    let topology = example();
    let desired = topology.topics(&[]);
    let actual = cluster_with(&desired);
    (topology, desired, actual)
}

fn shown(plan: &Plan) -> String {
    format!("{}\n{}", show::lines(plan).join("\n"), show::summary(plan))
}

fn want(desired: &mut [TopicSpec], topic: &str, partitions: i32) {
    desired.iter_mut().find(|spec| spec.name == topic).unwrap().partitions = partitions;
}

#[test]
fn the_same_is_no_difference() {
    let (topology, desired, actual) = given();
    let plan = plan(&topology, &desired, &actual, true);
    assert_eq!(plan, Plan::default());
    assert_eq!(show::summary(&plan), "nothing to do: the cluster has what the topology says");
}

#[test]
fn an_empty_cluster_gets_everything() {
    let (topology, desired, _) = given();
    let plan = plan(&topology, &desired, &Actual::default(), false);
    assert_eq!(plan.steps.len(), desired.len());
    insta::assert_snapshot!(shown(&plan));
}

#[test]
fn what_differs_is_shown_old_and_new() {
    let (topology, mut desired, mut actual) = given();
    want(&mut desired, "kyc.tasks.fraud", 12);
    actual.configs.get_mut("kyc.late").unwrap().insert("retention.ms".to_owned(), entry("1000"));
    actual.configs.get_mut("kyc.agents").unwrap().remove("segment.ms");
    actual.partitions.remove("kyc.cases");
    let strangers = ["kyc.tasks.gone", "kyc.tasks.gone.dlq", "kyc.tasks-of-others", "kyc.notes", "crm.updates"];
    actual.partitions.extend(strangers.map(|name| (name.to_owned(), 1)));
    let plan = plan(&topology, &desired, &actual, false);
    assert!(plan.differs);
    insta::assert_snapshot!(format!("{}\n{}", shown(&plan), plan.warnings.join("\n")));
}

#[test]
fn only_left_over_topics_are_deleted_and_only_when_asked() {
    let (topology, desired, mut actual) = given();
    actual.partitions.insert("kyc.tasks.gone".to_owned(), 1);
    actual.partitions.insert("kyc.notes".to_owned(), 1);
    assert_eq!(plan(&topology, &desired, &actual, false).steps, []);
    let asked = plan(&topology, &desired, &actual, true);
    assert_eq!(asked.steps, [Step::Delete { topic: "kyc.tasks.gone".to_owned() }]);
    assert_eq!(shown(&asked), "- kyc.tasks.gone  deleted with all its records\n1 to delete");
}

#[test]
fn partitions_never_become_fewer() {
    let (topology, mut desired, actual) = given();
    want(&mut desired, "kyc.decisions", 3);
    let plan = plan(&topology, &desired, &actual, true);
    assert_eq!(plan.steps, []);
    insta::assert_snapshot!(shown(&plan), @r"
    ! kyc.decisions  it has 6 partitions and the topology says 3: Kafka cannot take partitions away; write 6, or delete the topic and its records and apply again
    1 that cannot be done
    ");
}

#[test]
fn joined_topics_grow_together_or_not_at_all() {
    let joined = ["kyc.results", "kyc.review-decisions", "kyc.composer-state"];
    let (topology, mut desired, mut actual) = given();
    joined.iter().for_each(|topic| want(&mut desired, topic, 12));
    // One was grown before something failed: going on is right.
    actual.partitions.insert("kyc.results".to_owned(), 12);
    let together = plan(&topology, &desired, &actual, false);
    assert_eq!(together.refused, []);
    assert_eq!(together.steps.len(), 2);
    assert!(together.warnings[0].contains("open case"), "{:?}", together.warnings);

    // One has more than is wanted and cannot shrink: the others must not grow away from it.
    actual.partitions.insert("kyc.results".to_owned(), 24);
    actual.partitions.remove("kyc.composer-state");
    let apart = plan(&topology, &desired, &actual, false);
    assert_eq!(apart.steps, []);
    let refused: Vec<&str> = apart.refused.iter().map(|r| r.topic.as_str()).collect();
    assert_eq!(refused, ["kyc.review-decisions", "kyc.results", "kyc.composer-state"]);
    insta::assert_snapshot!(shown(&apart));
}

#[test]
fn a_plan_is_json_too() {
    let (topology, mut desired, mut actual) = given();
    want(&mut desired, "kyc.tasks.fraud", 12);
    actual.configs.get_mut("kyc.late").unwrap().insert("retention.ms".to_owned(), entry("1000"));
    actual.partitions.remove("kyc.cases");
    let plan = plan(&topology, &desired, &actual, false);
    insta::assert_snapshot!(serde_json::to_string_pretty(&plan).unwrap());
}

#[test]
fn a_secret_value_is_not_needed_to_compare() {
    let (topology, desired, mut actual) = given();
    let hidden = ConfigEntry { value: None, is_default: false, read_only: false, sensitive: true };
    actual.configs.insert("kyc.late".to_owned(), BTreeMap::from([("retention.ms".to_owned(), hidden)]));
    let plan = plan(&topology, &desired, &actual, false);
    assert!(show::lines(&plan)[0].starts_with("~ kyc.late  retention.ms: ? → "), "{:?}", show::lines(&plan));
}

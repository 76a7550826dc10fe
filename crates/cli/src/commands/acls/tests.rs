use super::print;
use super::rights::{Operation, Pattern, Resource, Right, operator, rights};
use crate::reading::{declared_agents, example};

fn given(principal: &str) -> Vec<Right> {
    let topology = example();
    let mut agents = declared_agents(&topology);
    agents.insert("adverse-media".to_owned());
    rights(&topology, &agents, principal)
}

#[test]
fn kafka() {
    insta::assert_snapshot!(print::kafka(&given("User:{agent}")));
}

#[test]
fn rpk() {
    insta::assert_snapshot!(print::rpk(&given("User:{agent}")));
}

#[test]
fn json() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&given("User:CN={agent},O=It's")).unwrap());
}

#[test]
fn a_principal_is_one_word_for_the_shell() {
    let line = print::kafka(&given("User:CN={agent},O=It's"));
    assert!(line.contains(r"--allow-principal 'User:CN=identity,O=It'\''s'"), "{line}");
}

/// Which rights an agent has on a topic.
fn may(rights: &[Right], agent: &str, topic: &str, operation: Operation) -> bool {
    rights.iter().any(|r| {
        let named = match r.pattern {
            Pattern::Literal => r.name == topic,
            Pattern::Prefixed => topic.starts_with(&r.name),
        };
        r.agent == agent && r.resource == Resource::Topic && named && r.operations.contains(&operation)
    })
}

#[test]
fn agents_do_not_reach_each_other() {
    let rights = given("User:{agent}");
    let (read, write) = (Operation::Read, Operation::Write);
    assert!(may(&rights, "identity", "kyc.tasks.identity", read));
    for (agent, topic, operation) in [
        ("identity", "kyc.tasks.fraud", read),
        ("identity", "kyc.tasks.identity", write),
        ("identity", "kyc.results", read),
        ("identity", "kyc.decisions", write),
        ("identity", "kyc.requests", read),
        ("supervisor", "kyc.decisions", write),
        ("supervisor", "kyc.requests", write),
        ("supervisor", "kyc.tasks.identity", read),
        ("composer", "kyc.tasks.identity", write),
        ("composer", "kyc.requests", read),
    ] {
        assert!(!may(&rights, agent, topic, operation), "{agent} {operation:?} {topic}");
    }
    assert!(may(&rights, "supervisor", "kyc.tasks.added-tomorrow", write));
}

#[test]
fn an_operator_deals_with_dead_letters_and_makes_no_outcomes() {
    let topology = example();
    let rights = operator(&topology, &declared_agents(&topology), "User:{agent}");
    let (read, write) = (Operation::Read, Operation::Write);
    for (topic, operation) in [
        ("kyc.tasks.identity.dlq", read),
        ("kyc.tasks.identity", write),
        ("kyc.requests", read),
        ("kyc.requests", write),
        ("kyc.dlq-marks", write),
        ("kyc.composer-state", read),
    ] {
        assert!(may(&rights, "operator", topic, operation), "{operation:?} {topic}");
    }
    for (topic, operation) in [
        ("kyc.tasks.identity.dlq", write),
        ("kyc.tasks.identity", read),
        ("kyc.decisions", write),
        ("kyc.composer-state", write),
    ] {
        assert!(!may(&rights, "operator", topic, operation), "{operation:?} {topic}");
    }
    assert!(rights.iter().all(|right| right.principal == "User:operator" && right.resource == Resource::Topic));
}

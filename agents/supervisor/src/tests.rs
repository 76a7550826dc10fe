use anabranch_sdk::Class;
use anabranch_sdk::protocol::Timestamp;
use anabranch_testkit::harness::SupervisorHarness;

use super::*;

fn candidate(agent: &str, required: bool, after: &[&str], applies: bool) -> Candidate {
    Candidate {
        agent: agent.into(),
        description: String::new(),
        version: Some("1".into()),
        required,
        after: after.iter().map(|a| (*a).into()).collect(),
        sees: None,
        applies,
    }
}

fn directory() -> Directory {
    Directory::new(vec![
        candidate("adverse-media", false, &[], true),
        candidate("customer", false, &["outcome"], true),
        candidate("document", true, &[], true),
        candidate("identity", true, &[], true),
        candidate("loans", false, &[], false),
    ])
}

async fn plan(config: Value, request: Value) -> Result<(Vec<(String, bool)>, Option<Timestamp>), AgentError> {
    let draft = SupervisorHarness::<KycSupervisor>::new(config).unwrap().plan(request, &directory()).await?;
    let (steps, due) = draft.into_parts();
    let mut steps: Vec<(String, bool)> = steps.into_iter().map(|s| (s.agent, s.required)).collect();
    steps.sort();
    Ok((steps, due))
}

fn steps(adverse_media_required: bool) -> Vec<(String, bool)> {
    let steps =
        [("adverse-media", adverse_media_required), ("customer", false), ("document", true), ("identity", true)];
    steps.map(|(agent, required)| (agent.to_owned(), required)).to_vec()
}

#[tokio::test]
async fn every_agent_that_applies_is_asked() {
    let (planned, due) = plan(json!({}), json!({ "applicant": { "name": "Ava" }, "unknown": [1] })).await.unwrap();
    assert_eq!(planned, steps(false));
    assert_eq!(due, None, "the topology's deadline");
}

#[tokio::test]
async fn high_risk_needs_every_vote_and_may_need_it_sooner() {
    let config = json!({ "decide_within": { "high": "3m" } });
    let before = anabranch_testkit::harness::wall_clock();
    let (planned, due) = plan(config, json!({ "applicant": { "name": "Ava" }, "risk": " High" })).await.unwrap();
    assert_eq!(planned, steps(true));
    let left = due.unwrap().since(before);
    assert!((180..200).contains(&left.as_secs()), "{left:?}");
}

#[tokio::test]
async fn what_is_no_application_is_terminal() {
    for request in [
        json!(null),
        json!([]),
        json!("text"),
        json!({}),
        json!({ "applicant": {} }),
        json!({ "applicant": { "name": 7 } }),
        json!({ "applicant": { "name": "Ava" }, "document": { "mrz": 7 } }),
    ] {
        let error = plan(json!({}), request.clone()).await.unwrap_err();
        assert_eq!(error.class(), Class::Terminal, "{request}");
    }
}

#[test]
fn configs_that_make_no_sense_are_refused() {
    for config in
        [json!({ "decide_within": { "high": "0s" } }), json!({ "decide_within": { "high": 3 } }), json!({ "risk": 1 })]
    {
        assert!(SupervisorHarness::<KycSupervisor>::new(config.clone()).is_err(), "{config}");
    }
}

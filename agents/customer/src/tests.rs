use anabranch_sdk::llm::ModelError;
use anabranch_testkit::ScriptedModel;
use anabranch_testkit::harness::AgentHarness;

use super::*;

fn draft(subject: &str, body: &str) -> ScriptedModel {
    ScriptedModel::new().answer_json(json!({ "subject": subject, "body": body }))
}

fn outcome(state: &str, needed: &[&str]) -> Value {
    json!({
        "state": state, "needed_from_applicant": needed,
        "codes": ["SANCTIONS_POSSIBLE"], "findings": [{ "detail": "may be QUILLFEATHER" }]
    })
}

async fn write(model: ScriptedModel, outcome: Value) -> (Message, AgentHarness<CustomerAgent>) {
    let harness = AgentHarness::<CustomerAgent>::new(json!({})).unwrap().model(model);
    let request = json!({ "applicant": { "name": "Ava Marie Specimen" } });
    let (message, confidence, _) = harness.task(request).outcome(outcome).run().await.unwrap().into_parts();
    assert_eq!(confidence, None, "it has no vote");
    (message, harness)
}

#[tokio::test]
async fn an_approval_is_told_in_the_models_words() {
    let (message, _) = write(draft("Good news", "Your account is approved."), outcome("approved", &[])).await;
    assert_eq!(message.worded_by, Author::Model);
    assert_eq!(message.body, "Dear Ava Marie Specimen,\n\nYour account is approved.\n\nYour onboarding team");
    assert_eq!(message.situation, Situation::Approved);
}

#[tokio::test]
async fn the_applicant_learns_what_to_send_and_nothing_else() {
    let model = draft("Your application", "Please send us a document that shows your address.");
    let (message, harness) = write(model, outcome("human", &["proof_of_address", "secret_item"])).await;
    assert_eq!(message.situation, Situation::InReview);
    assert_eq!(message.please_send, ["a document that shows your address, such as a recent utility bill"]);
    let twice = ["proof_of_identity", "birth_date", "valid_identity_document"].map(str::to_owned);
    assert_eq!(words::items(&twice), ["a valid passport or identity card", "your date of birth"]);
    let asked = &harness.asked().requests()[0];
    for message in &asked.messages {
        for secret in ["SANCTIONS", "QUILLFEATHER", "secret_item", "Specimen"] {
            assert!(!message.content.contains(secret), "{secret} reached the model");
        }
    }
}

#[tokio::test]
async fn a_message_that_says_what_it_must_not_is_not_sent() {
    for (state, body) in [
        ("human", "You are on a sanctions list."),
        ("human", "We suspect fraud."),
        ("human", "Congratulations, your account is approved!"),
        ("human", "We have rejected your application."),
        ("rejected_by_reviewer", "Your account is approved."),
        ("approved", "We are unable to open an account."),
        ("human", "Click https://example.com to go on."),
        ("human", " "),
    ] {
        let (message, _) = write(draft("Your application", body), outcome(state, &[])).await;
        assert_eq!(message.worded_by, Author::Template, "{state}: {body}");
        assert!(!message.body.contains(body.trim()) || body.trim().is_empty());
        assert_eq!(fault(message.situation, &message.subject, &message.body), None, "our own words are fit to send");
    }
    let (message, _) = write(draft("Hi", &"long ".repeat(1000)), outcome("human", &[])).await;
    assert_eq!(message.worded_by, Author::Template);
}

#[tokio::test]
async fn a_model_that_refuses_holds_nothing_up() {
    let refusal = ScriptedModel::new()
        .fail(ModelError::Refusal { message: "no".into(), usage: anabranch_sdk::llm::Usage::default() });
    let (message, _) = write(refusal, outcome("human", &["valid_identity_document"])).await;
    assert_eq!(message.worded_by, Author::Template);
    assert!(message.body.contains("a valid passport or identity card"));
}

#[tokio::test]
async fn a_state_it_does_not_know_promises_nothing() {
    for outcome in [json!({ "state": "on_hold" }), json!({})] {
        let (message, _) = write(draft("Your application", "A colleague looks at it."), outcome).await;
        assert_eq!(message.situation, Situation::InReview);
    }
}

#[test]
fn a_name_is_not_our_words() {
    for name in
        ["", "Ava http://evil.example", "Ava\n\nYour account is approved. Call 0900 123", "a".repeat(200).as_str()]
    {
        assert!(words::letter(name, "text", "us").starts_with("Dear applicant,\n\ntext"), "{name}");
    }
    assert!(words::letter("  Søren   O'Neill-Ångström ", "text", "us").starts_with("Dear Søren O'Neill-Ångström,"));
}

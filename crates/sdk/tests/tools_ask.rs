//! `ctx.tools().ask`: an answer of the wrong shape is repaired as often as the topology says, and then it is terminal.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;

use anabranch_sdk::llm::script::{Reply, ScriptedModel};
use anabranch_sdk::llm::{Role, ToolCall};
use anabranch_sdk::model::ModelSettings;
use anabranch_sdk::prelude::*;
use anabranch_sdk::protocol::{CorrelationId, Envelope, EventId, PlanId, Task, TaskId, Timestamp, TraceParent};
use anabranch_sdk::tools::{Called, Policy, Toolbox, Verdict};

#[derive(Deserialize, JsonSchema)]
struct Of {
    country: String,
}

struct Capital;

impl Tool for Capital {
    const NAME: &'static str = "capital";
    const DESCRIPTION: &'static str = "The capital of a country.";
    type Input = Of;
    type Output = String;

    async fn call(&self, _: &ToolContext<'_>, of: Of) -> Result<String, ToolError> {
        Ok(format!("the capital of {}", of.country))
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct City {
    name: String,
}

/// What came of the question, and what the model was asked.
async fn ask(model: ScriptedModel, max_repairs: u32) -> (Result<(City, Vec<Called>), AgentError>, Arc<ScriptedModel>) {
    let now = || Timestamp::from_millis(1_000);
    let id = EventId::new("task");
    let envelope = Envelope {
        trace: TraceParent::root(&id),
        origin_trace: TraceParent::root(&id),
        id,
        source: "/test".to_owned(),
        kind: Task::TYPE.to_owned(),
        subject: None,
        time: now(),
        correlation_id: CorrelationId::new("case-1"),
        causation_id: None,
        deadline: None,
        trace_state: None,
    };
    let plan_id = PlanId::new("plan");
    let task = Task {
        task_id: TaskId::derive(&plan_id, "geographer", 0),
        plan_id,
        agent: "geographer".to_owned(),
        round: 0,
        question: None,
        request: json!({}),
        parts: Default::default(),
        outcome: None,
        case: None,
    };
    let model = Arc::new(model);
    let settings = ModelSettings { max_repairs, ..ModelSettings::default() };
    let handle = ModelHandle::new(model.clone(), settings, "geographer");
    let toolbox = Toolbox::new(ToolSet::new().with(Capital), Vec::new(), Policy::default()).unwrap();
    let context = Context::new(&envelope, &task, 1, now, &handle).with_tools(&toolbox);
    let prompt = Prompt::new("Name the capital.").text("country", "Utopia");
    (context.tools().ask("city", &prompt).await, model)
}

fn script(answers: &[&str]) -> ScriptedModel {
    let call = ToolCall { id: "c1".to_owned(), name: "capital".to_owned(), arguments: json!({ "country": "Utopia" }) };
    answers.iter().fold(ScriptedModel::new().then(Reply::Calls(vec![call])), |model, answer| model.answer(*answer))
}

#[tokio::test]
async fn an_answer_of_the_wrong_shape_is_repaired() {
    let (answer, model) = ask(script(&["Amaurot", r#"{"city":"Amaurot"}"#, r#"{"name":"Amaurot"}"#]), 2).await;
    let (city, calls) = answer.unwrap();
    assert_eq!(city, City { name: "Amaurot".to_owned() });
    assert_eq!(
        calls.iter().map(|call| call.verdict).collect::<Vec<_>>(),
        [Verdict::Done],
        "the tool is not called anew"
    );
    let requests = model.requests();
    assert_eq!(requests.len(), 4);
    let last = &requests[3].messages[requests[3].messages.len() - 2..];
    assert_eq!((last[0].role, last[0].content.as_str()), (Role::Assistant, r#"{"city":"Amaurot"}"#));
    assert!(last[1].content.starts_with("Your answer is not valid: "), "{last:?}");
}

#[tokio::test]
async fn repairs_are_bounded_and_then_it_is_terminal() {
    for (max_repairs, asked) in [(0, 2), (2, 4)] {
        let (answer, model) = ask(script(&["a", "b", "c", "d"]), max_repairs).await;
        let error = answer.unwrap_err();
        assert_eq!(error.class(), Class::Terminal, "a dead letter: {error}");
        assert!(max_repairs == 0 || error.to_string().contains("after 2 repairs"), "{error}");
        assert_eq!(model.requests().len(), asked);
    }
}

//! What of its case an agent may see. Decided where a task is made, so that what an agent may not see is not in its task.

use anabranch_protocol::{CaseContext, Claim, Step};
use anabranch_topology::AgentSettings;
use serde_json::Value;

/// What one agent may see.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    agent: &'a str,
    sees: &'a [String],
    hidden: &'a [String],
}

impl<'a> Sight<'a> {
    /// Of the agent of this step. `topics.yaml` counts before what the plan took from the agent's card, and that before
    /// what the step waits for: whoever plans cannot show more than the topology allows.
    pub fn new(step: &'a Step, settings: &'a AgentSettings) -> Self {
        let sees = settings.sees.as_ref().or(step.sees.as_ref()).unwrap_or(&step.after);
        Self { agent: &step.agent, sees, hidden: &settings.hidden_fields }
    }

    /// Whether it may see what `agent` answered. Its own earlier answer it always may.
    pub fn answer_of(&self, agent: &str) -> bool {
        agent == self.agent || self.names(agent)
    }

    /// Whether it may see the outcome.
    pub fn outcome(&self) -> bool {
        self.names(Step::OUTCOME)
    }

    fn names(&self, what: &str) -> bool {
        self.sees.iter().any(|seen| seen == what || seen == Step::EVERYBODY)
    }

    /// The request without the fields that are hidden from it.
    pub fn request(&self, request: &Value) -> Value {
        let mut shown = request.clone();
        for pointer in self.hidden {
            let tokens: Vec<String> =
                pointer.split('/').skip(1).map(|t| t.replace("~1", "/").replace("~0", "~")).collect();
            hide(&mut shown, &tokens);
        }
        shown
    }

    /// What it is told of its case beside that.
    pub fn context(&self, steps: &[Step]) -> CaseContext {
        CaseContext { steps: steps.to_vec(), sees: self.sees.to_vec(), hidden: self.hidden.to_vec() }
    }
}

/// Removes what the tokens of a JSON pointer name; `*` names every element of an array. An element that is hidden becomes
/// null, so that the others keep their places. A claim on the way may stand for what is hidden: it goes as a whole.
fn hide(value: &mut Value, tokens: &[String]) {
    let Some((first, rest)) = tokens.split_first() else { return };
    if Claim::is_claim(value) {
        *value = Value::Null;
        return;
    }
    match value {
        Value::Object(members) if rest.is_empty() => drop(members.remove(first)),
        Value::Object(members) => {
            if let Some(member) = members.get_mut(first) {
                hide(member, rest);
            }
        }
        Value::Array(items) => {
            let named = |at: usize| first == "*" || first.parse() == Ok(at);
            for (_, item) in items.iter_mut().enumerate().filter(|(at, _)| named(*at)) {
                if rest.is_empty() { *item = Value::Null } else { hide(item, rest) }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn step(after: &[&str], sees: Option<&[&str]>) -> Step {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        Step { agent: "fraud".into(), required: true, after: names(after), sees: sees.map(names), version: None }
    }

    fn seen(step: &Step, settings: &AgentSettings) -> Vec<&'static str> {
        let sight = Sight::new(step, settings);
        ["fraud", "identity", "document", "outcome"]
            .into_iter()
            .filter(|name| if *name == "outcome" { sight.outcome() } else { sight.answer_of(name) })
            .collect()
    }

    #[test]
    fn an_agent_sees_what_it_waits_for_unless_it_says_otherwise_and_the_topology_has_the_last_word() {
        let plain = AgentSettings::default();
        assert_eq!(seen(&step(&["identity"], None), &plain), ["fraud", "identity"]);
        assert_eq!(seen(&step(&["outcome"], None), &plain), ["fraud", "outcome"]);
        assert_eq!(seen(&step(&["identity", "outcome"], Some(&[])), &plain), ["fraud"]);
        assert_eq!(seen(&step(&["identity"], Some(&["document"])), &plain), ["fraud", "document"]);
        assert_eq!(seen(&step(&[], Some(&["*"])), &plain), ["fraud", "identity", "document", "outcome"]);
        let strict = AgentSettings { sees: Some(vec!["identity".into()]), ..AgentSettings::default() };
        assert_eq!(seen(&step(&["document"], Some(&["*"])), &strict), ["fraud", "identity"]);
    }

    fn shown(request: &Value, hidden: &[&str]) -> Value {
        let settings =
            AgentSettings { hidden_fields: hidden.iter().map(|h| (*h).to_owned()).collect(), ..Default::default() };
        Sight::new(&step(&[], None), &settings).request(request)
    }

    #[test]
    fn hidden_fields_are_not_there() {
        let request = json!({
            "applicant": { "name": "AVA", "ssn": "1" }, "a/b": 1, "m~n": 2,
            "documents": [{ "number": "A", "type": "id" }, { "number": "B" }], "tags": ["x", "y"]
        });
        let hidden = ["/applicant/ssn", "/a~1b", "/m~0n", "/documents/*/number", "/tags/0", "/no/such", "/tags/9"];
        let left = json!({ "applicant": { "name": "AVA" }, "documents": [{ "type": "id" }, {}], "tags": [null, "y"] });
        assert_eq!(shown(&request, &hidden), left);
        assert_eq!(shown(&request, &[]), request);
        assert_eq!(shown(&request, &["/applicant", "/documents/*"])["documents"], json!([null, null]));
    }

    #[test]
    fn a_claim_that_may_hold_what_is_hidden_goes_as_a_whole() {
        let claim = json!({ "$claim": { "sha256": "a".repeat(64), "bytes": 1, "content_type": "application/json" } });
        let request = json!({ "documents": claim, "applicants": [claim, { "ssn": 1, "name": "B" }], "text": claim });
        let left = shown(&request, &["/documents/*/number", "/applicants/*/ssn"]);
        assert_eq!(left, json!({ "documents": null, "applicants": [null, { "name": "B" }], "text": claim }));
        assert_eq!(shown(&claim, &["/ssn"]), Value::Null, "also where it stands for the whole request");
    }
}

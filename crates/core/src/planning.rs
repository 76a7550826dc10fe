//! Which agents there are, which of them a request needs, and what a valid plan is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anabranch_protocol::{AgentCard, CorrelationId, Plan, PlanId, Step, Timestamp};
use serde_json::Value;

/// Most compiled `when` expressions kept.
const MAX_PROGRAMS: usize = 1_000;

/// What `topics.yaml` says about an agent. It counts before what the agent's card says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// A case must have its answer, even while the agent is away.
    pub required: Option<bool>,
    /// CEL over `request`.
    pub when: Option<String>,
    /// Steps it waits for.
    pub after: Option<Vec<String>>,
    /// Steps whose answers it may see.
    pub sees: Option<Vec<String>>,
}

/// An agent that could be planned with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub agent: String,
    /// What it does; empty if it never announced itself.
    pub description: String,
    /// Its version, if it has announced itself.
    pub version: Option<String>,
    /// Whether a case needs its answer.
    pub required: bool,
    /// What it waits for.
    pub after: Vec<String>,
    /// Whose answers it may see; `None`: those it waits for.
    pub sees: Option<Vec<String>>,
    /// Whether its `when` holds.
    pub applies: bool,
    /// Why its `when` could not be evaluated. Then the agent is asked: doubt means a check more, not one less.
    pub when_error: Option<String>,
}

/// The agents that announced themselves, and what the topology declares.
#[derive(Debug, Default)]
pub struct Directory {
    declared: BTreeMap<String, Declared>,
    cards: BTreeMap<String, AgentCard>,
    lapse_after: Duration,
    programs: Programs,
}

impl Directory {
    /// `declared` are the agents of the topology; a card lapses `lapse_after` its announcement.
    pub fn new(declared: BTreeMap<String, Declared>, lapse_after: Duration) -> Self {
        Self { declared, cards: BTreeMap::new(), lapse_after, programs: Programs::default() }
    }

    /// An agent announced itself.
    pub fn announce(&mut self, card: AgentCard) {
        self.cards.insert(card.name.clone(), card);
    }

    /// An agent was removed (a tombstone).
    pub fn remove(&mut self, agent: &str) {
        self.cards.remove(agent);
    }

    /// Cards that have not lapsed.
    pub fn live(&self, now: Timestamp) -> impl Iterator<Item = &AgentCard> {
        live(&self.cards, self.lapse_after, now)
    }

    /// All agents that could be planned with, in order of name. An agent whose card lapsed is one only if the
    /// topology requires it: then its tasks wait for it on their topic.
    pub fn candidates(&mut self, now: Timestamp, request: &Value) -> Vec<Candidate> {
        let Self { declared, cards, lapse_after, programs } = self;
        let live: BTreeMap<&String, &AgentCard> =
            live(cards, *lapse_after, now).map(|card| (&card.name, card)).collect();
        let required = declared.iter().filter(|(_, d)| d.required == Some(true)).map(|(name, _)| name);
        let names: BTreeSet<&String> = required.chain(live.keys().copied()).collect();
        let undeclared = Declared::default();
        let candidate = |name: &String| {
            let declared = declared.get(name).unwrap_or(&undeclared);
            candidate(name, declared, live.get(name).copied(), |when| programs.holds(when, request))
        };
        names.into_iter().map(candidate).collect()
    }
}

fn live(
    cards: &BTreeMap<String, AgentCard>,
    lapse_after: Duration,
    now: Timestamp,
) -> impl Iterator<Item = &AgentCard> {
    cards.values().filter(move |card| now.since(card.announced_at) < lapse_after)
}

fn candidate(
    name: &str,
    declared: &Declared,
    card: Option<&AgentCard>,
    holds: impl FnOnce(&str) -> Result<bool, String>,
) -> Candidate {
    let when = declared.when.as_deref().or_else(|| card.and_then(|c| c.when.as_deref()));
    let (applies, when_error) = match when.map(holds) {
        None => (true, None),
        Some(Ok(applies)) => (applies, None),
        Some(Err(error)) => (true, Some(error)),
    };
    Candidate {
        agent: name.to_owned(),
        description: card.map(|c| c.description.clone()).unwrap_or_default(),
        version: card.map(|c| c.version.clone()),
        required: declared.required.or(card.map(|c| c.required)).unwrap_or(false),
        after: declared.after.as_ref().or(card.map(|c| &c.after)).cloned().unwrap_or_default(),
        sees: declared.sees.as_ref().or(card.and_then(|c| c.sees.as_ref())).cloned(),
        applies,
        when_error,
    }
}

/// Compiled `when` expressions.
#[derive(Debug, Default)]
struct Programs(BTreeMap<String, Result<cel::Program, String>>);

impl Programs {
    fn holds(&mut self, when: &str, request: &Value) -> Result<bool, String> {
        let program = match self.0.get(when) {
            Some(program) => program,
            None => {
                // Cards come from outside: an agent that announced ever new expressions must not fill the memory.
                if self.0.len() >= MAX_PROGRAMS {
                    self.0.clear();
                }
                self.0.entry(when.to_owned()).or_insert_with(|| compile(when))
            }
        };
        evaluate(program.as_ref().map_err(Clone::clone)?, request)
    }
}

fn compile(when: &str) -> Result<cel::Program, String> {
    anabranch_topology::compile_when(when).map_err(|e| format!("`{when}`: {e}"))
}

/// CEL's own functions and macros.
static STANDARD: LazyLock<Arc<cel::Env>> = LazyLock::new(|| Arc::new(cel::Env::stdlib()));

fn evaluate(program: &cel::Program, request: &Value) -> Result<bool, String> {
    let mut context = cel::Context::with_env(STANDARD.clone());
    context.add_variable("request", request).map_err(|e| e.to_string())?;
    match program.execute(&context) {
        Ok(cel::Value::Bool(holds)) => Ok(holds),
        Ok(other) => Err(format!("`when` gave {other:?}, not true or false")),
        Err(e) => Err(e.to_string()),
    }
}

/// Checks a `when` expression without a request.
///
/// # Errors
/// What is wrong with it.
pub fn check_when(when: &str) -> Result<(), String> {
    compile(when).map(|_| ())
}

/// Why a plan cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Two steps for one agent.
    #[error("the plan has two steps for {0}")]
    Twice(String),
    /// Steps that wait for each other.
    #[error("the plan's steps wait for each other: {}", .0.join(", "))]
    Cycle(Vec<String>),
}

/// Makes a plan of steps: in order of name, without waits for steps that are not in it, with an id that derives from
/// the request and the steps.
///
/// # Errors
/// [`PlanError`].
pub fn finish(case: &CorrelationId, request: Value, mut steps: Vec<Step>) -> Result<Plan, PlanError> {
    steps.sort_by(|a, b| a.agent.cmp(&b.agent));
    if let Some(pair) = steps.windows(2).find(|w| w[0].agent == w[1].agent) {
        return Err(PlanError::Twice(pair[0].agent.clone()));
    }
    let names: BTreeSet<String> = steps.iter().map(|s| s.agent.clone()).collect();
    for step in &mut steps {
        step.after.retain(|a| a == Step::OUTCOME || names.contains(a));
    }
    check_cycles(&steps)?;
    // A value and steps can always be written, and equal ones have equal bytes.
    let steps_text = serde_json::to_vec(&steps).unwrap_or_default();
    let plan_id = PlanId::derive(case, request.to_string().as_bytes(), &steps_text);
    Ok(Plan { plan_id, request, steps })
}

fn check_cycles(steps: &[Step]) -> Result<(), PlanError> {
    let mut left: BTreeMap<&str, &[String]> = steps.iter().map(|s| (s.agent.as_str(), s.after.as_slice())).collect();
    loop {
        let free: Vec<&str> = left
            .iter()
            .filter(|(_, after)| !after.iter().any(|a| left.contains_key(a.as_str())))
            .map(|(name, _)| *name)
            .collect();
        if free.is_empty() {
            break;
        }
        for name in free {
            left.remove(name);
        }
    }
    if left.is_empty() { Ok(()) } else { Err(PlanError::Cycle(left.keys().map(|s| (*s).to_owned()).collect())) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn card(name: &str, at_ms: i64, when: Option<&str>) -> AgentCard {
        AgentCard {
            name: name.into(),
            description: String::new(),
            version: "1".into(),
            when: when.map(str::to_owned),
            after: vec![],
            sees: None,
            required: false,
            input_schema: json!({}),
            output_schema: json!({}),
            announced_at: Timestamp::from_millis(at_ms),
        }
    }

    fn names(candidates: &[Candidate]) -> Vec<&str> {
        candidates.iter().filter(|c| c.applies).map(|c| c.agent.as_str()).collect()
    }

    fn directory() -> Directory {
        let required = Declared { required: Some(true), ..Declared::default() };
        Directory::new([("identity".to_owned(), required)].into(), Duration::from_secs(60))
    }

    #[test]
    fn a_required_agent_is_planned_with_while_it_is_away_and_a_lapsed_optional_one_is_not() {
        let mut d = directory();
        d.announce(card("adverse-media", 0, None));
        let at = |d: &mut Directory, ms| names(&d.candidates(Timestamp::from_millis(ms), &json!({}))).join(",");
        assert_eq!(at(&mut d, 59_999), "adverse-media,identity");
        assert_eq!(at(&mut d, 60_000), "identity");
    }

    #[test]
    fn when_is_cel_over_the_request_and_doubt_means_yes() {
        let mut d = directory();
        d.announce(card("loans", 0, Some("request.product == 'loan' && request.amount > 10")));
        let now = Timestamp::from_millis(1);
        assert_eq!(names(&d.candidates(now, &json!({"product": "loan", "amount": 11}))), ["identity", "loans"]);
        assert_eq!(names(&d.candidates(now, &json!({"product": "card", "amount": 11}))), ["identity"]);
        let doubtful = d.candidates(now, &json!({}));
        assert_eq!(names(&doubtful), ["identity", "loans"]);
        assert!(doubtful[1].when_error.is_some());
        assert!(check_when("request.").is_err());
    }

    fn step(agent: &str, after: &[&str]) -> Step {
        let after = after.iter().map(|s| (*s).into()).collect();
        Step { agent: agent.into(), required: true, after, sees: None, version: None }
    }

    #[test]
    fn equal_plans_have_equal_ids_whatever_the_order() {
        let cause = CorrelationId::new("e");
        let a = finish(&cause, json!({}), vec![step("a", &[]), step("b", &["a", "gone"])]).unwrap();
        let b = finish(&cause, json!({}), vec![step("b", &["a"]), step("a", &[])]).unwrap();
        assert_eq!(a, b);
        let id = |case: &CorrelationId, request, steps| finish(case, request, steps).unwrap().plan_id;
        assert_ne!(a.plan_id, id(&cause, json!({}), vec![step("a", &[])]));
        assert_ne!(id(&cause, json!({"n": 1}), vec![]), id(&cause, json!({"n": 2}), vec![]));
        assert_ne!(id(&cause, json!({}), vec![]), id(&CorrelationId::new("f"), json!({}), vec![]));
    }

    #[test]
    fn a_plan_that_cannot_end_is_refused() {
        let cause = CorrelationId::new("e");
        let cycle = finish(&cause, json!({}), vec![step("a", &["b"]), step("b", &["a"]), step("c", &[])]);
        assert_eq!(cycle, Err(PlanError::Cycle(vec!["a".into(), "b".into()])));
        assert_eq!(finish(&cause, json!({}), vec![step("a", &[]), step("a", &[])]), Err(PlanError::Twice("a".into())));
        assert!(finish(&cause, json!({}), vec![step("c", &["outcome"])]).is_ok());
    }
}

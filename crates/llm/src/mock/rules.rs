//! Which rule answers a call, and the checks a script passes before the server starts.

use regex::{Captures, Regex};
use serde_json::Value;

use super::config::MockError;
use super::request::Call;
use super::script::{Answer, Fault, Rule, When};
use super::template;

/// Most text a fault may answer with, in bytes.
const MAX_OVERSIZED: usize = 256 * 1024 * 1024;

/// The rules, with their expressions compiled.
#[derive(Debug)]
pub(super) struct Rules(Vec<Compiled>);

#[derive(Debug)]
struct Compiled {
    rule: Rule,
    regex: Option<Regex>,
}

/// A rule that is for a call.
pub(super) struct Match<'r, 'c> {
    pub(super) index: usize,
    pub(super) rule: &'r Rule,
    pub(super) groups: Option<Captures<'c>>,
}

impl Rules {
    pub(super) fn compile(rules: Vec<Rule>) -> Result<Self, MockError> {
        let compiled = rules.into_iter().enumerate().map(|(index, rule)| {
            compile(rule).map_err(|(name, message)| {
                let named = if name.is_empty() { String::new() } else { format!(" `{name}`") };
                MockError::Script { at: format!(", rule {}{named},", index + 1), message }
            })
        });
        compiled.collect::<Result<_, _>>().map(Self)
    }

    /// The first rule for the call that `spent` does not say is used up.
    pub(super) fn find<'r, 'c>(&'r self, call: &'c Call, spent: impl Fn(usize, u32) -> bool) -> Option<Match<'r, 'c>> {
        self.0.iter().enumerate().find_map(|(index, compiled)| {
            if !holds(&compiled.rule.when, call) || compiled.rule.times.is_some_and(|times| spent(index, times)) {
                return None;
            }
            let groups = match &compiled.regex {
                Some(regex) => Some(regex.captures(&call.last_user)?),
                None => None,
            };
            Some(Match { index, rule: &compiled.rule, groups })
        })
    }
}

fn holds(when: &When, call: &Call) -> bool {
    let exactly = |wanted: &Option<String>, is: Option<&str>| wanted.is_none() || wanted.as_deref() == is;
    exactly(&when.model, Some(&call.model))
        && exactly(&when.schema, call.schema_name())
        && exactly(&when.agent, Some(&call.agent))
        && exactly(&when.correlation_id, Some(&call.correlation_id))
        && when.contains.as_ref().is_none_or(|text| call.last_user.contains(text))
        && when.after_tool.is_none_or(|after| after == call.after_tool)
}

fn compile(rule: Rule) -> Result<Compiled, (String, String)> {
    match check(&rule) {
        Ok(regex) => Ok(Compiled { rule, regex }),
        Err(message) => Err((rule.name, message)),
    }
}

fn check(rule: &Rule) -> Result<Option<Regex>, String> {
    let regex = rule.when.matches.as_deref().map(Regex::new).transpose().map_err(|error| error.to_string())?;
    if rule.answer.is_some() && rule.fault.is_some() {
        return Err("it has both an answer and a fault; keep one".into());
    }
    if rule.times == Some(0) {
        return Err("`times` is 0, so it would never be used; leave it out or write 1 or more".into());
    }
    if let Some(latency) = rule.latency {
        latency.check()?;
    }
    match &rule.fault {
        Some(Fault::ServerError { status }) if !(500..=599).contains(status) => {
            return Err(format!("`status` is {status}; write 500 to 599"));
        }
        Some(Fault::Oversized { bytes }) if *bytes > MAX_OVERSIZED => {
            return Err(format!("`bytes` is {bytes}; write at most {MAX_OVERSIZED}"));
        }
        _ => {}
    }
    match &rule.answer {
        Some(Answer::Text(text)) => template::check(&Value::String(text.clone()), regex.as_ref())?,
        Some(Answer::Json(value)) => template::check(value, regex.as_ref())?,
        Some(Answer::ToolCalls(calls)) if calls.is_empty() => return Err("`tool_calls` is empty".into()),
        Some(Answer::ToolCalls(calls)) => {
            calls.iter().try_for_each(|call| template::check(&call.arguments, regex.as_ref()))?;
        }
        Some(Answer::Echo(_)) | None => {}
    }
    Ok(regex)
}

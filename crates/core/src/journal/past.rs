//! What a journal held of a task that is over.

use anabranch_protocol::{TaskId, Timestamp};

use super::{Applied, Entries, Journal, Line};

/// A line as it lies in a journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Lying {
    /// Where.
    pub offset: i64,
    /// When it was written.
    pub at: Timestamp,
    /// What it says.
    pub line: Line,
}

/// What the journal held of `task` for the answer that it gave at `answered`. Lines are in the order of the log; those of
/// other tasks may be left out, those that open the journal may not.
///
/// A task that is done is closed, and if it is delivered once more, it begins anew. So what counts is what there was until
/// it was closed for the first time after the answer. That is told by the clock of the process that wrote both.
pub fn of_answer(lines: &[Lying], task: &TaskId, answered: Timestamp) -> Entries {
    let mut journal = Journal::default();
    let mut began: Option<Timestamp> = None;
    for Lying { offset, at, line } in lines {
        let closes = matches!(line, Line::Closed { tasks, .. } if tasks.contains(task));
        let held = closes.then(|| held(&journal, task, began, answered));
        if journal.apply(*offset, line, 0) != Applied::Counts {
            continue;
        }
        match (held, line) {
            (Some(held), _) if *at >= answered => return held,
            (Some(_), _) => began = None,
            (None, Line::Step(step)) if step.task == *task => began = began.or(Some(*at)),
            (None, _) => {}
        }
    }
    held(&journal, task, began, answered)
}

/// What is held now, unless that began only after the answer: then there was nothing.
fn held(journal: &Journal, task: &TaskId, began: Option<Timestamp>, answered: Timestamp) -> Entries {
    let before = began.is_some_and(|began| began <= answered);
    journal.entries(task).filter(|_| before).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::journal::Step;

    fn ms(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn step(run: &str, seq: u64, task: &str, name: &str, result: Value) -> Line {
        let (task, expires) = (TaskId::new(task), ms(i64::MAX));
        Line::Step(Step { run: run.into(), seq, task, name: name.into(), index: 0, expires, result: Some(result) })
    }

    fn closed(run: &str, task: &str) -> Line {
        Line::Closed { run: run.into(), tasks: vec![TaskId::new(task)] }
    }

    /// A log with a line every 10 ms.
    fn log(lines: Vec<Line>) -> Vec<Lying> {
        lines.into_iter().zip(0..).map(|(line, offset)| Lying { offset, at: ms(offset * 10), line }).collect()
    }

    fn held(lines: &[Lying], answered: i64) -> Vec<(String, u32, Value)> {
        let entries = of_answer(lines, &TaskId::new("t"), ms(answered));
        entries.done().map(|(name, index, value)| (name.to_owned(), index, value.clone())).collect()
    }

    fn one(name: &str, value: i64) -> Vec<(String, u32, Value)> {
        vec![(name.to_owned(), 0, json!(value))]
    }

    #[test]
    fn each_answer_has_what_was_held_when_it_was_given() {
        let lines = log(vec![
            Line::Opened { run: "a".into() },
            step("a", 1, "t", "ask", json!(1)),
            step("a", 2, "other", "ask", json!(9)),
            closed("a", "other"),
            closed("a", "t"),
            step("a", 3, "t", "ask", json!(2)),
            closed("a", "t"),
        ]);
        assert_eq!(held(&lines, 20), one("ask", 1), "the first time, though the task was done again later");
        assert_eq!(held(&lines, 55), one("ask", 2), "and the second");
        assert_eq!(held(&lines[..3], 20), one("ask", 1), "not closed yet");
        assert_eq!(held(&lines, 5), [], "what was recorded after the answer is of another time");
        assert_eq!(held(&lines, 70), [], "nothing was recorded since");
    }

    #[test]
    fn only_what_counts_is_held() {
        let lines = log(vec![
            Line::Opened { run: "a".into() },
            step("a", 1, "t", "ask", json!(1)),
            step("a", 3, "t", "ask", json!(3)),
            step("a", 2, "t", "ask", json!(2)),
            Line::Opened { run: "b".into() },
            step("a", 4, "t", "ask", json!(4)),
            closed("a", "t"),
            step("b", 1, "t", "pay", json!(5)),
        ]);
        let mut both = one("ask", 3);
        both.extend(one("pay", 5));
        assert_eq!(held(&lines, 75), both, "one that was taken over neither records nor closes");
    }
}

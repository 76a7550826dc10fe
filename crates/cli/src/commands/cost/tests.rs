use anabranch_llm::stack::{Entry, Outcome};

use super::day;
use super::sum::{Costs, Report, Wanted, starts};

/// 2026-11-24T00:00:00Z.
const TUESDAY: u64 = 1_795_478_400_000;

fn entry(id: &str, agent: &str, case: &str, at_ms: u64, outcome: Outcome) -> Entry {
    Entry {
        id: id.to_owned(),
        process: "p".to_owned(),
        at_ms,
        agent: agent.to_owned(),
        correlation_id: Some(case.to_owned()),
        tenant: None,
        model: "gpt-4o-mini".to_owned(),
        fallback_for: None,
        prompt_tokens: 100,
        completion_tokens: 20,
        estimated: false,
        cost_micros: Some(27),
        outcome,
    }
}

fn entries() -> Vec<(i32, Entry)> {
    let mut free = entry("p-4", "document", "b", TUESDAY + 86_400_000, Outcome::Failed);
    (free.prompt_tokens, free.completion_tokens, free.cost_micros) = (0, 0, None);
    let mut other = entry("p-5", "document", "b", TUESDAY + 86_400_000, Outcome::Unknown);
    (other.model, other.fallback_for, other.cost_micros) = ("second".to_owned(), Some("gpt-4o-mini".to_owned()), None);
    vec![
        (0, entry("p-1", "identity", "a", TUESDAY, Outcome::Answered)),
        (0, entry("p-1", "identity", "a", TUESDAY, Outcome::Answered)),
        (0, entry("p-2", "identity", "a", TUESDAY + 86_399_999, Outcome::Useless)),
        (1, entry("p-3", "document", "b", TUESDAY - 1, Outcome::Answered)),
        (1, free),
        (1, other),
    ]
}

fn report(wanted: Wanted) -> Report {
    let mut costs = Costs::new(wanted);
    entries().into_iter().for_each(|(partition, entry)| costs.add(partition, &entry));
    costs.report()
}

#[test]
fn entries_are_added_up_once_each() {
    let all = report(Wanted::default());
    insta::assert_snapshot!(serde_json::to_string_pretty(&all).unwrap());
    let sum: u64 = all.rows.iter().map(|row| row.sum.prompt_tokens).sum();
    assert_eq!((all.total.calls, all.total.prompt_tokens, all.total.money.as_str()), (5, sum, "0.000081"));
}

#[test]
fn filters_are_all_to_be_met() {
    let of = |case: Option<&str>, agent: Option<&str>, on: Option<&str>| {
        let (case, agent) = (case.map(str::to_owned), agent.map(str::to_owned));
        report(Wanted { case, agent, day: on.map(|text| day(text).unwrap()) }).total.calls
    };
    assert_eq!(of(Some("a"), None, None), 2);
    assert_eq!(of(None, Some("document"), None), 3);
    assert_eq!(of(None, None, Some("2026-11-24")), 2);
    assert_eq!(of(None, Some("document"), Some("2026-11-24")), 0);
    assert_eq!(of(Some("b"), Some("document"), Some("2026-11-23")), 1);
    assert_eq!(of(Some("nobody"), None, None), 0);
}

#[test]
fn a_day_has_one_form_and_begins_at_midnight_in_greenwich() {
    assert_eq!(starts(day("2026-11-24").unwrap()), i64::try_from(TUESDAY).ok());
    for wrong in ["", "2026-11-31", "20261124", "24.11.2026", "2026-11-24T10:00", "2026-1-2", "today"] {
        assert!(day(wrong).unwrap_err().contains("write for example"), "{wrong}");
    }
}

#[test]
fn names_from_anybody_do_not_make_rows_without_bound() {
    let mut costs = Costs::new(Wanted::default());
    for i in 0..20_000 {
        let id = format!("p-{i}");
        costs.add(0, &entry(&id, &id, "a", u64::MAX, Outcome::Answered));
    }
    let report = costs.report();
    assert_eq!((report.rows.len(), report.total.calls), (10_001, 20_000));
}

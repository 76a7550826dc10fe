//! Entries of a ledger, added up. Pure.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use anabranch_llm::stack::{Entry, Outcome};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;

/// An entry whose acknowledgement was lost is there twice, not far apart: of so many of a partition it is known.
const REMEMBERED: usize = 10_000;
/// Most rows; what is beyond is added up under one name. Agents and models are few, but records may come from anybody.
const MAX_ROWS: usize = 10_000;
const OTHER: &str = "(other)";

/// Which entries are counted.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) case: Option<String>,
    pub(super) agent: Option<String>,
    pub(super) day: Option<Date>,
}

impl Wanted {
    fn takes(&self, entry: &Entry, day: Option<Date>) -> bool {
        self.case.as_ref().is_none_or(|case| entry.correlation_id.as_ref() == Some(case))
            && self.agent.as_ref().is_none_or(|agent| entry.agent == *agent)
            && self.day.is_none_or(|wanted| day == Some(wanted))
    }
}

/// Calls, added up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Sum {
    /// Requests at the endpoint.
    pub(super) calls: u64,
    /// Refused, limited, not reached: nothing was counted.
    pub(super) failed: u64,
    /// Paid for, but of no use.
    pub(super) useless: u64,
    /// Broken off: what was counted is not known.
    pub(super) unknown: u64,
    /// Calls whose tokens are an estimate, as the endpoint said nothing.
    pub(super) estimated: u64,
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
    /// In the currency of the prices, exact to a millionth.
    pub(super) money: String,
    /// Calls that used tokens for which there was no price.
    pub(super) without_price: u64,
    #[serde(skip)]
    cost_micros: u64,
}

impl Sum {
    fn add(&mut self, entry: &Entry) {
        self.calls += 1;
        match entry.outcome {
            Outcome::Answered => {}
            Outcome::Useless => self.useless += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Unknown => self.unknown += 1,
        }
        self.estimated += u64::from(entry.estimated);
        self.prompt_tokens = self.prompt_tokens.saturating_add(entry.prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(entry.completion_tokens);
        match entry.cost_micros {
            Some(micros) => self.cost_micros = self.cost_micros.saturating_add(micros),
            None if entry.tokens() > 0 => self.without_price += 1,
            None => {}
        }
    }

    fn shown(&self) -> Self {
        Self { money: format!("{}.{:06}", self.cost_micros / 1_000_000, self.cost_micros % 1_000_000), ..self.clone() }
    }
}

/// One row: a day, an agent, a model.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    pub(super) day: String,
    pub(super) agent: String,
    pub(super) model: String,
    /// The model that this one stood in for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fallback_for: Option<String>,
    #[serde(flatten)]
    pub(super) sum: Sum,
}

/// What is printed.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    pub(super) rows: Vec<Row>,
    pub(super) total: Sum,
}

/// Day, agent, model, and the model that it stood in for.
type Key = (String, String, String, Option<String>);

/// Entries, being added up.
#[derive(Debug)]
pub(super) struct Costs {
    wanted: Wanted,
    rows: BTreeMap<Key, Sum>,
    total: Sum,
    seen: HashMap<i32, Seen>,
    /// Records that are no entries.
    pub(super) unreadable: u64,
}

#[derive(Debug, Default)]
struct Seen {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Seen {
    /// Whether it is new.
    fn first(&mut self, id: &str) -> bool {
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

impl Costs {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self { wanted, rows: BTreeMap::new(), total: Sum::default(), seen: HashMap::new(), unreadable: 0 }
    }

    /// Counts an entry of a partition, unless it is a repeat.
    pub(super) fn add(&mut self, partition: i32, entry: &Entry) {
        let day = day_of(entry.at_ms);
        if !self.wanted.takes(entry, day) || !self.seen.entry(partition).or_default().first(&entry.id) {
            return;
        }
        self.total.add(entry);
        let day = day.map_or_else(|| OTHER.to_owned(), |day| day.to_string());
        let key = (day, entry.agent.clone(), entry.model.clone(), entry.fallback_for.clone());
        let is_known = self.rows.len() < MAX_ROWS || self.rows.contains_key(&key);
        let key = if is_known { key } else { (OTHER.to_owned(), OTHER.to_owned(), OTHER.to_owned(), None) };
        self.rows.entry(key).or_default().add(entry);
    }

    /// All rows, by day, agent and model, and their total.
    pub(super) fn report(&self) -> Report {
        let row = |((day, agent, model, fallback_for), sum): (&Key, &Sum)| Row {
            day: day.clone(),
            agent: agent.clone(),
            model: model.clone(),
            fallback_for: fallback_for.clone(),
            sum: sum.shown(),
        };
        Report { rows: self.rows.iter().map(row).collect(), total: self.total.shown() }
    }
}

fn day_of(at_ms: u64) -> Option<Date> {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(at_ms).ok()?).ok()?;
    Some(at.to_zoned_datetime(TimeZone::UTC).date())
}

/// When a day begins, in Unix milliseconds.
pub(super) fn starts(day: Date) -> Option<i64> {
    day.to_zoned_datetime(TimeZone::UTC).ok().map(|at| at.timestamp().as_millisecond())
}

//! Budgets: what is spent, what calls under way may still cost, and whether one more fits in.
//!
//! A call is refused before it is made if what is spent, what is reserved and its own estimate exceed a limit together.
//! Estimates err high, so that within one process a limit is never exceeded by calls side by side. What other processes
//! spent is known as soon as their ledger entries arrive: several processes together may exceed a limit by what they
//! have under way at that moment.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::context::CallContext;
use super::ledger::Entry;
use super::settings::{Budgets, Spending};

/// Milliseconds of a day.
pub(crate) const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Of so many of the latest cases it is known what they cost.
const MAX_CASES: usize = 200_000;
/// So many of the latest entries are recognised when they are observed again.
const MAX_SEEN: usize = 100_000;

/// Tokens and money.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) tokens: u64,
    pub(crate) micros: u64,
}

impl Amount {
    fn plus(self, other: Self) -> Self {
        Self { tokens: self.tokens.saturating_add(other.tokens), micros: self.micros.saturating_add(other.micros) }
    }

    fn minus(self, other: Self) -> Self {
        Self { tokens: self.tokens.saturating_sub(other.tokens), micros: self.micros.saturating_sub(other.micros) }
    }

    pub(crate) fn of(entry: &Entry) -> Self {
        Self { tokens: entry.tokens(), micros: entry.cost_micros.unwrap_or(0) }
    }
}

/// Why a call does not fit in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The case may spend no more.
    Case(String),
    /// The agent may spend no more today; tomorrow begins in so many milliseconds.
    Day(String, u64),
    /// It would fit in if calls under way cost less than they may: that is known soon.
    Busy(String),
}

/// What is spent, in this process's view. Cheap to clone: clones are the same budget.
#[derive(Debug, Clone)]
pub struct Budget {
    budgets: Budgets,
    process: Arc<str>,
    books: Arc<Mutex<Books>>,
}

#[derive(Debug, Default)]
struct Books {
    cases: HashMap<String, Account>,
    /// In the order in which they came up.
    order: VecDeque<String>,
    days: HashMap<String, Day>,
    seen: HashSet<String>,
    seen_order: VecDeque<String>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Account {
    spent: Amount,
    reserved: Amount,
}

#[derive(Debug, Clone, Copy, Default)]
struct Day {
    number: u64,
    account: Account,
}

impl Budget {
    pub(crate) fn new(budgets: Budgets, process: &str) -> Self {
        Self { budgets, process: process.into(), books: Arc::default() }
    }

    /// Takes note of what another process spent, or this one before its last start. Entries of this process and repeats
    /// change nothing, so that the whole ledger may be told, in any order. Entries of earlier days count for their case
    /// alone.
    pub fn observe(&self, entry: &Entry) {
        if *entry.process == *self.process || !self.is_bounded() || !self.books().is_new(&entry.id) {
            return;
        }
        let context = CallContext { agent: entry.agent.clone(), case: entry.correlation_id.clone(), tenant: None };
        self.change(&context, entry.at_ms, |account| account.spent = account.spent.plus(Amount::of(entry)));
    }

    /// Reserves what a call may cost at most; `now_ms` is Unix time.
    ///
    /// # Errors
    /// Why it does not fit in.
    pub(crate) fn reserve(&self, context: &CallContext, most: Amount, now_ms: u64) -> Result<Reservation, Refused> {
        if self.is_bounded() {
            // Checked and reserved under one lock: of two calls side by side the second one sees the first.
            let mut books = self.books();
            self.check(&books, context, most, now_ms)?;
            let reserve = |account: &mut Account| account.reserved = account.reserved.plus(most);
            self.change_in(&mut books, context, now_ms, reserve);
        }
        Ok(Reservation { budget: self.clone(), context: context.clone(), left: most, at_ms: now_ms })
    }

    fn check(&self, books: &Books, context: &CallContext, most: Amount, now_ms: u64) -> Result<(), Refused> {
        if let Some(case) = &context.case {
            let account = books.cases.get(case).copied().unwrap_or_default();
            fits(self.budgets.per_case, account, most, "the case").map_err(|misfit| match misfit {
                Misfit::Over(words) => Refused::Case(words),
                Misfit::Busy(words) => Refused::Busy(words),
            })?;
        }
        let today = books.days.get(&context.agent).filter(|day| day.number == now_ms / DAY_MS);
        let account = today.map(|day| day.account).unwrap_or_default();
        fits(self.budgets.per_agent_per_day, account, most, "the agent today").map_err(|misfit| match misfit {
            Misfit::Over(words) => Refused::Day(words, DAY_MS - now_ms % DAY_MS),
            Misfit::Busy(words) => Refused::Busy(words),
        })
    }

    fn is_bounded(&self) -> bool {
        self.bounds_cases() || is_bounded(self.budgets.per_agent_per_day)
    }

    fn bounds_cases(&self) -> bool {
        is_bounded(self.budgets.per_case)
    }

    /// Changes the accounts that a call at `at_ms` is booked on.
    fn change(&self, context: &CallContext, at_ms: u64, change: impl Fn(&mut Account)) {
        self.change_in(&mut self.books(), context, at_ms, change);
    }

    fn change_in(&self, books: &mut Books, context: &CallContext, at_ms: u64, change: impl Fn(&mut Account)) {
        if let Some(case) = context.case.as_ref().filter(|_| self.bounds_cases()) {
            change(books.case(case));
        }
        if !is_bounded(self.budgets.per_agent_per_day) {
            return;
        }
        let number = at_ms / DAY_MS;
        let day = books.days.entry(context.agent.clone()).or_default();
        if number > day.number {
            *day = Day { number, account: Account::default() };
        }
        if number == day.number {
            change(&mut day.account);
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn case(&mut self, case: &str) -> &mut Account {
        if !self.cases.contains_key(case) {
            self.order.push_back(case.to_owned());
            self.forget_a_case();
        }
        self.cases.entry(case.to_owned()).or_default()
    }

    /// The oldest case that has nothing under way.
    fn forget_a_case(&mut self) {
        if self.cases.len() < MAX_CASES {
            return;
        }
        let Some(oldest) = self.order.pop_front() else { return };
        match self.cases.get(&oldest) {
            Some(account) if account.reserved != Amount::default() => self.order.push_back(oldest),
            _ => drop(self.cases.remove(&oldest)),
        }
    }

    fn is_new(&mut self, id: &str) -> bool {
        if !self.seen.insert(id.to_owned()) {
            return false;
        }
        self.seen_order.push_back(id.to_owned());
        if self.seen_order.len() > MAX_SEEN
            && let Some(oldest) = self.seen_order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        true
    }
}

/// What a call may still cost. What is left of it when it is dropped is free again.
#[derive(Debug)]
#[must_use]
pub(crate) struct Reservation {
    budget: Budget,
    context: CallContext,
    left: Amount,
    at_ms: u64,
}

impl Reservation {
    /// The call cost so much.
    pub(crate) fn spend(&self, amount: Amount) {
        if self.budget.is_bounded() {
            self.budget.change(&self.context, self.at_ms, |account| account.spent = account.spent.plus(amount));
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.budget.is_bounded() {
            let left = self.left;
            self.budget.change(&self.context, self.at_ms, |a| a.reserved = a.reserved.minus(left));
        }
    }
}

/// Why something does not fit in: for good, or as long as calls are under way.
enum Misfit {
    Over(String),
    Busy(String),
}

fn fits(limit: Spending, account: Account, most: Amount, whose: &str) -> Result<(), Misfit> {
    let units = [
        (limit.tokens, account.spent.tokens, account.reserved.tokens, most.tokens, "tokens"),
        (limit.money_micros, account.spent.micros, account.reserved.micros, most.micros, "millionths"),
    ];
    for (limit, spent, reserved, most, unit) in units {
        let Some(limit) = limit else { continue };
        if spent.saturating_add(most) > limit {
            let words = format!("{whose} has spent {spent} of {limit} {unit}, and the call may cost {most}");
            return Err(Misfit::Over(words));
        }
        if spent.saturating_add(reserved).saturating_add(most) > limit {
            let words = format!("{whose} has spent {spent} and reserved {reserved} of {limit} {unit}");
            return Err(Misfit::Busy(words));
        }
    }
    Ok(())
}

fn is_bounded(spending: Spending) -> bool {
    spending.tokens.is_some() || spending.money_micros.is_some()
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Outcome;
    use super::*;

    fn tokens(tokens: u64) -> Amount {
        Amount { tokens, micros: 0 }
    }

    fn budget(per_case: Option<u64>, per_day: Option<u64>) -> Budget {
        let spending = |tokens| Spending { tokens, money_micros: None };
        Budget::new(Budgets { per_case: spending(per_case), per_agent_per_day: spending(per_day) }, "me")
    }

    fn of(case: &str) -> CallContext {
        CallContext { agent: "a".into(), case: Some(case.into()), tenant: None }
    }

    fn entry(id: &str, process: &str, case: &str, at_ms: u64, tokens: u64) -> Entry {
        Entry {
            id: id.into(),
            process: process.into(),
            at_ms,
            agent: "a".into(),
            correlation_id: Some(case.into()),
            tenant: None,
            model: "m".into(),
            fallback_for: None,
            prompt_tokens: tokens,
            completion_tokens: 0,
            estimated: false,
            cost_micros: None,
            outcome: Outcome::Answered,
        }
    }

    #[test]
    fn what_is_reserved_counts_until_it_is_known() {
        let budget = budget(Some(100), None);
        let first = budget.reserve(&of("c"), tokens(60), 0).unwrap();
        assert!(matches!(budget.reserve(&of("c"), tokens(60), 0), Err(Refused::Busy(_))));
        assert!(budget.reserve(&of("other"), tokens(60), 0).is_ok());
        first.spend(tokens(30));
        drop(first);
        drop(budget.reserve(&of("c"), tokens(70), 0).unwrap());
        let words = budget.reserve(&of("c"), tokens(71), 0).unwrap_err();
        let said = "the case has spent 30 of 100 tokens, and the call may cost 71";
        assert_eq!(words, Refused::Case(said.into()));
    }

    #[test]
    fn the_agents_day_ends_at_midnight() {
        let budget = budget(None, Some(100));
        let noon = 20_000 * DAY_MS + DAY_MS / 2;
        budget.reserve(&of("c"), tokens(80), noon).unwrap().spend(tokens(80));
        assert!(matches!(budget.reserve(&of("d"), tokens(30), noon), Err(Refused::Day(_, wait)) if wait == DAY_MS / 2));
        assert!(budget.reserve(&of("d"), tokens(30), noon + DAY_MS / 2).is_ok());
    }

    #[test]
    fn what_others_spent_counts_once_and_our_own_entries_do_not_count_again() {
        let budget = budget(Some(100), Some(1000));
        let now = 20_000 * DAY_MS;
        budget.observe(&entry("x-1", "x", "c", now, 40));
        budget.observe(&entry("x-1", "x", "c", now, 40));
        budget.observe(&entry("me-1", "me", "c", now, 50));
        budget.observe(&entry("x-2", "x", "c", now - 1, 20));
        assert!(budget.reserve(&of("c"), tokens(40), now).is_ok());
        assert!(matches!(budget.reserve(&of("c"), tokens(41), now), Err(Refused::Case(_))));
        assert!(budget.reserve(&of("new"), tokens(100), now).is_ok());
        assert_eq!(budget.books().days["a"].account.spent, tokens(40), "yesterday's entry is not today's");
    }

    #[test]
    fn memory_is_bounded() {
        let budget = budget(Some(100), None);
        let held = budget.reserve(&of("held"), tokens(60), 0).unwrap();
        for case in 0..MAX_CASES + 10 {
            let case = case.to_string();
            budget.observe(&entry(&case, "x", &case, 0, 1));
        }
        assert!(budget.books().cases.len() <= MAX_CASES + 1);
        assert!(budget.books().seen.len() <= MAX_SEEN);
        assert!(matches!(budget.reserve(&of("held"), tokens(60), 0), Err(Refused::Busy(_))), "it is under way");
        drop(held);
    }
}

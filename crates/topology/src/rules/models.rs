//! Models, what they may be asked, and what that may cost.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Facts;
use crate::diagnostic::{Path, Report, suggest};
use crate::model::ModelChoice;
use crate::raw::Model;
use crate::spending::{self, BudgetLines, Prices, SpendingLine};
use crate::unit::show;

/// Money is counted in millionths.
const LEAST_MONEY: f64 = 0.000_001;

/// Checks limits, fallbacks, budgets, prices and the tenant.
pub(super) fn check(facts: &Facts<'_>, report: &mut Report<'_>) {
    for (alias, line) in facts.file.models.iter().flatten() {
        let (Some(line), Some(model)) = (line, facts.topology.models.get(alias)) else { continue };
        let at = Path::of(&["models", alias]);
        window(line, model, &at, report);
        if let Some(other) = &line.fallback {
            fallback(facts, alias, other, &at.key("fallback"), report);
        }
    }
    if let Some(budgets) = &facts.file.budgets {
        money(facts, budgets, report);
    }
    prices(facts, report);
    if let Some(tenant) = &facts.file.tenant {
        pointer(tenant, report);
    }
}

/// A call that can never be let through would wait for ever; a window longer than a minute would let too many through.
fn window(line: &Model, model: &ModelChoice, at: &Path, report: &mut Report<'_>) {
    if model.limit_window > Duration::from_secs(60) {
        let message = format!("{} is longer than the minute that is counted", show(model.limit_window));
        report.error(&at.key("limit_window"), message, "write at most `limit_window: 1m`");
        return;
    }
    let field = |field| if line.limit_window.is_some() { at.key("limit_window") } else { at.key(field) };
    if model.requests_per_window() == Some(0) {
        let message = format!("not one request fits into {}", show(model.limit_window));
        report.error(&field("requests_per_minute"), message, "write a longer `limit_window`, or remove it");
    }
    let answer = model.max_output_tokens.map_or(1, u64::from);
    if let Some(limit) = model.tokens_per_window().filter(|limit| *limit < answer) {
        report.error(
            &field("tokens_per_minute"),
            format!(
                "one answer may have {answer} tokens (max_output_tokens), more than the {limit} of {}",
                show(model.limit_window)
            ),
            "write more tokens, a longer `limit_window`, or a smaller `max_output_tokens`",
        );
    }
}

fn fallback(facts: &Facts<'_>, alias: &str, other: &str, at: &Path, report: &mut Report<'_>) {
    if alias == other {
        report.error(at, "a model cannot stand in for itself", "name another alias, or remove the line");
    } else if !facts.topology.models.contains_key(other) {
        let known = facts.topology.models.keys().map(String::as_str).filter(|known| *known != alias);
        report.error(at, format!("no model has the alias `{other}`"), suggest(other, known));
    }
}

/// A budget of money counts on prices; those in a file of their own are checked when that is read.
fn money(facts: &Facts<'_>, budgets: &BudgetLines, report: &mut Report<'_>) {
    let lines = [("per_case", &budgets.per_case), ("per_agent_per_day", &budgets.per_agent_per_day)];
    for (key, line) in lines {
        if let Some(money) = line.as_ref().and_then(|line| line.money).filter(|money| *money < LEAST_MONEY) {
            let message = format!("money is counted in millionths, and of {money} no call can be made");
            let help = "write at least `money: 0.000001`, or remove the line";
            report.error(&Path::of(&["budgets", key, "money"]), message, help);
        }
    }
    let Prices::Here(list) = &facts.topology.prices else { return };
    let missing = spending::without_price(facts.topology, list);
    let Some(first) = missing.first() else { return };
    let counts_money = |line: &Option<SpendingLine>| line.as_ref().is_some_and(|l| l.money.is_some());
    for (key, _) in lines.into_iter().filter(|(_, line)| counts_money(line)) {
        let message = format!("money is counted, and under `prices` there is no price of {}", missing.join(", "));
        report.error(&Path::of(&["budgets", key, "money"]), message, spending::price_help(first));
    }
}

fn prices(facts: &Facts<'_>, report: &mut Report<'_>) {
    let at = Path::of(&["prices"]);
    match &facts.topology.prices {
        Prices::File(file) if file.trim().is_empty() => {
            report.error(&at, "names no file", "write a path, such as `prices: prices.yaml`, or the prices themselves");
        }
        Prices::File(_) => {}
        Prices::Here(list) => {
            let used: BTreeSet<&str> = facts.topology.models.values().map(|m| m.name.as_str()).collect();
            for model in list.keys().filter(|model| !used.contains(model.as_str())) {
                let help = suggest(model, used.iter().copied());
                report.warn_at_key(&at.key(model), "no model under `models` has this name", help);
            }
        }
    }
}

/// RFC 6901: where in a request its tenant is.
fn pointer(tenant: &str, report: &mut Report<'_>) {
    let tildes_are_escapes = tenant.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    if !tenant.starts_with('/') || !tildes_are_escapes {
        let help = "write where in a request it is, as a JSON pointer, such as `tenant: /customer/tenant`";
        report.error(&Path::of(&["tenant"]), format!("`{tenant}` is no JSON pointer"), help);
    }
}

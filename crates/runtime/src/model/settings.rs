//! From the topology to what the model stack is told.

use std::path::Path;

use anabranch_llm::prices::{Price, Prices, money_micros};
use anabranch_llm::stack::{BreakerSettings, Budgets, Fallback, ModelLimits, RateLimit, Settings, Spending};
use anabranch_topology::{AgentSettings, ModelChoice, PriceList, Topology};

use crate::boot::Usage;

/// What the stack of an agent is told; `topology_file` is where the topology was read from.
///
/// # Errors
/// If the prices have a file of their own that cannot be used, or a number cannot be counted with.
pub(super) fn settings(topology: &Topology, agent: &AgentSettings, topology_file: &Path) -> Result<Settings, Usage> {
    let model = topology.model_of(agent);
    let fallback = model.fallback.as_ref().and_then(|alias| topology.models.get(alias));
    Ok(Settings {
        model: limits(&model),
        fallback: fallback.map(|other| Fallback {
            model: limits(other),
            temperature: other.temperature,
            max_output_tokens: other.max_output_tokens,
            timeout: Some(other.timeout),
        }),
        budgets: Budgets {
            per_case: spending(topology.budgets.per_case, "per_case")?,
            per_agent_per_day: spending(topology.budgets.per_agent_per_day, "per_agent_per_day")?,
        },
        prices: prices(&price_list(topology, topology_file)?)?,
        ..Settings::new(model.name)
    })
}

fn limits(model: &ModelChoice) -> ModelLimits {
    let rate =
        RateLimit { requests: model.requests_per_window(), tokens: model.tokens_per_window(), per: model.limit_window };
    let default = BreakerSettings::default();
    let breaker = BreakerSettings { failures: model.breaker.failures, open_for: model.breaker.open_for, ..default };
    ModelLimits { rate, breaker, ..ModelLimits::new(model.name.clone()) }
}

fn spending(written: anabranch_topology::Spending, key: &str) -> Result<Spending, Usage> {
    let money_micros = match written.money {
        Some(money) => {
            let micros = money_micros(money).filter(|micros| *micros > 0);
            let wrong =
                || Usage(format!("budgets.{key}.money: {money} cannot be counted with; write 0.000001 or more"));
            Some(micros.ok_or_else(wrong)?)
        }
        None => None,
    };
    Ok(Spending { tokens: written.tokens, money_micros })
}

fn price_list(topology: &Topology, topology_file: &Path) -> Result<PriceList, Usage> {
    let name = match &topology.prices {
        anabranch_topology::Prices::Here(list) => return Ok(list.clone()),
        anabranch_topology::Prices::File(name) => name,
    };
    let path = topology_file.parent().unwrap_or(Path::new("")).join(name);
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(&path).map_err(|e| {
        Usage(format!("cannot read the prices {shown}: {e}; see `prices` in {}", topology_file.display()))
    })?;
    anabranch_topology::prices(&shown, &text, topology).map_err(|diagnostics| Usage(diagnostics.to_string()))
}

fn prices(list: &PriceList) -> Result<Prices, Usage> {
    let price = |(model, price): (&String, &anabranch_topology::Price)| {
        let price = Price::per_million(price.input, price.output).map_err(|e| Usage(format!("prices.{model}: {e}")))?;
        Ok((model.clone(), price))
    };
    list.iter().map(price).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TEXT: &str = "name: a\ninbound: { requests: in }\noutbound: { x: out }\n\
        models:\n  default: { name: m, requests_per_minute: 600, limit_window: 10s, fallback: other, breaker: { failures: 3 } }\n\
        \x20 other: { name: n, temperature: 0.5, timeout: 7s }\n\
        budgets: { per_case: { money: 0.5 }, per_agent_per_day: { tokens: 9 } }\n";

    fn read(prices: &str, folder: &Path) -> Result<Settings, Usage> {
        let topology = anabranch_topology::parse("t", &format!("{TEXT}prices: {prices}\n"), None).unwrap().topology;
        settings(&topology, &topology.agent("asker"), &folder.join("topics.yaml"))
    }

    #[test]
    fn every_line_arrives() {
        let settings =
            read("{ m: { input: 1, output: 2 }, n: { input: 0, output: 0.000001 } }", Path::new(".")).unwrap();
        assert_eq!(settings.model.name, "m");
        assert_eq!(settings.model.rate, RateLimit { requests: Some(100), tokens: None, per: Duration::from_secs(10) });
        assert_eq!((settings.model.breaker.failures, settings.model.breaker.open_for), (3, Duration::from_secs(1)));
        let fallback = settings.fallback.unwrap();
        assert_eq!((fallback.model.name.as_str(), fallback.temperature), ("n", Some(0.5)));
        assert_eq!(fallback.timeout, Some(Duration::from_secs(7)));
        assert_eq!(settings.budgets.per_case, Spending { tokens: None, money_micros: Some(500_000) });
        assert_eq!(settings.budgets.per_agent_per_day, Spending { tokens: Some(9), money_micros: None });
        assert_eq!(settings.prices.of("m"), Price::per_million(1.0, 2.0).ok());
    }

    #[test]
    fn a_file_of_prices_lies_beside_the_topology() {
        let folder = std::env::temp_dir().join(format!("anabranch-prices-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let said = |text: &str| {
            std::fs::write(folder.join("prices.yaml"), text).unwrap();
            read("prices.yaml", &folder)
        };
        let settings = said("m: { input: 1, output: 2 }\nn: { input: 3, output: 4 }\n").unwrap();
        assert_eq!(settings.prices.of("n"), Price::per_million(3.0, 4.0).ok());
        let Usage(wrong) = said("m: { input: 1, output: 2 }\n").unwrap_err();
        assert!(wrong.contains("prices.yaml:1:1: error") && wrong.contains("`n` has no price"), "{wrong}");
        let Usage(wrong) = said("m: { input: 1, output: 0.00000015 }\nn: { input: 3, output: 4 }\n").unwrap_err();
        assert!(wrong.contains("prices.m: a price for a million tokens is 0.00000015"), "{wrong}");
        std::fs::remove_dir_all(&folder).unwrap();
        let Usage(wrong) = read("prices.yaml", &folder).unwrap_err();
        assert!(wrong.contains("cannot read the prices") && wrong.contains("see `prices` in"), "{wrong}");
    }
}

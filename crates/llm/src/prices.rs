//! What calls cost, exactly: money is counted in millionths of the price list's currency, as whole numbers.

use std::collections::BTreeMap;

use crate::chat::Usage;

/// Millionths of a unit of money.
const MICROS: f64 = 1_000_000.0;
/// Dearest price that is counted with: a million units of money for a million tokens.
const MAX_PRICE: f64 = 1_000_000.0;

/// What a million tokens cost, in millionths of the currency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Price {
    input_micros: u64,
    output_micros: u64,
}

/// A price that cannot be counted with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a price for a million tokens is {0}; write a number from 0 to {MAX_PRICE} with at most six decimals")]
pub struct PriceError(String);

impl Price {
    /// What a million tokens cost, as price lists say it: `0.15` read and `0.6` written.
    ///
    /// # Errors
    /// [`PriceError`] if a number is below 0, too large, or finer than a millionth.
    pub fn per_million(input: f64, output: f64) -> Result<Self, PriceError> {
        Ok(Self { input_micros: micros(input)?, output_micros: micros(output)? })
    }

    /// What a call costs, in millionths; what is below one is rounded up.
    pub fn cost_micros(&self, usage: Usage) -> u64 {
        let part = |tokens: u64, price: u64| u128::from(tokens) * u128::from(price);
        let millionths =
            part(usage.prompt_tokens, self.input_micros) + part(usage.completion_tokens, self.output_micros);
        u64::try_from(millionths.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

/// An amount of money in millionths; `None` if it is not from 0 to what can be counted.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked before")]
pub fn money_micros(amount: f64) -> Option<u64> {
    let micros = (amount * MICROS).round();
    (0.0..=9e18).contains(&micros).then_some(micros as u64)
}

fn micros(price: f64) -> Result<u64, PriceError> {
    let refused = || PriceError(price.to_string());
    if !(0.0..=MAX_PRICE).contains(&price) {
        return Err(refused());
    }
    let scaled = price * MICROS;
    // What a decimal of six places is off by in binary is far below a thousandth.
    if (scaled - scaled.round()).abs() > 1e-3 {
        return Err(refused());
    }
    money_micros(price).ok_or_else(refused)
}

/// Prices by the model's name at its endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prices(BTreeMap<String, Price>);

impl Prices {
    /// No prices.
    pub fn new() -> Self {
        Self::default()
    }

    /// With the price of one more model.
    #[must_use]
    pub fn with(mut self, model: impl Into<String>, price: Price) -> Self {
        self.0.insert(model.into(), price);
        self
    }

    /// The price of `model`.
    pub fn of(&self, model: &str) -> Option<Price> {
        self.0.get(model).copied()
    }
}

impl FromIterator<(String, Price)> for Prices {
    fn from_iter<I: IntoIterator<Item = (String, Price)>>(prices: I) -> Self {
        Self(prices.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(prompt_tokens: u64, completion_tokens: u64) -> Usage {
        Usage { prompt_tokens, completion_tokens }
    }

    #[test]
    fn costs_are_whole_millionths_rounded_up() {
        let price = Price::per_million(0.15, 0.6).unwrap();
        assert_eq!(price.cost_micros(usage(1_000_000, 0)), 150_000);
        assert_eq!(price.cost_micros(usage(0, 1_000_000)), 600_000);
        assert_eq!(price.cost_micros(usage(1000, 100)), 210);
        assert_eq!(price.cost_micros(usage(1, 0)), 1, "0.15 millionths are one");
        assert_eq!(price.cost_micros(usage(0, 0)), 0);
        assert_eq!(price.cost_micros(usage(u64::MAX, u64::MAX)), 13_835_058_055_282_163_712);
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        for bad in [-0.1, f64::NAN, f64::INFINITY, 1e9, 0.000_000_15] {
            assert!(Price::per_million(bad, 0.0).is_err(), "{bad}");
        }
        assert!(Price::per_million(0.0, 0.000_001).is_ok());
        assert_eq!(money_micros(0.5), Some(500_000));
        assert_eq!(money_micros(-1.0), None);
        assert_eq!(money_micros(1e15), None);
    }
}

//! A composer cannot take the parts without saying what it does when some are missing.
use anabranch_sdk::prelude::*;

fn decide(joined: Joined<'_>) -> f64 {
    let Joined::All(parts) = joined;
    parts.confidence()
}

fn main() {
    let _ = decide;
}

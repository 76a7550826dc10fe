//! An outcome that is made and not returned would be an answer that nobody gets.
#![deny(unused_must_use)]
use anabranch_sdk::prelude::*;

fn answer() -> Result<Outcome<u8>, AgentError> {
    Outcome::new(1_u8).confidence(0.9);
    Ok(Outcome::new(2_u8))
}

fn main() {
    drop(answer());
}

//! The hint says what to implement.
use anabranch_sdk::prelude::*;

struct Nobody;

fn run<A: Agent>(_: A) {}

fn main() {
    run(Nobody);
}

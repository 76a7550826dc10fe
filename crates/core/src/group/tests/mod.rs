//! The life of a member under answers of every kind, alone and in a group.

mod bench;
mod cases;
mod random;
mod world;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{Config, TopicPartition};

const HEARTBEAT: Duration = Duration::from_secs(3);
const REBALANCE: Duration = Duration::from_secs(60);
const COUNTS: Duration = Duration::from_secs(5);

fn config() -> Config {
    Config {
        topics: [Arc::from("a")].into(),
        instance_id: None,
        heartbeat_interval: HEARTBEAT,
        rebalance_timeout: REBALANCE,
        counts_interval: COUNTS,
        initial_backoff: Duration::from_millis(50),
        max_backoff: Duration::from_secs(1),
        seed: 42,
    }
}

fn tps(partitions: &[i32]) -> BTreeSet<TopicPartition> {
    partitions.iter().map(|p| TopicPartition::new("a", *p)).collect()
}

/// Steps that a random test takes: enough to find most faults in seconds, or as many as `ANABRANCH_GROUP_STEPS` says.
fn steps(usual: u64) -> u64 {
    std::env::var("ANABRANCH_GROUP_STEPS").map_or(usual, |text| text.parse().expect("a number of steps"))
}

/// The seed of the first run; each run after it has the next one. `ANABRANCH_GROUP_SEED` sets it.
fn first_seed() -> u64 {
    std::env::var("ANABRANCH_GROUP_SEED").map_or(1, |text| text.parse().expect("a seed"))
}

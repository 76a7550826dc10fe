//! How soon everything goes on once the network is back, with the settings a process has.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anabranch_kafka::{
    Cluster, ClusterConfig, FetchConfig, GroupConfig, OffsetToCommit, Position, ProducerConfig, TopicPartition,
    TransactionConfig,
};
use anabranch_testkit::kafka_proxy::Net;
use tokio::task::JoinSet;

use crate::{
    cases,
    member::Member,
    world::{World, to},
};

cases![after_a_cut, after_a_long_cut, after_silence, after_a_long_silence, after_connections_died_unnoticed];

/// The promise.
const RECOVERED_WITHIN: Duration = Duration::from_secs(2);

/// When each activity last succeeded.
#[derive(Clone, Default)]
struct Pulse(Arc<Mutex<BTreeMap<&'static str, Vec<Instant>>>>);

impl Pulse {
    fn beat(&self, what: &'static str) {
        self.0.lock().unwrap().entry(what).or_default().push(Instant::now());
    }

    /// The first success of each after `since`, as time from then.
    fn after(&self, since: Instant) -> BTreeMap<&'static str, Option<Duration>> {
        let beats = self.0.lock().unwrap();
        let first = |at: &Vec<Instant>| at.iter().find(|at| **at > since).map(|at| *at - since);
        beats.iter().map(|(what, at)| (*what, first(at))).collect()
    }
}

/// All that a process does with a broker, over and over.
async fn activities(world: &World, pulse: &Pulse) -> JoinSet<()> {
    let cluster = Cluster::new(ClusterConfig::new(vec![world.proxy.address()], "conformance"));
    let (written, read, input) = (world.topic(1).await, world.topic(1).await, world.topic(1).await);
    let outputs = world.topic(1).await;
    let mut tasks = JoinSet::new();
    let pause = || tokio::time::sleep(Duration::from_millis(20));

    let (producer, p) = (cluster.producer(ProducerConfig::default()), pulse.clone());
    tasks.spawn(async move {
        loop {
            producer.send(to(&written, 0, "v")).await.unwrap();
            p.beat("produce");
            pause().await;
        }
    });

    let around = Cluster::new(ClusterConfig::new(vec![world.broker().to_owned()], "around"));
    let (around, topic) = (around.producer(ProducerConfig::default()), read.clone());
    tasks.spawn(async move {
        loop {
            around.send(to(&topic, 0, "v")).await.unwrap();
            pause().await;
        }
    });
    let (mut fetcher, p) = (cluster.fetcher(FetchConfig::default()), pulse.clone());
    fetcher.add(TopicPartition::new(read.as_str(), 0), Position::Earliest);
    tasks.spawn(async move {
        loop {
            match fetcher.next().await {
                Ok(fetched) if !fetched.records.is_empty() => p.beat("fetch"),
                Ok(_) => {}
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        }
    });

    // The default session: nobody is evicted in these outages.
    let mut member = Member::start(&cluster, GroupConfig::new(world.name("g"), vec![input.clone()]));
    member.until_held(Duration::from_secs(20), 1).await;
    let (committer, p) = (member.committer.clone(), pulse.clone());
    tasks.spawn(async move {
        for offset in 0.. {
            let at = OffsetToCommit { offset, metadata: String::new() };
            // What fails within an outage is committed with the next.
            if committer.commit(vec![(TopicPartition::new(input.as_str(), 0), at)]).await.is_ok() {
                p.beat("commit");
            }
            pause().await;
        }
    });
    tasks.spawn(async move {
        loop {
            member.watch(Duration::from_secs(60)).await;
        }
    });

    let (id, p) = (world.name("x"), pulse.clone());
    tasks.spawn(async move {
        let mut producer = cluster.transactional(TransactionConfig::new(id)).await.unwrap();
        loop {
            let mut txn = producer.begin().await.unwrap();
            txn.send(vec![to(&outputs, 0, "v")]).await.unwrap();
            txn.commit().await.unwrap();
            p.beat("transaction");
            pause().await;
        }
    });
    tasks
}

async fn recovers(world: World, outage: impl AsyncFnOnce(&World)) {
    let pulse = Pulse::default();
    let mut tasks = activities(&world, &pulse).await;
    let started = Instant::now();
    while pulse.after(started).values().filter(|first| first.is_some()).count() < 4 {
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", pulse.after(started));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    outage(&world).await;
    let healed = Instant::now();
    while pulse.after(healed).values().any(Option::is_none) && healed.elapsed() < Duration::from_secs(25) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if let Some(ended) = tasks.try_join_next() {
            ended.unwrap();
        }
    }
    let firsts = pulse.after(healed);
    println!("{}: after healing: {firsts:.2?}", world.profile);
    let late = |first: &Option<Duration>| first.is_none_or(|first| first > RECOVERED_WITHIN);
    let late: Vec<_> = firsts.iter().filter(|(_, first)| late(first)).collect();
    assert!(late.is_empty(), "later than {RECOVERED_WITHIN:?}: {late:?}");
}

async fn down(world: &World, net: Net, time: Duration) {
    world.proxy.set(net);
    tokio::time::sleep(time).await;
    world.proxy.set(Net::Up);
}

async fn after_a_cut(world: World) {
    recovers(world, async |world| down(world, Net::Cut, Duration::from_secs(4)).await).await;
}

async fn after_a_long_cut(world: World) {
    recovers(world, async |world| down(world, Net::Cut, Duration::from_secs(20)).await).await;
}

async fn after_silence(world: World) {
    recovers(world, async |world| down(world, Net::Silent, Duration::from_secs(4)).await).await;
}

async fn after_a_long_silence(world: World) {
    recovers(world, async |world| down(world, Net::Silent, Duration::from_secs(20)).await).await;
}

/// The connections from before the outage stay silent afterwards, and only new ones work.
async fn after_connections_died_unnoticed(world: World) {
    recovers(world, async |world| {
        world.proxy.bury();
        down(world, Net::Silent, Duration::from_secs(4)).await;
    })
    .await;
}

//! The composer killed at each step of a transaction, on any cluster: before the broker hears of a request, and after it
//! has done its part and the answer is lost. `zombies.rs` holds it longer at a step, which only the embedded broker can.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::time::Duration;

use anabranch_e2e::{App, KYC_AGENTS, Load, Watch, counter, kyc, one_outcome_each, outcome_topics};
use anabranch_testkit::cluster::TestCluster;
use anabranch_testkit::kafka_proxy::{ApiKey, Caps, KafkaProxy};

const WITHIN: Duration = Duration::from_secs(60);
/// Cases in flight at each step.
const CASES: usize = 3;
/// In the order in which a transaction sends them: the two that add at the same time, and then the two that write. Version
/// two (KIP-890) leaves those out that add.
const STEPS: [ApiKey; 5] =
    [ApiKey::AddPartitionsToTxn, ApiKey::AddOffsetsToTxn, ApiKey::Produce, ApiKey::TxnOffsetCommit, ApiKey::EndTxn];

async fn met(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(WITHIN, wait).await.unwrap_or_else(|_| panic!("{what} was never sent"));
}

async fn killed_at_each_step(caps: Caps) {
    let Some(python) = counter() else { return };
    let mut app = App::prepare_on(TestCluster::start().await.unwrap(), kyc()).await.unwrap();
    app.create_topics(KYC_AGENTS).await.unwrap();
    // Only the composer goes through it, so that its requests are the ones that are met.
    let proxy = KafkaProxy::start(app.cluster.bootstrap(), caps, 1).unwrap();
    for agent in KYC_AGENTS.iter().filter(|agent| **agent != "composer") {
        app.spawn(agent, agent).unwrap();
    }
    app.spawn_at("composer", "composer", &proxy.address(), &[]).unwrap();
    app.all_ready().await.unwrap();
    let watch = Watch::start(&app.client, &outcome_topics(&app)).await.unwrap();
    let most = CASES * (2 * STEPS.len() + 1);
    let mut load = Load::new(most, Duration::from_secs(3_600));
    let mut sent = 0;
    let mut send = async |app: &App| {
        for _ in 0..CASES {
            load.send_one(app).await.unwrap();
            sent += 1;
        }
        sent
    };
    let decided = |sent: usize| move |w: &Watch| (w.distinct() == sent).then_some(());
    let first = send(&app).await;
    watch.until("the first outcomes", WITHIN, decided(first)).await.unwrap();

    let asked = proxy.requests();
    let steps: Vec<ApiKey> = STEPS.into_iter().filter(|step| asked.contains_key(&(*step as i16))).collect();
    assert!(steps.len() >= 3, "{asked:?}");
    let mut all = first;
    for step in &steps {
        for heard in [false, true] {
            if heard {
                proxy.lose_answers(*step, 1);
            } else {
                proxy.cut_requests(*step, 1_000);
            }
            all = send(&app).await;
            let what = format!("{step:?}, {}", if heard { "answer lost" } else { "never heard of" });
            met(&what, || if heard { proxy.to_lose(*step) == 0 } else { proxy.to_refuse(*step) < 1_000 }).await;
            app.process("composer").unwrap().kill().await.unwrap();
            proxy.cut_requests(*step, 0);
            app.spawn_at("composer", "composer", &proxy.address(), &[]).unwrap();
            if let Err(error) = watch.until(&what, WITHIN, decided(all)).await {
                panic!("{error}\n{}", app.processes["composer"].log());
            }
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("{caps:?}: killed at {steps:?}, each before and after the broker heard");
    one_outcome_each(&python, app.cluster.bootstrap(), &outcome_topics(&app), all).unwrap();
    app.all_ready().await.unwrap();
    app.stop().await.unwrap();
}

/// Version two where the cluster has it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "two minutes; CI runs it on Apache Kafka"]
async fn a_composer_killed_at_each_step_of_a_transaction_doubles_nothing() {
    killed_at_each_step(Caps::Full).await;
}

/// Version one, in which partitions and offsets are added by requests of their own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "two minutes; CI runs it on Apache Kafka"]
async fn nor_does_one_on_a_broker_with_the_versions_of_redpanda() {
    killed_at_each_step(Caps::Redpanda).await;
}

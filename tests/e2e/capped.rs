//! The application speaks with Redpanda's versions. Nothing above them is offered here, and nothing above them is asked
//! for. The same caps go in front of any other suite by `ANABRANCH_TEST_CAPS=redpanda`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::time::Duration;

use anabranch_broker::{BrokerConfig, TransactionVersion};
use anabranch_e2e::{App, KYC_AGENTS, Load, Watch, counter, kyc, one_outcome_each, outcome_topics};
use anabranch_testkit::cluster::{TEST_KAFKA, TestCluster};
use anabranch_testkit::kafka_proxy::{ApiKey, Caps, KafkaProxy};

const CASES: usize = 40;
/// What the application cannot do without.
const SPOKEN: [ApiKey; 15] = [
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::SyncGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::InitProducerId,
    ApiKey::AddPartitionsToTxn,
    ApiKey::TxnOffsetCommit,
    ApiKey::EndTxn,
];

/// What is behind the caps could do more: Apache Kafka, or the embedded broker with transaction version 2.
async fn uncapped() -> TestCluster {
    match std::env::var(TEST_KAFKA) {
        Ok(bootstrap) if !bootstrap.is_empty() => TestCluster::at(bootstrap),
        _ => {
            let config = BrokerConfig { transaction_version: TransactionVersion::Two, ..BrokerConfig::default() };
            TestCluster::embedded(config).await.unwrap()
        }
    }
}

/// Which versions the application asks for under these caps.
async fn spoken(caps: Caps) -> std::collections::BTreeMap<i16, (i16, i16)> {
    let python = counter();
    let cluster = uncapped().await;
    let proxy = KafkaProxy::start(cluster.bootstrap(), caps, 0).unwrap();
    let mut app = App::prepare_on(cluster, kyc()).await.unwrap();
    app.create_topics(KYC_AGENTS).await.unwrap();
    for agent in KYC_AGENTS {
        app.spawn_at(agent, agent, &proxy.address(), &[]).unwrap();
    }
    app.all_ready().await.unwrap();
    let watch = Watch::start(&app.client, &outcome_topics(&app)).await.unwrap();
    let mut load = Load::new(CASES, Duration::from_secs(2));
    while load.keep_up(&app).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let limit = Duration::from_secs(60);
    watch.until("an outcome of every case", limit, |w| (w.distinct() == CASES).then_some(())).await.unwrap();
    if let Some(python) = python {
        one_outcome_each(&python, app.cluster.bootstrap(), &outcome_topics(&app), CASES).unwrap();
    }
    app.stop().await.unwrap();
    println!("{caps}: versions asked for, by API: {:?}", proxy.versions());
    proxy.versions()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_above_redpandas_versions_is_asked_for() {
    let versions = spoken(Caps::Redpanda).await;
    for api in SPOKEN {
        assert!(versions.contains_key(&(api as i16)), "{api:?} was not asked for: {versions:?}");
    }
    for (api, (_, highest)) in versions {
        let api = ApiKey::try_from(api).unwrap();
        let cap = Caps::Redpanda.highest(api).unwrap_or_else(|| panic!("Redpanda has no {api:?}"));
        assert!(highest <= cap, "{api:?} was asked for in version {highest}; Redpanda has {cap}");
    }
}

/// The caps are what makes the difference: without them more is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_caps_more_is_asked_for() {
    let versions = spoken(Caps::Full).await;
    let above = |api: &ApiKey| {
        let highest = versions.get(&(*api as i16)).map_or(0, |(_, highest)| *highest);
        Caps::Redpanda.highest(*api).is_some_and(|cap| highest > cap)
    };
    let above: Vec<_> = SPOKEN.iter().filter(|api| above(api)).collect();
    assert!(above.len() >= 3, "{above:?} of {versions:?}");
}

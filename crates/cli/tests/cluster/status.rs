use anabranch_core::join::Phase;
use anabranch_kafka::{Event, GroupConfig, GroupConsumer, OffsetToCommit};
use serde_json::json;

use crate::support::{LIMIT, Setup, Story, now};

#[tokio::test(flavor = "multi_thread")]
async fn groups_members_lag_dead_letters_and_cases() {
    let setup = Setup::with_topics().await;
    let (one, two, three) = (Story::new("case-1"), Story::new("case-2"), Story::new("case-3"));
    for story in [&one, &two, &three] {
        setup.emit(story.planned()).await;
    }
    setup.emit(vec![one.state(Phase::Joining), two.state(Phase::Joining), three.state(Phase::Joining)]).await;
    let parked = Phase::Parked { since: now(), reason: "a person".into() };
    setup.emit(vec![two.state(parked), three.state(Phase::Closed { at: now() })]).await;

    let topics = ["kyc.tasks.identity", "kyc.tasks.identity.retry.5s", "kyc.tasks.identity.retry.30s"];
    let config = GroupConfig::new("kyc.identity", topics.map(str::to_owned).to_vec());
    let mut consumer = GroupConsumer::start(&setup.cluster, config);
    let mut read = 0;
    while read < 3 {
        match tokio::time::timeout(LIMIT, consumer.next()).await.expect("the group joins") {
            Event::Records(fetched) => {
                read += fetched.records.len();
                let offset = OffsetToCommit { offset: 1, metadata: String::new() };
                consumer.committer().commit(vec![(fetched.topic_partition(), offset)]).await.unwrap();
            }
            Event::Fatal(error) => panic!("{error}"),
            _ => {}
        }
    }

    let status = setup.run(&["status", "-o", "json"]).await;
    assert_eq!(status.code, 0, "{status:?}");
    let seen = status.json();
    let group = |agent: &str| seen["groups"].as_array().unwrap().iter().find(|g| g["agent"] == agent).unwrap();
    let identity = group("identity");
    assert_eq!((&identity["state"], &identity["assigned"]), (&json!("Stable"), &json!(9)), "{identity}");
    assert_eq!(identity["members"].as_array().unwrap().len(), 1);
    let partitions = identity["partitions"].as_array().unwrap();
    let behind: i64 = partitions.iter().map(|p| (p["end"].as_i64().unwrap() - 1).max(0)).sum();
    assert_eq!(identity["lag"], behind);
    assert_eq!(group("composer")["lag"], 3, "the three plans");
    assert_eq!(seen["cases"], json!({ "joining": 1, "parked": 1, "closed": 1 }));
    assert!(status.err.contains("group kyc.composer has no members"), "{}", status.err);
    assert!(!status.err.contains("kyc.identity"), "{}", status.err);

    let table = setup.run(&["status"]).await;
    assert!(table.out.contains("kyc.identity") && table.out.contains("2 cases open"), "{table:?}");
    tokio::time::timeout(LIMIT, consumer.leave()).await.expect("it leaves").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_the_topology_is_an_error() {
    let setup = Setup::empty().await;
    let status = setup.run(&["status"]).await;
    assert_eq!(status.code, 1, "{status:?}");
    assert!(status.err.contains("no topic of topology kyc is on this cluster"), "{status:?}");
}

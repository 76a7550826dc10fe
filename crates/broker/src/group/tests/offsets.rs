use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, TopicName,
    offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
    offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
};

use super::{
    super::{Committer, Offset},
    *,
};
use crate::ports;

const UNSTABLE: i16 = 88;

/// Commits an offset on partition 0 of `t`.
fn commit(groups: &Groups, client: Option<&Client>, offset: i64, metadata: &str) -> i16 {
    let partition = OffsetCommitRequestPartition::default()
        .with_committed_offset(offset)
        .with_committed_leader_epoch(7)
        .with_committed_metadata(Some(text(metadata)));
    let topic = OffsetCommitRequestTopic::default().with_name(TopicName(text("t"))).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group_id())
        .with_generation_id_or_member_epoch(client.map_or(-1, |c| c.generation))
        .with_member_id(client.map(|c| text(&c.id)).unwrap_or_default())
        .with_group_instance_id(client.and_then(|c| c.instance).map(StrBytes::from_static_str))
        .with_topics(vec![topic]);
    let response = over_the_wire(&groups.offset_commit(&request), 8);
    assert_eq!(response.topics[0].name.as_str(), "t");
    response.topics[0].partitions[0].error_code
}

/// What is committed on partition 0 of `t`: offset, metadata, code; the same in all forms of the request.
fn fetch(groups: &Groups, stable: bool) -> (i64, String, i16) {
    let topic = OffsetFetchRequestTopic::default().with_name(TopicName(text("t"))).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default()
        .with_group_id(group_id())
        .with_require_stable(stable)
        .with_topics(Some(vec![topic]));
    let single = over_the_wire(&groups.offset_fetch(&request, 7), 7).topics.remove(0).partitions.remove(0);
    let topic = OffsetFetchRequestTopics::default().with_name(TopicName(text("t"))).with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default().with_group_id(group_id()).with_topics(Some(vec![topic]));
    let request = OffsetFetchRequest::default().with_require_stable(stable).with_groups(vec![group]);
    let mut response = over_the_wire(&groups.offset_fetch(&request, 9), 9);
    let batched = response.groups[0].topics.remove(0).partitions.remove(0);
    assert_eq!(
        (single.committed_offset, single.committed_leader_epoch, &single.metadata, single.error_code),
        (batched.committed_offset, batched.committed_leader_epoch, &batched.metadata, batched.error_code)
    );
    (single.committed_offset, single.metadata.unwrap().to_string(), single.error_code)
}

fn offset(topic: &str, partition: i32, offset: i64) -> Offset {
    Offset { topic: topic.to_owned(), partition, offset, leader_epoch: -1, metadata: "m".to_owned() }
}

fn stage(groups: &Groups, producer: i64, at: i64) -> i16 {
    let committer = Committer::new("g", &StrBytes::new(), None, -1);
    groups.stage_offsets(producer, &committer, groups.examine(vec![offset("t", 0, at)]))[0]
}

#[tokio::test(start_paused = true)]
async fn a_member_commits_under_its_generation_and_metadata_comes_back() {
    let groups = groups();
    let client = alone(&groups).await;
    assert_eq!(fetch(&groups, true), (-1, String::new(), OK));
    assert_eq!(commit(&groups, Some(&client), 5, "note"), OK);
    assert_eq!(fetch(&groups, true), (5, "note".to_owned(), OK));
    let stale = Client { generation: 0, ..client.clone() };
    assert_eq!(commit(&groups, Some(&stale), 6, ""), ILLEGAL_GENERATION);
    let stranger = Client { id: "nobody".to_owned(), ..client };
    assert_eq!(commit(&groups, Some(&stranger), 6, ""), UNKNOWN_MEMBER);
    assert_eq!(commit(&groups, None, 6, ""), UNKNOWN_MEMBER, "a group with members takes no commits of others");
    assert_eq!(fetch(&groups, true).0, 5);
}

#[tokio::test(start_paused = true)]
async fn without_members_anyone_commits_and_a_generation_that_never_was_is_refused() {
    let groups = groups();
    let never = Client { generation: 1, id: "m".to_owned(), ..Client::new(&groups) };
    assert_eq!(commit(&groups, Some(&never), 1, ""), ILLEGAL_GENERATION);
    assert_eq!(commit(&groups, None, 1, ""), OK);
    assert_eq!(fetch(&groups, false).0, 1);
}

#[tokio::test(start_paused = true)]
async fn a_commit_during_a_rebalance_is_taken_until_the_next_generation_begins() {
    let groups = groups();
    let [leader, follower] = together([Client::new(&groups), Client::new(&groups)]).await;
    let rejoin = leader.join_later();
    settle().await;
    assert_eq!(commit(&groups, Some(&follower), 3, ""), OK);
    let (follower, _) = follower.join_later().await.unwrap();
    assert_eq!(commit(&groups, Some(&follower), 4, ""), REBALANCE);
    let (leader, _) = rejoin.await.unwrap();
    leader.sync(&[]).await;
    assert_eq!(commit(&groups, Some(&follower), 4, ""), OK);
}

#[tokio::test(start_paused = true)]
async fn a_commit_is_a_sign_of_life() {
    let groups = groups();
    let client = alone(&groups).await;
    for round in 0..4 {
        pass(secs(8)).await;
        assert_eq!(commit(&groups, Some(&client), round, ""), OK);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fenced_instance_commits_nothing() {
    let groups = groups();
    let mut old = Client::fixed(&groups, "a");
    old.join().await;
    old.sync(&[]).await;
    Client::fixed(&groups, "a").join().await;
    assert_eq!(commit(&groups, Some(&old), 1, ""), FENCED_INSTANCE);
}

#[tokio::test(start_paused = true)]
async fn metadata_has_a_limit() {
    let groups = groups();
    assert_eq!(commit(&groups, None, 1, &"x".repeat(4096)), OK);
    assert_eq!(commit(&groups, None, 2, &"x".repeat(4097)), 12);
    assert_eq!(fetch(&groups, false).0, 1);
}

#[tokio::test(start_paused = true)]
async fn staged_offsets_count_when_their_transaction_commits() {
    let groups = groups();
    assert_eq!(commit(&groups, None, 1, ""), OK);
    assert_eq!(stage(&groups, 9, 10), OK);
    assert_eq!(fetch(&groups, false), (1, String::new(), OK));
    assert_eq!(fetch(&groups, true), (-1, String::new(), UNSTABLE));
    groups.finish_offsets(8, true).unwrap();
    assert_eq!(fetch(&groups, true).2, UNSTABLE, "that was another producer");
    groups.finish_offsets(9, true).unwrap();
    assert_eq!(fetch(&groups, true), (10, "m".to_owned(), OK));
    assert_eq!(stage(&groups, 9, 20), OK);
    groups.finish_offsets(9, false).unwrap();
    assert_eq!(fetch(&groups, true), (10, "m".to_owned(), OK));
}

#[tokio::test(start_paused = true)]
async fn a_plain_commit_after_a_staged_one_is_the_newer() {
    let groups = groups();
    assert_eq!(stage(&groups, 9, 10), OK);
    assert_eq!(commit(&groups, None, 11, ""), OK);
    groups.finish_offsets(9, true).unwrap();
    assert_eq!(fetch(&groups, true).0, 11);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_checks_the_member_it_commits_for() {
    let groups = groups();
    let client = alone(&groups).await;
    let stage = |id: &str, instance: Option<&'static str>, generation| {
        let instance = instance.map(StrBytes::from_static_str);
        let committer = Committer::new("g", &text(id), instance.as_ref(), generation);
        groups.stage_offsets(1, &committer, groups.examine(vec![offset("t", 0, 1)]))[0]
    };
    assert_eq!(stage(&client.id, None, client.generation), OK);
    assert_eq!(stage(&client.id, None, client.generation + 1), ILLEGAL_GENERATION);
    assert_eq!(stage("nobody", None, client.generation), UNKNOWN_MEMBER);
    assert_eq!(stage("", None, -1), OK, "old producers do not say for whom they commit");
    let mut fixed = Client::fixed(&groups, "a");
    client.leave();
    fixed.join().await;
    assert_eq!(stage("other", Some("a"), fixed.generation), FENCED_INSTANCE);
}

#[tokio::test(start_paused = true)]
async fn all_topics_are_found_when_none_is_named() {
    let groups = groups();
    let committer = Committer::new("g", &StrBytes::new(), None, -1);
    assert_eq!(commit(&groups, None, 1, ""), OK);
    groups.stage_offsets(4, &committer, groups.examine(vec![offset("s", 1, 1), offset("s", 0, 1)]));
    let all = |stable| {
        let request =
            OffsetFetchRequest::default().with_group_id(group_id()).with_topics(None).with_require_stable(stable);
        let response = over_the_wire(&groups.offset_fetch(&request, 7), 7);
        let partitions = |t: kafka_protocol::messages::offset_fetch_response::OffsetFetchResponseTopic| {
            let codes = t.partitions.iter().map(|p| (p.partition_index, p.error_code)).collect::<Vec<_>>();
            (t.name.to_string(), codes)
        };
        response.topics.into_iter().map(partitions).collect::<Vec<_>>()
    };
    assert_eq!(all(false), [("t".to_owned(), vec![(0, OK)])]);
    assert_eq!(all(true), [("s".to_owned(), vec![(0, UNSTABLE), (1, UNSTABLE)]), ("t".to_owned(), vec![(0, OK)])]);
    let other = OffsetFetchRequest::default().with_group_id(GroupId(text("other"))).with_topics(None);
    assert!(groups.offset_fetch(&other, 7).topics.is_empty());
}

#[tokio::test(start_paused = true)]
async fn offsets_and_open_transactions_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let groups = groups_in(dir.path());
    assert_eq!(commit(&groups, None, 5, "note"), OK);
    assert_eq!(stage(&groups, 9, 10), OK);
    let groups = groups_in(dir.path());
    assert_eq!(fetch(&groups, false), (5, "note".to_owned(), OK));
    assert_eq!(fetch(&groups, true).2, UNSTABLE);
    groups.finish_offsets(9, true).unwrap();
    let groups = groups_in(dir.path());
    assert_eq!(fetch(&groups, true), (10, "m".to_owned(), OK));
}

#[tokio::test(start_paused = true)]
async fn the_journal_shrinks_and_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let groups = groups_in(dir.path());
    let client = alone(&groups).await;
    assert_eq!(stage(&groups, 9, 10), OK);
    let metadata = "x".repeat(4000);
    for at in 0..600 {
        assert_eq!(commit(&groups, Some(&client), at, &metadata), OK);
    }
    assert!(std::fs::metadata(dir.path().join("groups")).unwrap().len() < 2_000_000);
    let groups = groups_in(dir.path());
    assert_eq!(fetch(&groups, false), (599, metadata, OK));
    assert_eq!(fetch(&groups, true).2, UNSTABLE);
    assert_eq!(Client { groups, ..client }.heartbeat(), OK);
}

#[derive(Debug)]
struct OnlyS;

impl ports::Log for OnlyS {
    fn exists(&self, topic: &str, partition: i32) -> bool {
        (topic, partition) == ("s", 0)
    }

    fn append_marker(&self, _: &str, _: i32, _: ports::Marker) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn partitions_that_are_not_there_take_no_offsets() {
    let groups = groups();
    let log: Arc<dyn ports::Log> = Arc::new(OnlyS);
    groups.check_partitions_with(&log);
    assert_eq!(commit(&groups, None, 1, ""), 3);
    let committer = Committer::new("g", &StrBytes::new(), None, -1);
    let codes = groups.stage_offsets(1, &committer, groups.examine(vec![offset("s", 0, 1), offset("s", 1, 1)]));
    assert_eq!(codes, [OK, 3]);
}

#[tokio::test(start_paused = true)]
async fn offsets_of_a_deleted_topic_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let groups = groups_in(dir.path());
    assert_eq!(commit(&groups, None, 5, ""), OK);
    assert_eq!(stage(&groups, 9, 10), OK);
    groups.topic_deleted("t").unwrap();
    groups.finish_offsets(9, true).unwrap();
    assert_eq!(fetch(&groups, true).0, -1);
    assert_eq!(fetch(&groups_in(dir.path()), true).0, -1);
}

fn delete(groups: &Groups, group: &str) -> (i16, Option<i16>) {
    let partitions = vec![OffsetDeleteRequestPartition::default()];
    let topic = OffsetDeleteRequestTopic::default().with_name(TopicName(text("t"))).with_partitions(partitions);
    let request = OffsetDeleteRequest::default().with_group_id(GroupId(text(group))).with_topics(vec![topic]);
    let response = over_the_wire(&groups.offset_delete(&request), 0);
    (response.error_code, response.topics.first().map(|t| t.partitions[0].error_code))
}

#[tokio::test(start_paused = true)]
async fn offsets_are_deleted_unless_a_member_needs_them() {
    let groups = groups();
    assert_eq!(commit(&groups, None, 5, ""), OK);
    assert_eq!(delete(&groups, "other"), (69, None));
    let mut client = Client::new(&groups);
    client.protocols = vec![("range", "\0\0\0\0\0\x01\0\x01t\0\0\0\0")];
    client.join().await;
    assert_eq!(delete(&groups, "g"), (OK, Some(86)));
    client.protocols = vec![("range", "\0\0\0\0\0\x01\0\x01u\0\0\0\0")];
    client.join().await;
    assert_eq!(delete(&groups, "g"), (OK, Some(OK)));
    assert_eq!(fetch(&groups, false).0, -1);
    client.protocols = vec![("range", "\0\0\x7f\0\0\0")];
    client.join().await;
    assert_eq!(delete(&groups, "g"), (OK, Some(86)), "what cannot be read may be about any topic");
}

//! Members of groups: who has which partition, when it changes hands, and who may commit.

use std::time::{Duration, Instant};

use anabranch_kafka::{GroupConfig, OffsetToCommit, StartOffset, TopicPartition};
use kafka_protocol::{
    messages::{ApiKey, GroupId, JoinGroupRequest, join_group_request::JoinGroupRequestProtocol},
    protocol::StrBytes,
};

use crate::{
    cases,
    member::{Member, SESSION, config},
    raw::text,
    world::{Profile, SOON, World, values},
};

cases![
    a_member_gets_everything_and_goes_on_where_it_committed,
    a_second_member_shares_and_nothing_that_stays_is_interrupted,
    a_drain_that_takes_too_long_is_lost_and_handed_over,
    a_killed_member_is_replaced_within_the_session,
    a_member_that_leaves_is_replaced_at_once,
    a_static_member_comes_back_unnoticed,
    a_second_process_with_the_same_instance_fences_the_first,
    a_topic_that_does_not_exist_is_waited_for,
    added_partitions_are_picked_up,
    topics_that_are_joined_lie_in_one_process,
    three_members_share_evenly,
    what_only_a_human_can_mend_is_fatal,
    a_paused_partition_stays_ours,
    a_slow_caller_keeps_its_membership,
    an_idle_member_does_next_to_nothing,
    dropping_a_member_ends_its_tasks,
];

fn tp(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

fn at(offset: i64) -> OffsetToCommit {
    OffsetToCommit { offset, metadata: String::new() }
}

async fn a_member_gets_everything_and_goes_on_where_it_committed(world: World) {
    let (topic, group) = (world.topic(2).await, world.name("g"));
    world.send(&topic, 0, &["a", "b", "c"]).await;
    let mut member = Member::start(&world.cluster, config(&group, &[&topic]));
    member.until_held(SOON, 2).await;
    assert!(member.held.values().all(|(epoch, p)| *epoch == 1 && p.start_offset == 0 && p.committed.is_none()));
    member.until_records(SOON, 3).await;
    let commit = OffsetToCommit { offset: 2, metadata: "done above: 5".into() };
    member.committer.commit(vec![(tp(&topic, 0), commit)]).await.unwrap();
    let committer = member.committer.clone();
    member.leave().await.unwrap();
    assert!(committer.commit(vec![(tp(&topic, 0), at(3))]).await.unwrap_err().is_stale(), "it has left");

    let latest = GroupConfig { start: StartOffset::Latest, ..config(&group, &[&topic]) };
    let mut member = Member::start(&world.another_cluster(), latest);
    member.until_held(SOON, 2).await;
    let (_, first) = &member.held[&tp(&topic, 0)];
    let committed = first.committed.as_ref().unwrap();
    assert_eq!((first.start_offset, committed.offset, committed.metadata.as_str()), (2, 2, "done above: 5"));
    assert_eq!(member.held[&tp(&topic, 1)].1.committed, None);
    member.until_records(SOON, 1).await;
    assert_eq!(values(&member.records), ["c"]);
}

async fn a_second_member_shares_and_nothing_that_stays_is_interrupted(world: World) {
    let (topic, group) = (world.topic(4).await, world.name("g"));
    let mut first = Member::start(&world.cluster, config(&group, &[&topic]));
    first.until_held(SOON, 4).await;
    first.drains_at_once = false;
    let mut second = Member::start(&world.another_cluster(), config(&group, &[&topic]));
    first.until(SOON, "a drain", |m| !m.draining.is_empty()).await;
    let leaving: Vec<_> = first.draining[0].0.clone();
    assert_eq!(leaving.len(), 2);
    let staying: Vec<i32> = (0..4).filter(|p| !leaving.contains(&tp(&topic, *p))).collect();

    // While two partitions drain, the other two are read, all can be committed, and nobody else gets them.
    for partition in 0..4 {
        world.send(&topic, partition, &[&format!("in {partition}")]).await;
    }
    first.until_records(SOON, 2).await;
    second.watch(Duration::from_secs(2)).await;
    first.watch(Duration::from_millis(100)).await;
    assert!(first.records.iter().all(|r| staying.contains(&r.partition)), "{:?}", first.records);
    assert!(second.held.is_empty(), "{:?}", second.log);
    let offsets = (0..4).map(|p| (tp(&topic, p), OffsetToCommit { offset: 0, metadata: "drained".into() })).collect();
    first.committer.commit(offsets).await.unwrap();

    first.drained();
    second.until_held(SOON, 2).await;
    second.until_records(SOON, 2).await;
    assert!(second.held.values().all(|(_, p)| p.committed.as_ref().unwrap().metadata == "drained"));
    assert_eq!(second.held.keys().cloned().collect::<Vec<_>>(), leaving);
    first.watch(Duration::from_millis(500)).await;
    assert_eq!(first.log, ["assigned 4", "revoked 2"], "what stayed was never touched");
    assert!(first.held.values().all(|(epoch, _)| *epoch == 1));
    let error = first.committer.commit(vec![(leaving[0].clone(), at(1))]).await.unwrap_err();
    assert!(error.is_stale(), "{error}");
}

async fn a_drain_that_takes_too_long_is_lost_and_handed_over(world: World) {
    let (topic, group) = (world.topic(2).await, world.name("g"));
    let settings = || GroupConfig { rebalance_timeout: Duration::from_secs(3), ..config(&group, &[&topic]) };
    let mut first = Member::start(&world.cluster, settings());
    first.until_held(SOON, 2).await;
    first.drains_at_once = false;
    let mut second = Member::start(&world.another_cluster(), settings());
    first.until(SOON, "a drain", |m| !m.draining.is_empty()).await;
    first.until(Duration::from_secs(5), "the loss", |m| m.log.last().is_some_and(|l| l == "lost 1")).await;
    second.until_held(Duration::from_secs(5), 1).await;
    assert_eq!(first.held.len(), 1);
    let (gone, done) = first.draining.remove(0);
    assert!(first.committer.commit(vec![(gone[0].clone(), at(0))]).await.unwrap_err().is_stale());
    done.done();
    first.watch(Duration::from_secs(1)).await;
    assert_eq!(first.log, ["assigned 2", "revoked 1", "lost 1"], "a late answer changes nothing");
}

async fn a_killed_member_is_replaced_within_the_session(world: World) {
    let (topic, group) = (world.topic(4).await, world.name("g"));
    let mut first = Member::start(&world.cluster, config(&group, &[&topic]));
    first.until_held(SOON, 4).await;
    let mut second = Member::start(&world.another_cluster(), config(&group, &[&topic]));
    tokio::join!(second.until_held(SOON, 2), first.until_held(SOON, 2));
    let killed = Instant::now();
    second.kill();
    first.until_held(SESSION + Duration::from_secs(2), 4).await;
    assert!(killed.elapsed() > Duration::from_secs(3), "nobody was told");
    assert_eq!(first.log.iter().filter(|l| l.starts_with("revoked")).count(), 1, "{:?}", first.log);
}

async fn a_member_that_leaves_is_replaced_at_once(world: World) {
    let (topic, group) = (world.topic(4).await, world.name("g"));
    let mut first = Member::start(&world.cluster, config(&group, &[&topic]));
    first.until_held(SOON, 4).await;
    let mut second = Member::start(&world.another_cluster(), config(&group, &[&topic]));
    tokio::join!(second.until_held(SOON, 2), first.until_held(SOON, 2));
    second.leave().await.unwrap();
    first.until_held(Duration::from_secs(3), 4).await;
}

async fn a_static_member_comes_back_unnoticed(world: World) {
    if world.profile == Profile::Oldest {
        return; // static members need JoinGroup 5
    }
    let (topic, group) = (world.topic(4).await, world.name("g"));
    let settings = |id: &str| GroupConfig { instance_id: Some(id.into()), ..config(&group, &[&topic]) };
    let mut leader = Member::start(&world.cluster, settings("a"));
    leader.until_held(SOON, 4).await;
    let mut other = Member::start(&world.another_cluster(), settings("b"));
    tokio::join!(other.until_held(SOON, 2), leader.until_held(SOON, 2));
    let had = other.partitions();
    other.leave().await.unwrap();
    let started = Instant::now();
    let mut back = Member::start(&world.another_cluster(), settings("b"));
    back.until_held(SOON, 2).await;
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!(back.partitions(), had);
    leader.watch(Duration::from_secs(2)).await;
    assert_eq!(leader.log, ["assigned 4", "revoked 2"], "{:?}", leader.fatal);

    // The leader too.
    let had = leader.partitions();
    leader.kill();
    let mut leader = Member::start(&world.another_cluster(), settings("a"));
    leader.until_held(SOON, 2).await;
    assert_eq!(leader.partitions(), had);
    back.watch(Duration::from_secs(2)).await;
    assert_eq!(back.log, ["assigned 2"]);
    back.until(SOON, "nothing fatal", |m| m.fatal.is_none()).await;
}

async fn a_second_process_with_the_same_instance_fences_the_first(world: World) {
    if world.profile == Profile::Oldest {
        return; // static members need JoinGroup 5
    }
    let (topic, group) = (world.topic(1).await, world.name("g"));
    let settings = || GroupConfig { instance_id: Some("only".into()), ..config(&group, &[&topic]) };
    let mut first = Member::start(&world.cluster, settings());
    first.until_held(SOON, 1).await;
    let mut second = Member::start(&world.another_cluster(), settings());
    second.until_held(SOON, 1).await;
    let error = first.committer.commit(vec![(tp(&topic, 0), at(0))]).await.unwrap_err();
    assert!(error.is_stale(), "{error}");
    first.until(SOON, "the end", |m| m.fatal.is_some()).await;
    assert!(first.fatal.as_ref().unwrap().is_fatal());
    assert!(first.held.is_empty(), "{:?}", first.log);
    second.committer.commit(vec![(tp(&topic, 0), at(0))]).await.unwrap();
}

async fn a_topic_that_does_not_exist_is_waited_for(world: World) {
    let (known, later, group) = (world.topic(1).await, world.name("t"), world.name("g"));
    let mut member = Member::start(&world.cluster, config(&group, &[&known, &later]));
    member.until_held(SOON, 1).await;
    let mut alone = Member::start(&world.another_cluster(), config(&world.name("g"), &[&later]));
    alone.until(SOON, "a join", |m| m.log == ["assigned 0"]).await;
    world.create(crate::world::new_topic(&later, 2, &[])).await;
    world.send(&later, 1, &["hello"]).await;
    member.until_held(Duration::from_secs(8), 3).await;
    alone.until_held(Duration::from_secs(8), 2).await;
    member.until_records(SOON, 1).await;
    assert_eq!(member.log, ["assigned 1", "assigned 2"], "what it had was not interrupted");
}

async fn added_partitions_are_picked_up(world: World) {
    let (topic, group) = (world.topic(1).await, world.name("g"));
    let mut member = Member::start(&world.cluster, config(&group, &[&topic]));
    member.until_held(SOON, 1).await;
    world.cluster.admin().create_partitions(&topic, 3).await.unwrap();
    world.send(&topic, 2, &["from the start"]).await;
    member.until_held(Duration::from_secs(8), 3).await;
    member.until_records(SOON, 1).await;
    assert_eq!(member.log, ["assigned 1", "assigned 2"]);
}

async fn topics_that_are_joined_lie_in_one_process(world: World) {
    let (a, b, group) = (world.topic(5).await, world.topic(5).await, world.name("g"));
    let mut first = Member::start(&world.cluster, config(&group, &[&a, &b]));
    let mut second = Member::start(&world.another_cluster(), config(&group, &[&a, &b]));
    let shared = |m: &Member| (4..=6).contains(&m.held.len());
    tokio::join!(first.until(SOON, "a share", shared), second.until(SOON, "a share", shared));
    for member in [&first, &second] {
        let of = |topic: &str| member.held.keys().filter(|tp| &*tp.topic == topic).map(|tp| tp.partition).collect();
        let (of_a, of_b): (Vec<i32>, Vec<i32>) = (of(&a), of(&b));
        assert_eq!(of_a, of_b);
    }
    assert_eq!(first.held.len() + second.held.len(), 10);
}

async fn three_members_share_evenly(world: World) {
    let (topic, group) = (world.topic(7).await, world.name("g"));
    let mut members: Vec<Member> =
        (0..3).map(|_| Member::start(&world.another_cluster(), config(&group, &[&topic]))).collect();
    let deadline = Instant::now() + SOON;
    loop {
        for member in &mut members {
            member.watch(Duration::from_millis(50)).await;
        }
        let mut loads: Vec<usize> = members.iter().map(|m| m.held.len()).collect();
        loads.sort_unstable();
        let mut all: Vec<_> = members.iter().flat_map(Member::partitions).collect();
        all.sort_unstable();
        assert!(all.is_sorted_by(|a, b| a < b), "two owners: {all:?}");
        if loads == [2, 2, 3] {
            return;
        }
        assert!(Instant::now() < deadline, "{loads:?}");
    }
}

async fn what_only_a_human_can_mend_is_fatal(world: World) {
    let topic = world.topic(1).await;
    let short = GroupConfig { session_timeout: Duration::from_millis(10), ..config(&world.name("g"), &[&topic]) };
    let mut member = Member::start(&world.cluster, short);
    member.until(SOON, "the end", |m| m.fatal.is_some()).await;
    assert_eq!(member.fatal.as_ref().unwrap().code(), Some(26));

    // Somebody else's group, whose members speak another protocol.
    let group = world.name("g");
    let mut raw = world.raw().await;
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
    let join = JoinGroupRequest::default()
        .with_group_id(GroupId(text(&group)))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![protocol]);
    assert_eq!(raw.call(3, &join).await.error_code, 0);
    let mut member = Member::start(&world.cluster, config(&group, &[&topic]));
    member.until(SOON, "the end", |m| m.fatal.is_some()).await;
    let error = member.fatal.as_ref().unwrap();
    assert_eq!(error.code(), Some(23), "{error}");
    assert!(error.is_fatal() && error.to_string().contains(&group), "{error}");
}

async fn a_paused_partition_stays_ours(world: World) {
    let (topic, group) = (world.topic(1).await, world.name("g"));
    let mut consumer = anabranch_kafka::GroupConsumer::start(&world.cluster, config(&group, &[&topic]));
    let assigned = tokio::time::timeout(SOON, consumer.next()).await.unwrap();
    assert!(
        matches!(&assigned, anabranch_kafka::Event::Assigned { partitions, .. } if partitions.len() == 1),
        "{assigned:?}"
    );
    consumer.pause(&[tp(&topic, 0)]);
    world.send(&topic, 0, &["a"]).await;
    let paused = tokio::time::timeout(SESSION + Duration::from_secs(1), async {
        loop {
            let event = consumer.next().await;
            let quiet = matches!(&event, anabranch_kafka::Event::Records(fetched) if fetched.records.is_empty());
            assert!(quiet, "{event:?}");
        }
    });
    assert!(paused.await.is_err());
    consumer.resume(&[tp(&topic, 0)]);
    let event = tokio::time::timeout(SOON, async {
        loop {
            match consumer.next().await {
                anabranch_kafka::Event::Records(fetched) if fetched.records.is_empty() => {}
                event => return event,
            }
        }
    })
    .await
    .unwrap();
    assert!(matches!(&event, anabranch_kafka::Event::Records(fetched) if fetched.records.len() == 1), "{event:?}");
    consumer.leave().await.unwrap();
}

async fn a_slow_caller_keeps_its_membership(world: World) {
    let (topic, group) = (world.topic(1).await, world.name("g"));
    let mut consumer = anabranch_kafka::GroupConsumer::start(&world.cluster, config(&group, &[&topic]));
    let assigned = tokio::time::timeout(SOON, consumer.next()).await.unwrap();
    assert!(matches!(&assigned, anabranch_kafka::Event::Assigned { epoch: 1, .. }), "{assigned:?}");
    tokio::time::sleep(SESSION * 2).await;
    consumer.committer().commit(vec![(tp(&topic, 0), at(0))]).await.unwrap();
    world.send(&topic, 0, &["a"]).await;
    let event = tokio::time::timeout(SOON, async {
        loop {
            match consumer.next().await {
                anabranch_kafka::Event::Records(fetched) if fetched.records.is_empty() => {}
                event => return event,
            }
        }
    })
    .await
    .unwrap();
    assert!(matches!(&event, anabranch_kafka::Event::Records(_)), "no rebalance: {event:?}");
}

async fn an_idle_member_does_next_to_nothing(world: World) {
    let (topic, group) = (world.topic(6).await, world.name("g"));
    let mut member = Member::start(&world.cluster, config(&group, &[&topic]));
    member.until_held(SOON, 6).await;
    member.watch(Duration::from_secs(1)).await;
    let before = world.proxy.requests();
    member.watch(Duration::from_secs(6)).await;
    let after = world.proxy.requests();
    let seen = |key: ApiKey| after.get(&(key as i16)).unwrap_or(&0) - before.get(&(key as i16)).unwrap_or(&0);
    assert!((4..=8).contains(&seen(ApiKey::Heartbeat)), "{} heartbeats in 6 s of 1 s", seen(ApiKey::Heartbeat));
    assert!(seen(ApiKey::Fetch) <= 26, "{} fetches in 6 s of 500 ms waits", seen(ApiKey::Fetch));
    assert!(seen(ApiKey::Metadata) <= 3, "{} metadata requests", seen(ApiKey::Metadata));
    let all: u64 = after.values().sum::<u64>() - before.values().sum::<u64>();
    assert_eq!(all, seen(ApiKey::Heartbeat) + seen(ApiKey::Fetch) + seen(ApiKey::Metadata), "and nothing else");
}

async fn dropping_a_member_ends_its_tasks(world: World) {
    let (topic, group) = (world.topic(2).await, world.name("g"));
    let mut member = Member::start(&world.cluster, config(&group, &[&topic]));
    member.until_held(SOON, 2).await;
    member.watch(Duration::from_secs(1)).await;
    let committer = member.committer.clone();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (open, alive) = (world.proxy.open(), tasks());
    member.kill();
    let deadline = Instant::now() + Duration::from_secs(3);
    // Its heartbeats' connection and its fetches'; each has a reader, a writer and, at the proxy, a server.
    while world.proxy.open() >= open || tasks() + 3 > alive {
        assert!(
            Instant::now() < deadline,
            "{} of {open} connections, {} of {alive} tasks",
            world.proxy.open(),
            tasks()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let quiet = world.proxy.requests();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.proxy.requests(), quiet, "nothing is asked any more");
    drop(committer);
}

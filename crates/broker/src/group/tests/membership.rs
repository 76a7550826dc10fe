use super::{
    super::{Groups, Settings},
    *,
};

#[tokio::test(start_paused = true)]
async fn two_members_share_a_group() {
    let groups = groups();
    let [first, second] = together([Client::new(&groups), Client::new(&groups)]).await;
    assert_eq!((first.generation, second.generation), (2, 2));
    assert_ne!(first.id, second.id);
    assert!(first.id.starts_with("client-"), "{}", first.id);
}

#[tokio::test(start_paused = true)]
async fn from_version_4_a_member_must_come_back_with_its_id_and_before_need_not() {
    let groups = groups();
    for version in 4..=9 {
        let mut client = Client::of_version(&groups, version);
        let first = client.try_join().await;
        assert_eq!(first.error_code, MEMBER_ID_REQUIRED);
        assert!(!first.member_id.is_empty());
        assert_eq!(client.try_join().await.error_code, OK);
        assert_eq!(client.leave(), OK);
    }
    for version in 0..=3 {
        let mut client = Client::of_version(&groups, version);
        let response = client.try_join().await;
        assert_eq!((response.error_code, response.leader.as_str()), (OK, client.id.as_str()));
        assert_eq!(response.members.len(), 1);
        assert_eq!(client.leave(), OK);
    }
}

#[tokio::test(start_paused = true)]
async fn a_promised_id_that_is_never_used_expires_and_lets_the_others_go_on() {
    let groups = groups();
    let mut first = alone(&groups).await;
    let mut idler = Client::new(&groups);
    assert_eq!(idler.try_join().await.error_code, MEMBER_ID_REQUIRED);
    first.session = secs(30);
    let rejoin = first.join_later();
    pass(secs(9)).await;
    assert!(!rejoin.is_finished(), "the rebalance waits for the promised member");
    pass(secs(2)).await;
    assert_eq!(rejoin.await.unwrap().1.members.len(), 1);
    assert_eq!(idler.try_join().await.error_code, UNKNOWN_MEMBER);
}

#[tokio::test(start_paused = true)]
async fn the_initial_delay_gathers_members_into_one_generation() {
    let settings = Settings { initial_rebalance_delay: secs(3), ..Settings::default() };
    let groups = Groups::open(settings, Journal::memory()).unwrap();
    let begin = tokio::time::Instant::now();
    let first = Client::new(&groups).join_later();
    pass(secs(2)).await;
    let second = Client::new(&groups).join_later();
    let (_, one) = first.await.unwrap();
    let (_, two) = second.await.unwrap();
    assert_eq!((one.generation_id, two.generation_id), (1, 1));
    assert_eq!(one.members.len() + two.members.len(), 2, "the leader knows both, the other nobody");
    // A newcomer adds one more delay.
    assert_eq!(begin.elapsed(), secs(6));
}

#[tokio::test(start_paused = true)]
async fn sync_waits_for_the_leader_and_a_follower_may_come_first() {
    let groups = groups();
    let [leader, follower] = together([Client::new(&groups), Client::new(&groups)]).await;
    let rejoin = leader.join_later();
    settle().await;
    assert_eq!(follower.heartbeat(), REBALANCE);
    let (follower, _) = follower.join_later().await.unwrap();
    let (leader, _) = rejoin.await.unwrap();
    let waits = follower.sync_later();
    settle().await;
    assert!(!waits.is_finished());
    assert_eq!(follower.heartbeat(), OK, "a heartbeat while the assignment is made is in order");
    let own = leader.sync(&[(&leader.id, "a"), (&follower.id, "b")]).await;
    assert_eq!((own.error_code, own.assignment.as_ref()), (OK, b"a".as_slice()));
    assert_eq!(own.protocol_name.unwrap(), *"range");
    assert_eq!(waits.await.unwrap().assignment, "b");
}

#[tokio::test(start_paused = true)]
async fn a_leaving_member_makes_the_others_rebalance() {
    let groups = groups();
    let [first, mut second] = together([Client::new(&groups), Client::new(&groups)]).await;
    assert_eq!(first.leave(), OK);
    assert_eq!(first.leave(), UNKNOWN_MEMBER);
    assert_eq!(second.heartbeat(), REBALANCE);
    let response = second.join().await;
    assert_eq!((response.generation_id, response.members.len()), (3, 1));
    assert_eq!(response.leader.as_str(), second.id);
    assert_eq!(second.sync(&[(&second.id, "all")]).await.assignment, "all");
}

#[tokio::test(start_paused = true)]
async fn old_leave_requests_carry_the_code_on_top() {
    let groups = groups();
    let client = alone(&groups).await;
    let request = LeaveGroupRequest::default().with_group_id(group_id()).with_member_id(text(&client.id));
    for expected in [OK, UNKNOWN_MEMBER] {
        let response = over_the_wire(&groups.leave_group(&request, 2), 2);
        assert_eq!(response.error_code, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_is_out_after_its_session_and_not_before() {
    let groups = groups();
    let [first, second] = together([Client::new(&groups), Client::new(&groups)]).await;
    for _ in 0..3 {
        pass(secs(9)).await;
        assert_eq!((first.heartbeat(), second.heartbeat()), (OK, OK));
    }
    pass(secs(6)).await;
    assert_eq!(first.heartbeat(), OK);
    pass(Duration::from_millis(3_999)).await;
    assert_eq!(first.heartbeat(), OK);
    pass(Duration::from_millis(2)).await;
    assert_eq!(first.heartbeat(), REBALANCE);
    assert_eq!(second.heartbeat(), UNKNOWN_MEMBER);
    let (_, response) = first.join_later().await.unwrap();
    assert_eq!(response.members.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_member_that_falls_silent_leaves_the_group_empty() {
    let groups = groups();
    let client = alone(&groups).await;
    pass(secs(11)).await;
    assert_eq!(client.heartbeat(), UNKNOWN_MEMBER);
    let mut next = Client::new(&groups);
    assert_eq!(next.join().await.generation_id, 3, "an empty generation came between");
}

#[tokio::test(start_paused = true)]
async fn a_vanished_connection_changes_nothing_before_the_session_ends() {
    let groups = groups();
    let first = alone(&groups).await;
    let gone = Client::new(&groups).join_later();
    settle().await;
    assert_eq!(first.heartbeat(), REBALANCE);
    gone.abort();
    let (first, response) = first.join_later().await.unwrap();
    assert_eq!(response.members.len(), 2, "it is a member still");
    assert_eq!(first.sync(&[]).await.error_code, OK);
    pass(secs(9)).await;
    assert_eq!(first.heartbeat(), OK);
    pass(secs(2)).await;
    assert_eq!(first.heartbeat(), REBALANCE);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_rejoin_within_the_rebalance_timeout_is_out_despite_its_heartbeats() {
    let groups = groups();
    let [first, second] = together([Client::new(&groups), Client::new(&groups)]).await;
    let rejoin = first.join_later();
    settle().await;
    for _ in 0..7 {
        pass(secs(8)).await;
        assert_eq!(second.heartbeat(), REBALANCE);
    }
    pass(secs(5)).await;
    assert_eq!(second.heartbeat(), UNKNOWN_MEMBER);
    assert_eq!(rejoin.await.unwrap().1.members.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_joined_but_never_syncs_is_out_after_the_rebalance_timeout() {
    let groups = groups();
    let mut first = alone(&groups).await;
    let second = Client::new(&groups).join_later();
    settle().await;
    first.join().await;
    let (second, _) = second.await.unwrap();
    first.sync(&[(&first.id, "a"), (&second.id, "b")]).await;
    for _ in 0..7 {
        pass(secs(8)).await;
        assert_eq!((first.heartbeat(), second.heartbeat()), (OK, OK));
    }
    pass(secs(5)).await;
    assert_eq!(first.heartbeat(), REBALANCE);
    assert_eq!(second.heartbeat(), UNKNOWN_MEMBER);
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_joins_again_unchanged_is_told_the_current_generation() {
    let groups = groups();
    let [leader, mut follower] = together([Client::new(&groups), Client::new(&groups)]).await;
    let response = follower.join().await;
    assert_eq!((response.generation_id, response.error_code), (2, OK));
    assert_eq!(leader.heartbeat(), OK, "nobody rebalances for it");
    follower.protocols = vec![("range", "other topics")];
    let rejoin = follower.join_later();
    settle().await;
    assert_eq!(leader.heartbeat(), REBALANCE, "another subscription is another matter");
    leader.join_later().await.unwrap();
    assert_eq!(rejoin.await.unwrap().1.generation_id, 3);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_joins_again_starts_a_rebalance_and_a_new_leader_is_found_when_it_is_gone() {
    let groups = groups();
    let [mut leader, mut follower] = together([Client::new(&groups), Client::new(&groups)]).await;
    leader.session = secs(6);
    let rejoin = leader.join_later();
    settle().await;
    assert_eq!(follower.heartbeat(), REBALANCE);
    follower.join().await;
    let (leader, response) = rejoin.await.unwrap();
    assert_eq!(response.leader.as_str(), leader.id);
    let waits = follower.sync_later();
    pass(secs(7)).await;
    assert_eq!(waits.await.unwrap().error_code, REBALANCE, "its leader is gone before it assigned anything");
    let response = follower.join().await;
    assert_eq!((response.leader.as_str(), response.members.len()), (follower.id.as_str(), 1));
}

#[tokio::test(start_paused = true)]
async fn the_protocol_is_one_that_all_support_and_most_prefer() {
    let groups = groups();
    let mut members = [Client::new(&groups), Client::new(&groups), Client::new(&groups)];
    members[0].protocols = vec![("sticky", ""), ("range", "")];
    members[1].protocols = vec![("new", ""), ("range", ""), ("sticky", "")];
    members[2].protocols = vec![("range", ""), ("sticky", "")];
    let joins: Vec<_> = members.iter().map(Client::join_later).collect();
    settle().await;
    // All wait for the one that was first, and alone, in generation 1.
    let mut leader = None;
    for join in joins {
        if join.is_finished() {
            leader = Some(join.await.unwrap().0);
        }
    }
    let (_, response) = leader.unwrap().join_later().await.unwrap();
    assert_eq!((response.members.len(), response.protocol_name.unwrap().as_str()), (3, "range"));
    let mut stranger = Client::new(&groups);
    stranger.protocols = vec![("new", "")];
    assert_eq!(stranger.join().await.error_code, INCONSISTENT_PROTOCOL);
}

#[tokio::test(start_paused = true)]
async fn stale_generations_and_strangers_are_told_so() {
    let groups = groups();
    let client = alone(&groups).await;
    let stale = Client { generation: client.generation - 1, ..client.clone() };
    assert_eq!(stale.heartbeat(), ILLEGAL_GENERATION);
    assert_eq!(stale.sync(&[]).await.error_code, ILLEGAL_GENERATION);
    let stranger = Client { id: "nobody".to_owned(), ..client };
    assert_eq!(stranger.heartbeat(), UNKNOWN_MEMBER);
    assert_eq!(stranger.sync(&[]).await.error_code, UNKNOWN_MEMBER);
    assert_eq!(stranger.clone().join().await.error_code, UNKNOWN_MEMBER);
}

#[tokio::test(start_paused = true)]
async fn unfit_requests_are_refused() {
    let groups = groups();
    let mut client = Client::new(&groups);
    for session in [secs(5), secs(31 * 60)] {
        client.session = session;
        assert_eq!(client.join().await.error_code, 26);
    }
    client.session = secs(10);
    let nameless = client.join_request().with_group_id(GroupId::default());
    assert_eq!(groups.join_group(&nameless, 9, "c", "h").await.error_code, 24);
    client.protocols.clear();
    assert_eq!(client.join().await.error_code, INCONSISTENT_PROTOCOL);
    let settings = Settings { max_members: 1, ..Settings::default() };
    let small = Groups::open(settings, Journal::memory()).unwrap();
    alone(&small).await;
    assert_eq!(Client::new(&small).join().await.error_code, 81);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_repeats_its_join_is_answered_on_the_later_request() {
    let groups = groups();
    let [first, second] = together([Client::new(&groups), Client::new(&groups)]).await;
    let earlier = first.join_later();
    settle().await;
    let later = first.join_later();
    settle().await;
    assert_eq!(earlier.await.unwrap().1.error_code, REBALANCE);
    second.join_later().await.unwrap();
    assert_eq!(later.await.unwrap().1.error_code, OK);
}

#[tokio::test(start_paused = true)]
async fn members_survive_a_restart_of_the_broker() {
    let dir = tempfile::tempdir().unwrap();
    let before = groups_in(dir.path());
    let [first, second] = together([Client::new(&before), Client::new(&before)]).await;
    let after = groups_in(dir.path());
    let first = Client { groups: Arc::clone(&after), ..first };
    let second = Client { groups: after, ..second };
    assert_eq!((first.heartbeat(), second.heartbeat()), (OK, OK));
    assert_eq!(second.sync(&[]).await.assignment, "part");
    pass(secs(9)).await;
    assert_eq!(first.heartbeat(), OK);
    pass(secs(2)).await;
    assert_eq!((first.heartbeat(), second.heartbeat()), (REBALANCE, UNKNOWN_MEMBER));
}

#[tokio::test(start_paused = true)]
async fn a_rebalance_cut_off_by_a_restart_is_called_off() {
    let dir = tempfile::tempdir().unwrap();
    let before = groups_in(dir.path());
    let [mut first, second] = together([Client::new(&before), Client::new(&before)]).await;
    let rejoin = first.join_later();
    settle().await;
    second.join_later().await.unwrap();
    (first, _) = rejoin.await.unwrap();
    let first = Client { groups: groups_in(dir.path()), ..first };
    assert_eq!(first.sync(&[]).await.error_code, ILLEGAL_GENERATION, "that generation was never stable");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_slow_leader_costs_nobody_its_membership() {
    let groups = groups();
    let [leader, follower] = together([Client::new(&groups), Client::new(&groups)]).await;
    let rejoin = leader.join_later();
    settle().await;
    let (follower, _) = follower.join_later().await.unwrap();
    let (leader, _) = rejoin.await.unwrap();
    let waits = follower.sync_later();
    for _ in 0..3 {
        pass(secs(9)).await;
        assert_eq!(leader.heartbeat(), OK);
    }
    assert_eq!(leader.leave(), OK);
    assert_eq!(waits.await.unwrap().error_code, REBALANCE);
    pass(secs(9)).await;
    assert_eq!(follower.heartbeat(), REBALANCE, "its session began anew with the answer");
}

use super::*;

#[tokio::test(start_paused = true)]
async fn a_static_member_restarts_without_a_rebalance() {
    let groups = groups();
    let [leader, follower] = together([Client::fixed(&groups, "a"), Client::fixed(&groups, "b")]).await;
    pass(secs(9)).await;
    assert_eq!(leader.heartbeat(), OK);
    let mut again = Client::fixed(&groups, "b");
    let response = again.join().await;
    assert_eq!((response.error_code, response.generation_id), (OK, 2));
    assert_eq!(response.leader.as_str(), leader.id);
    assert_ne!(again.id, follower.id);
    assert_eq!(again.sync(&[]).await.assignment, "part", "it gets what it had");
    assert_eq!((leader.heartbeat(), again.heartbeat()), (OK, OK));
    pass(secs(9)).await;
    assert_eq!((leader.heartbeat(), again.heartbeat()), (OK, OK), "its session began anew");
}

#[tokio::test(start_paused = true)]
async fn the_instance_it_replaces_is_fenced_everywhere() {
    let groups = groups();
    let old = alone_fixed(&groups).await;
    let mut new = Client::fixed(&groups, "a");
    assert_eq!(new.join().await.error_code, OK);
    assert_eq!(old.heartbeat(), FENCED_INSTANCE);
    assert_eq!(old.sync(&[]).await.error_code, FENCED_INSTANCE);
    assert_eq!(old.leave(), FENCED_INSTANCE);
    assert_eq!(old.clone().join().await.error_code, FENCED_INSTANCE);
    assert_eq!(new.heartbeat(), OK);
}

async fn alone_fixed(groups: &Arc<Groups>) -> Client {
    let mut client = Client::fixed(groups, "a");
    assert_eq!(client.try_join().await.error_code, OK, "a static member needs no second request");
    client.sync(&[(&client.id, "all")]).await;
    client
}

#[tokio::test(start_paused = true)]
async fn a_restarted_leader_is_told_to_skip_the_assignment_or_not_that_it_leads() {
    let groups = groups();
    let first = alone_fixed(&groups).await;
    let mut second = Client::fixed(&groups, "a");
    let response = second.join().await;
    assert!(response.skip_assignment);
    assert_eq!((response.leader.as_str(), response.members.len()), (second.id.as_str(), 1));
    let mut third = Client { version: 8, ..Client::fixed(&groups, "a") };
    let response = third.join().await;
    assert_eq!((response.leader.as_str(), response.members.len()), (second.id.as_str(), 0));
    assert_eq!(third.sync(&[]).await.assignment, "all");
    assert_eq!((first.generation, third.generation), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_request_of_the_old_instance_that_waits_is_fenced() {
    let groups = groups();
    let [leader, follower] = together([Client::fixed(&groups, "a"), Client::fixed(&groups, "b")]).await;
    let waits = leader.join_later();
    settle().await;
    let new = Client::fixed(&groups, "a").join_later();
    settle().await;
    assert_eq!(waits.await.unwrap().1.error_code, FENCED_INSTANCE);
    follower.join_later().await.unwrap();
    assert_eq!(new.await.unwrap().1.error_code, OK);
}

#[tokio::test(start_paused = true)]
async fn a_static_member_that_stays_away_is_out_after_its_session() {
    let groups = groups();
    let [leader, _follower] = together([Client::fixed(&groups, "a"), Client::fixed(&groups, "b")]).await;
    pass(secs(9)).await;
    assert_eq!(leader.heartbeat(), OK);
    pass(secs(2)).await;
    assert_eq!(leader.heartbeat(), REBALANCE);
    let (_, response) = leader.join_later().await.unwrap();
    assert_eq!(response.members.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_operator_removes_a_static_member_by_its_instance_alone() {
    let groups = groups();
    let client = alone_fixed(&groups).await;
    let removal = Client { id: String::new(), ..client.clone() };
    assert_eq!(removal.leave(), OK);
    assert_eq!(removal.leave(), UNKNOWN_MEMBER);
    assert_eq!(client.heartbeat(), UNKNOWN_MEMBER);
}

#[tokio::test(start_paused = true)]
async fn another_protocol_makes_the_group_rebalance_after_all() {
    let groups = groups();
    alone_fixed(&groups).await;
    let mut again = Client::fixed(&groups, "a");
    again.protocols = vec![("range", "topics"), ("sticky", "topics")];
    assert_eq!(again.join().await.generation_id, 1, "the group's protocol is still its first choice");
    let mut again = Client::fixed(&groups, "a");
    again.protocols = vec![("sticky", "topics"), ("range", "topics")];
    let response = again.join().await;
    assert_eq!((response.generation_id, response.protocol_name), (2, Some(text("sticky"))));
}

#[tokio::test(start_paused = true)]
async fn an_absent_static_member_keeps_its_place_through_a_rebalance() {
    let groups = groups();
    let mut fixed = Client::fixed(&groups, "a");
    fixed.session = secs(300);
    let [leader, _absent] = together([Client::new(&groups), fixed.clone()]).await;
    let rejoin = leader.join_later();
    pass(secs(61)).await;
    let (_, response) = rejoin.await.unwrap();
    let instances: Vec<_> = response.members.iter().filter_map(|m| m.group_instance_id.as_deref()).collect();
    assert_eq!(instances, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_replacement_survives_a_restart_of_the_broker() {
    let dir = tempfile::tempdir().unwrap();
    let before = groups_in(dir.path());
    let old = alone_fixed(&before).await;
    let mut new = Client::fixed(&before, "a");
    new.join().await;
    let after = groups_in(dir.path());
    assert_eq!(Client { groups: Arc::clone(&after), ..new }.heartbeat(), OK);
    assert_eq!(Client { groups: after, ..old }.heartbeat(), FENCED_INSTANCE);
}

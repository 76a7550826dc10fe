use kafka_protocol::messages::{DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest};

use super::*;

fn list(groups: &Groups, states: &[&str], types: &[&str]) -> Vec<(String, String, String)> {
    let texts = |list: &[&str]| list.iter().map(|item| text(item)).collect::<Vec<_>>();
    let request = ListGroupsRequest::default().with_states_filter(texts(states)).with_types_filter(texts(types));
    let response = over_the_wire(&groups.list_groups(&request), 5);
    let group = |g: kafka_protocol::messages::list_groups_response::ListedGroup| {
        (g.group_id.to_string(), g.group_state.to_string(), g.group_type.to_string())
    };
    response.groups.into_iter().map(group).collect()
}

#[tokio::test(start_paused = true)]
async fn groups_are_listed_by_state_and_type() {
    let groups = groups();
    assert!(list(&groups, &[], &[]).is_empty());
    let client = alone(&groups).await;
    let stable = [("g".to_owned(), "Stable".to_owned(), "classic".to_owned())];
    assert_eq!(list(&groups, &[], &[]), stable);
    assert_eq!(list(&groups, &["stable", "Empty"], &["Classic"]), stable);
    assert!(list(&groups, &["Empty"], &[]).is_empty());
    assert!(list(&groups, &[], &["consumer"]).is_empty());
    client.leave();
    assert_eq!(list(&groups, &["Empty"], &[])[0].1, "Empty");
    for version in 0..=5 {
        over_the_wire(&groups.list_groups(&ListGroupsRequest::default()), version);
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_never_came_to_be_is_not_listed() {
    let groups = groups();
    let mut client = Client::new(&groups);
    client.protocols.clear();
    assert_eq!(client.join().await.error_code, INCONSISTENT_PROTOCOL);
    assert!(list(&groups, &[], &[]).is_empty());
    assert_eq!(Client::new(&groups).try_join().await.error_code, MEMBER_ID_REQUIRED);
    assert_eq!(list(&groups, &[], &[]).len(), 1);
    pass(secs(11)).await;
    assert!(list(&groups, &[], &[]).is_empty());
}

#[tokio::test(start_paused = true)]
async fn members_are_described_with_what_they_do() {
    let groups = groups();
    let [leader, _] = together([Client::fixed(&groups, "a"), Client::new(&groups)]).await;
    let request = DescribeGroupsRequest::default()
        .with_groups(vec![group_id(), GroupId(text("other"))])
        .with_include_authorized_operations(true);
    for version in 0..=6 {
        let response = over_the_wire(&groups.describe_groups(&request, version), version);
        let (known, other) = (&response.groups[0], &response.groups[1]);
        assert_eq!(
            (known.group_state.as_str(), known.protocol_type.as_str(), known.protocol_data.as_str()),
            ("Stable", "consumer", "range")
        );
        let member = known.members.iter().find(|m| m.member_id.as_str() == leader.id).unwrap();
        assert_eq!((member.client_id.as_str(), member.client_host.as_str()), ("client", "/127.0.0.1"));
        assert_eq!(
            (member.member_metadata.as_ref(), member.member_assignment.as_ref()),
            (&b"topics"[..], &b"part"[..])
        );
        assert_eq!(member.group_instance_id.is_some(), version >= 4);
        let expected = if version >= 6 { 69 } else { OK };
        assert_eq!((other.group_state.as_str(), other.error_code), ("Dead", expected));
    }
}

#[tokio::test(start_paused = true)]
async fn only_groups_without_members_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let groups = groups_in(dir.path());
    let client = alone(&groups).await;
    let delete = |groups: &Groups| {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id()]);
        over_the_wire(&groups.delete_groups(&request), 2).results[0].error_code
    };
    assert_eq!(delete(&groups), 68);
    client.leave();
    assert_eq!(delete(&groups), OK);
    assert_eq!(delete(&groups), 69);
    assert_eq!(delete(&groups_in(dir.path())), 69);
}

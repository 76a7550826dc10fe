use std::collections::BTreeMap;

use anabranch_kafka::{CommittedOffset, GroupInfo, MemberInfo, TopicPartition};

use super::gather::{GroupStatus, Partition, partition, status_of, warnings};

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("kyc.tasks.fraud", partition)
}

fn lag_of(committed: Option<i64>, start: i64, end: i64) -> (Option<i64>, i64) {
    let metadata = String::new();
    let committed = committed.map(|offset| (tp(0), CommittedOffset { offset, metadata })).into_iter().collect();
    let found = partition(&tp(0), &committed, &BTreeMap::from([(tp(0), start)]), &BTreeMap::from([(tp(0), end)]));
    (found.committed, found.lag)
}

#[test]
fn lag_counts_what_is_still_to_be_read() {
    assert_eq!(lag_of(Some(7), 0, 10), (Some(7), 3));
    assert_eq!(lag_of(Some(10), 0, 10), (Some(10), 0));
    assert_eq!(lag_of(None, 4, 10), (None, 6), "nothing committed: all that the log has");
    assert_eq!(lag_of(Some(2), 4, 10), (Some(2), 6), "what retention took is not to be read");
    assert_eq!(lag_of(Some(12), 0, 10), (Some(12), 0), "the topic was made anew");
    assert_eq!(lag_of(Some(-1), 0, 10), (None, 10));
}

fn group(agent: &str, assigned: &[&[i32]], lag: i64) -> GroupStatus {
    let members = assigned.iter().enumerate().map(|(i, partitions)| MemberInfo {
        member_id: format!("m-{i}"),
        instance_id: None,
        client_id: "fraud\u{1b}[2J".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        assignment: partitions.iter().map(|p| tp(*p)).collect(),
    });
    let state = if assigned.is_empty() { "Dead" } else { "Stable" };
    let info = GroupInfo {
        group: format!("kyc.{agent}"),
        state: state.to_owned(),
        protocol: "range".to_owned(),
        members: members.collect(),
    };
    let partition = |partition| Partition { topic: "t".to_owned(), partition, committed: None, end: lag, lag };
    status_of(agent.to_owned(), info, (0..2).map(partition).collect())
}

#[test]
fn a_group_without_members_is_warned_about() {
    let groups = [group("fraud", &[], 4), group("identity", &[&[0], &[1]], 0), group("document", &[&[0]], 0)];
    assert_eq!(groups[0].state, "none");
    assert_eq!((groups[1].assigned, groups[1].lag), (2, 0));
    assert!(!groups[1].members[0].client_id.contains('\u{1b}'));
    insta::assert_snapshot!(warnings(&groups, &["kyc.late".to_owned()]).join("\n"), @r"
    group kyc.fraud has no members: no process of fraud runs, and 8 records wait for it
    1 partitions of group kyc.document have no member: it is Stable
    1 topics do not exist yet: kyc.late
    ");
}

#[test]
fn the_table_can_be_cut() {
    let groups = [group("fraud", &[], 4), group("identity", &[&[0], &[1]], 0)];
    let shown = super::groups(&groups).to_string();
    let shown: Vec<&str> = shown.lines().map(str::trim_end).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

//! Histories that matter by themselves.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    COUNTS, HEARTBEAT, REBALANCE,
    bench::{Bench, Request},
    config, tps,
};
use crate::group::{Action, Config, Failure, JoinReply, TopicPartition, Verdict};

#[test]
fn every_error_code_in_every_state_ends_it_or_lets_it_come_back() {
    for wanted in [Request::Coordinator, Request::Join, Request::Sync, Request::Heartbeat] {
        for code in (-2..=140_i16).filter(|code| *code != 0) {
            for id in [None, Some("given".to_owned())] {
                let mut bench = Bench::new(config());
                bench.reach(wanted, &[0, 1]);
                bench.bad(Failure::Code(code, id));
                if Verdict::of(code) == Verdict::Fatal {
                    assert!(bench.consumer.fatal && bench.machine.is_over(), "{code} in {wanted:?}");
                } else {
                    assert!(!bench.machine.is_over(), "{code} in {wanted:?}");
                    bench.settle(&[0, 1]);
                    assert_eq!(bench.held(), tps(&[0, 1]), "{code} in {wanted:?}");
                }
            }
        }
    }
}

#[test]
fn being_fenced_loses_everything_at_once() {
    for (code, keeps_id) in [(22, true), (25, false)] {
        let mut bench = Bench::new(config());
        bench.settle(&[0, 1]);
        bench.reach(Request::Heartbeat, &[0, 1]);
        bench.bad(Failure::Code(code, None));
        assert!(bench.held().is_empty() && !bench.machine.can_commit());
        bench.reach(Request::Join, &[0, 1]);
        let (id, subscription) = bench.last_join.clone().unwrap();
        assert_eq!(!id.is_empty(), keeps_id, "code {code}");
        assert!(subscription.owned.is_empty() && subscription.generation == -1);
    }
}

#[test]
fn a_rebalance_that_is_announced_is_joined_at_once_and_interrupts_nothing() {
    let mut bench = Bench::new(config());
    bench.settle(&[0, 1]);
    bench.reach(Request::Heartbeat, &[0, 1]);
    bench.bad(Failure::Code(27, None));
    assert_eq!(bench.request, Some(Request::Join), "no wait");
    assert!(bench.machine.can_commit(), "what is done meanwhile can be committed");
    assert_eq!(bench.last_join.clone().unwrap().1.owned, tps(&[0, 1]));
    bench.good(false, &tps(&[]));
    assert!(!bench.machine.can_commit());
    bench.good(false, &tps(&[0]));
    assert_eq!(bench.held(), tps(&[0, 1]), "what stays is not told, what goes is still held until it is drained");
    let drain = *bench.consumer.drains.keys().next().expect("partition 1 drains");
    assert_eq!(bench.consumer.drains[&drain], tps(&[1]));
    assert!(bench.machine.can_commit());
    assert!(bench.request.is_none(), "nothing more to say until it is drained");
    bench.drained(drain);
    assert_eq!(bench.request, Some(Request::Join), "drained: the next owner is waiting");
    assert_eq!(bench.last_join.clone().unwrap().1.owned, tps(&[0]));
    assert_eq!(bench.consumer.epoch, 1, "partition 0 never left");
}

#[test]
fn a_drain_that_takes_too_long_is_lost() {
    let mut bench = Bench::new(config());
    bench.settle(&[0, 1]);
    bench.reach(Request::Heartbeat, &[0, 1]);
    bench.bad(Failure::Code(27, None));
    bench.good(false, &tps(&[]));
    bench.good(false, &tps(&[0]));
    let started = bench.now;
    while bench.now < started + REBALANCE {
        assert_eq!(bench.held(), tps(&[0, 1]));
        match bench.request {
            Some(_) => bench.good(false, &tps(&[0])),
            None => {
                bench.now = bench.machine.next_wake().unwrap();
                bench.poll();
            }
        }
    }
    assert_eq!(bench.held(), tps(&[0]));
    assert!(bench.consumer.drains.is_empty());
    bench.reach(Request::Join, &[0]);
    assert_eq!(bench.last_join.clone().unwrap().1.owned, tps(&[0]));
}

#[test]
fn what_comes_back_while_it_drains_comes_anew_afterwards() {
    let mut bench = Bench::new(config());
    bench.settle(&[0, 1]);
    let rebalance = |bench: &mut Bench, assigned: &[i32]| {
        bench.reach(Request::Heartbeat, assigned);
        bench.bad(Failure::Code(27, None));
        bench.good(false, &tps(assigned));
        bench.good(false, &tps(assigned));
    };
    rebalance(&mut bench, &[0]);
    rebalance(&mut bench, &[0, 1]);
    assert_eq!(bench.consumer.epoch, 1, "still draining: not told yet");
    let drain = *bench.consumer.drains.keys().next().unwrap();
    bench.drained(drain);
    assert_eq!(bench.held(), tps(&[0, 1]));
    assert_eq!(bench.consumer.held[&TopicPartition::new("a", 1)], 2, "in an epoch of its own");
    assert_eq!(bench.consumer.held[&TopicPartition::new("a", 0)], 1);
    bench.drained(drain);
    assert_eq!(bench.held(), tps(&[0, 1]), "said twice is said once");
}

#[test]
fn a_new_member_takes_the_id_it_is_given() {
    let mut bench = Bench::new(config());
    bench.reach(Request::Join, &[]);
    assert_eq!(bench.last_join.clone().unwrap().0, "");
    bench.bad(Failure::Code(79, Some("given".into())));
    assert_eq!(bench.request, Some(Request::Join), "at once");
    assert_eq!(bench.last_join.clone().unwrap().0, "given");
    bench.bad(Failure::Code(79, Some("another".into())));
    assert_eq!(bench.request, None, "a broker that says it again is not asked in a loop");
}

#[test]
fn a_coordinator_that_keeps_refusing_is_asked_less_and_less() {
    let mut bench = Bench::new(config());
    let start = bench.now;
    let mut asked = 0;
    while bench.now < start + Duration::from_secs(30) {
        match bench.until_request() {
            Request::Join => {
                asked += 1;
                bench.bad(Failure::Code(16, None));
            }
            _ => bench.good(false, &tps(&[])),
        }
    }
    assert!((20..=80).contains(&asked), "{asked} tries in 30 s");
}

#[test]
fn the_leader_sees_topics_grow_and_nobody_else_asks() {
    let mut bench = Bench::new(config());
    bench.settle(&[0, 1]);
    bench.now += COUNTS;
    bench.poll();
    assert!(bench.counting.is_some(), "the leader asks");
    bench.answer_counts(Ok(4));
    assert!(bench.request != Some(Request::Join), "nothing has changed");
    bench.now += COUNTS;
    bench.poll();
    if bench.request.is_some() {
        bench.good(true, &tps(&[]));
    }
    bench.answer_counts(Err(()));
    assert!(bench.request != Some(Request::Join), "not known is not changed");
    bench.now += COUNTS;
    bench.poll();
    if bench.request.is_some() {
        bench.good(true, &tps(&[]));
    }
    bench.answer_counts(Ok(6));
    if bench.request == Some(Request::Heartbeat) {
        bench.good(true, &tps(&[]));
    }
    assert_eq!(bench.request, Some(Request::Join));

    let mut follower = Bench::new(config());
    while follower.until_request() != Request::Heartbeat {
        follower.good(false, &tps(&[0]));
    }
    for _ in 0..20 {
        follower.now += COUNTS;
        follower.poll();
        assert!(follower.counting.is_none());
        if follower.request.is_some() {
            follower.good(false, &tps(&[0]));
        }
    }
}

#[test]
fn counts_asked_for_before_the_groups_topics_changed_decide_nothing() {
    let mut bench = Bench::new(config());
    bench.settle(&[0, 1]);
    bench.now += COUNTS;
    bench.poll();
    let asked = bench.counting.clone().expect("the leader asks");
    // While that is under way a member with another topic joins.
    bench.reach_with_counts_open();
    let mut reply = bench.join_reply(true);
    let both: BTreeSet<Arc<str>> = [Arc::from("a"), Arc::from("b")].into();
    reply.members[0].subscription.topics = both.clone();
    bench.request = None;
    bench.between = true;
    let actions = bench.machine.joined(bench.now, Ok(reply));
    bench.take(&actions);
    assert_eq!(bench.counting, Some(asked), "still the old question");
    bench.answer_counts(Ok(4));
    assert_eq!(bench.request, None, "nothing is decided on it");
    assert_eq!(bench.counting, Some(both), "but asked anew");
    bench.answer_counts(Ok(4));
    assert_eq!(bench.request, Some(Request::Sync));
}

#[test]
fn leaving_tells_the_group_but_a_static_member_only_for_good() {
    let mut bench = Bench::new(config());
    bench.settle(&[0]);
    assert!(matches!(bench.leave(false)[..], [Action::Leave { .. }]));

    let static_config = Config { instance_id: Some("i1".into()), ..config() };
    let mut bench = Bench::new(static_config.clone());
    bench.settle(&[0]);
    assert_eq!(bench.leave(false), vec![]);
    let mut bench = Bench::new(static_config);
    bench.settle(&[0]);
    assert!(matches!(bench.leave(true)[..], [Action::Leave { .. }]));

    let mut unborn = Bench::new(config());
    assert_eq!(unborn.leave(true), vec![], "nobody knows it yet");
}

#[test]
fn a_static_leader_whose_assignment_was_kept_does_not_decide() {
    let mut bench = Bench::new(config());
    bench.reach(Request::Join, &[]);
    let reply = JoinReply { skip_assignment: true, ..bench.join_reply(true) };
    bench.request = None;
    bench.between = true;
    let actions = bench.machine.joined(bench.now, Ok(reply));
    bench.take(&actions);
    assert_eq!(bench.request, Some(Request::Sync));
    assert!(bench.counting.is_none());
    bench.good(true, &tps(&[3]));
    assert_eq!(bench.held(), tps(&[3]));
}

#[test]
fn an_idle_member_sends_one_heartbeat_an_interval() {
    let mut bench = Bench::new(config());
    bench.settle(&[0]);
    let start = bench.now;
    let mut sent = 0;
    while bench.now < start + HEARTBEAT * 10 {
        assert_eq!(bench.until_request(), Request::Heartbeat);
        sent += 1;
        bench.good(true, &tps(&[0]));
    }
    assert!((9..=11).contains(&sent), "{sent}");
}

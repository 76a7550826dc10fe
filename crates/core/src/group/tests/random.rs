//! Histories by chance.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

use super::{
    bench::{Bench, Request},
    config, first_seed, steps, tps,
};
use crate::group::Failure;

#[derive(Debug, Clone)]
enum Event {
    Good { leading: bool, assigned: BTreeSet<i32> },
    Code(i16, bool),
    Transport,
    Counts(Option<i32>),
    Advance(u64),
    Drained(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let code = prop_oneof![
        2 => -2..140_i16,
        3 => prop::sample::select(vec![-1_i16, 7, 14, 15, 16, 22, 25, 27, 79, 89, 111]),
    ];
    prop_oneof![
        12 => (any::<bool>(), prop::collection::btree_set(0..5_i32, 0..5))
            .prop_map(|(leading, assigned)| Event::Good { leading, assigned }),
        2 => (code, any::<bool>()).prop_map(|(code, with_id)| Event::Code(code, with_id)),
        1 => Just(Event::Transport),
        4 => prop::option::weighted(0.8, 0..6_i32).prop_map(Event::Counts),
        6 => prop_oneof![0..200_u64, 1_000..70_000_u64].prop_map(Event::Advance),
        4 => (1..8_u64).prop_map(Event::Drained),
    ]
}

fn happen(bench: &mut Bench, event: Event) {
    match event {
        Event::Good { leading, assigned } if bench.request.is_some() => {
            let assigned: Vec<i32> = assigned.into_iter().collect();
            bench.good(leading, &tps(&assigned));
        }
        Event::Code(code, with_id) if bench.request.is_some() && code != 0 => {
            bench.bad(Failure::Code(code, with_id.then(|| "from-broker".into())));
        }
        Event::Transport if bench.request.is_some() => bench.bad(Failure::Transport("cut".into())),
        Event::Counts(counts) if bench.counting.is_some() => bench.answer_counts(counts.ok_or(())),
        Event::Advance(ms) => {
            bench.now += Duration::from_millis(ms);
            // Drains that are overdue are told as lost, which the consumer hears; nothing else is known to it.
            bench.poll();
        }
        Event::Drained(drain) => bench.drained(drain),
        _ => bench.poll(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_answered_the_rules_hold(events in prop::collection::vec(event(), 1..120), leaves: bool) {
        let mut bench = Bench::new(config());
        for event in events {
            if bench.machine.is_over() {
                // Late answers and polls change nothing.
                prop_assert_eq!(bench.machine.poll(bench.now), vec![]);
                prop_assert_eq!(bench.machine.heartbeat(bench.now, Ok(())), vec![]);
                prop_assert_eq!(bench.machine.counts(bench.now, Ok(BTreeMap::new())), vec![]);
                break;
            }
            happen(&mut bench, event);
        }
        if leaves && !bench.machine.is_over() {
            bench.leave(true);
            prop_assert!(bench.machine.is_over());
        }
    }

    /// After any history that did not end it, a member under good answers gets back into its group.
    #[test]
    fn it_always_comes_back(events in prop::collection::vec(event(), 1..60)) {
        let mut bench = Bench::new(config());
        for event in events {
            if !bench.machine.is_over() {
                happen(&mut bench, event);
            }
        }
        comes_back(&mut bench);
    }
}

/// The codes that mean something to a member.
const CODES: [i16; 14] = [-1, 7, 13, 14, 15, 16, 22, 25, 27, 35, 79, 82, 89, 111];

fn any_event(rng: &mut impl Rng) -> Event {
    match rng.random_range(0..32) {
        0..12 => {
            let count = rng.random_range(0..5);
            let assigned = (0..count).map(|_| rng.random_range(0..5)).collect();
            Event::Good { leading: rng.random(), assigned }
        }
        12..15 => {
            let fatal = rng.random_ratio(1, 20);
            let code = if fatal { rng.random_range(-2..140) } else { CODES[rng.random_range(0..CODES.len())] };
            Event::Code(code, rng.random())
        }
        15 => Event::Transport,
        16..20 => Event::Counts(rng.random_bool(0.8).then(|| rng.random_range(0..6))),
        20..24 => Event::Advance(rng.random_range(0..200)),
        24..26 => Event::Advance(rng.random_range(1_000..70_000)),
        _ => Event::Drained(rng.random_range(1..8)),
    }
}

/// Long lives: after each the member comes back, or is over for good and says nothing more.
#[test]
fn through_any_life_the_rules_hold() {
    let (most, mut seed, mut done) = (steps(120_000), first_seed(), 0);
    println!("first seed {seed}, {most} steps");
    while done < most {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut bench = Bench::new(config());
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut lived = 0;
            for _ in 0..rng.random_range(1..500) {
                lived += 1;
                if bench.machine.is_over() {
                    assert_eq!(bench.machine.poll(bench.now), vec![]);
                    return lived;
                }
                happen(&mut bench, any_event(&mut rng));
            }
            comes_back(&mut bench);
            lived
        }));
        match result {
            Ok(lived) => done += lived,
            Err(panic) => {
                eprintln!("seed {seed}: {bench:?}");
                std::panic::resume_unwind(panic);
            }
        }
        seed += 1;
    }
}

/// Under good answers it gets back into its group and holds what it is given.
fn comes_back(bench: &mut Bench) {
    if bench.machine.is_over() {
        return;
    }
    bench.reach(Request::Heartbeat, &[0, 1]);
    bench.bad(Failure::Code(27, None));
    bench.settle(&[0, 1]);
    let drains: Vec<u64> = bench.consumer.drains.keys().copied().collect();
    drains.into_iter().for_each(|d| bench.drained(d));
    bench.settle(&[0, 1]);
    assert_eq!(bench.held(), tps(&[0, 1]));
    assert!(bench.machine.can_commit());
}

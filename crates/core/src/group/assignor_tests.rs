//! A simulated group: members come, go, are lost, miss their assignment and drain slowly, and nobody ever holds what
//! another holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::{prelude::*, sample::Index};

use super::{Member, Subscription, TopicPartition, assign};

type Set = BTreeSet<TopicPartition>;

fn topics(names: &[&str]) -> BTreeSet<Arc<str>> {
    names.iter().map(|n| Arc::from(*n)).collect()
}

fn counts(list: &[(&str, i32)]) -> BTreeMap<Arc<str>, i32> {
    list.iter().map(|(t, c)| (Arc::from(*t), *c)).collect()
}

fn tps(list: &[(&str, i32)]) -> Set {
    list.iter().map(|(t, p)| TopicPartition::new(*t, *p)).collect()
}

fn member(id: &str, names: &[&str], owned: Set, generation: i32) -> Member {
    let subscription = Subscription { topics: topics(names), owned, generation };
    Member { member_id: id.into(), instance_id: None, subscription }
}

#[derive(Debug, Clone)]
struct Node {
    topics: BTreeSet<Arc<str>>,
    working: Set,
    draining: Set,
    generation: i32,
}

impl Node {
    fn holds(&self) -> Set {
        self.working.union(&self.draining).cloned().collect()
    }
}

/// A group as brokers and members would make it.
#[derive(Debug)]
struct Group {
    nodes: BTreeMap<String, Node>,
    counts: BTreeMap<Arc<str>, i32>,
    generation: i32,
    born: u32,
}

/// How one rebalance goes for a member.
#[derive(Debug, Clone, Copy)]
struct Luck {
    misses_assignment: bool,
    drains_at_once: bool,
}

const LUCKY: Luck = Luck { misses_assignment: false, drains_at_once: true };

impl Group {
    fn new(counts: BTreeMap<Arc<str>, i32>) -> Self {
        Self { nodes: BTreeMap::new(), counts, generation: 0, born: 0 }
    }

    fn join(&mut self, topics: BTreeSet<Arc<str>>) -> String {
        self.born += 1;
        // Ids of a coordinator are in no order.
        let id = format!("{}-{}", (self.born * 7919) % 97, self.born);
        let node = Node { topics, working: Set::new(), draining: Set::new(), generation: -1 };
        self.nodes.insert(id.clone(), node);
        id
    }

    fn members(&self) -> Vec<Member> {
        let member = |(id, n): (&String, &Node)| Member {
            member_id: id.clone(),
            instance_id: None,
            subscription: Subscription { topics: n.topics.clone(), owned: n.holds(), generation: n.generation },
        };
        self.nodes.iter().map(member).collect()
    }

    /// One rebalance. Returns whether anybody has to join again.
    fn rebalance(&mut self, luck: impl Fn(usize) -> Luck) -> bool {
        self.generation += 1;
        let assigned = assign(&self.members(), &self.counts);
        let mut again = false;
        for (place, (id, node)) in self.nodes.iter_mut().enumerate() {
            let luck = luck(place);
            node.generation = self.generation;
            let mine = &assigned[id];
            if luck.misses_assignment {
                again = true;
                continue;
            }
            let gone: Set = node.working.difference(mine).cloned().collect();
            node.working = mine.difference(&node.draining).cloned().collect();
            node.draining.extend(gone);
            if luck.drains_at_once {
                again |= !node.draining.is_empty();
                let back: Set = node.draining.intersection(mine).cloned().collect();
                node.working.extend(back);
                node.draining.clear();
            } else {
                again |= !node.draining.is_empty();
            }
        }
        self.nobody_shares();
        again
    }

    fn settle(&mut self) {
        for _ in 0..6 {
            if !self.rebalance(|_| LUCKY) {
                return;
            }
        }
        panic!("the group rebalances for ever: {self:?}");
    }

    fn nobody_shares(&self) {
        let mut owners: BTreeMap<TopicPartition, &str> = BTreeMap::new();
        for (id, node) in &self.nodes {
            for tp in node.holds() {
                let other = owners.insert(tp.clone(), id);
                assert_eq!(other, None, "{tp} belongs to {id} as well");
            }
        }
    }

    /// In a settled group everything wanted has an owner that wants it, and loads differ by one at most.
    fn is_complete_and_balanced(&self) {
        let mut classes: BTreeMap<(i32, Vec<&String>), BTreeSet<&Arc<str>>> = BTreeMap::new();
        for (topic, count) in &self.counts {
            let who: Vec<&String> = self.nodes.iter().filter(|(_, n)| n.topics.contains(topic)).map(|n| n.0).collect();
            if !who.is_empty() {
                classes.entry((*count, who)).or_default().insert(topic);
            }
        }
        for ((count, who), topics) in classes {
            let mut total = 0;
            let mut loads = Vec::new();
            for id in who {
                let units: BTreeSet<i32> = self.nodes[id]
                    .working
                    .iter()
                    .filter(|tp| topics.contains(&tp.topic))
                    .map(|tp| tp.partition)
                    .collect();
                for topic in &topics {
                    let of_topic: BTreeSet<i32> =
                        self.nodes[id].working.iter().filter(|tp| tp.topic == **topic).map(|tp| tp.partition).collect();
                    assert_eq!(of_topic, units, "topics that are joined lie in one process");
                }
                total += units.len();
                loads.push(units.len());
            }
            assert_eq!(total, usize::try_from(count).unwrap(), "each partition has one owner");
            let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
            assert!(most - least <= 1, "{loads:?}");
        }
    }

    fn working(&self) -> BTreeMap<String, Set> {
        self.nodes.iter().map(|(id, n)| (id.clone(), n.working.clone())).collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Join { all_topics: bool },
    Leave(Index),
    Lose(Index),
    Grow(Index, i32),
    Rebalance { misses: u8, drains: u8 },
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<bool>().prop_map(|all_topics| Step::Join { all_topics }),
        2 => any::<Index>().prop_map(Step::Leave),
        2 => any::<Index>().prop_map(Step::Lose),
        1 => (any::<Index>(), 1..4_i32).prop_map(|(topic, by)| Step::Grow(topic, by)),
        6 => (any::<u8>(), any::<u8>()).prop_map(|(misses, drains)| Step::Rebalance { misses, drains }),
        2 => Just(Step::Settle),
    ]
}

fn act(group: &mut Group, step: &Step) {
    let pick = |group: &Group, index: &Index| {
        (!group.nodes.is_empty()).then(|| group.nodes.keys().nth(index.index(group.nodes.len())).unwrap().clone())
    };
    match step {
        Step::Join { all_topics: true } => drop(group.join(topics(&["a", "b", "c"]))),
        Step::Join { all_topics: false } => drop(group.join(topics(&["a", "b"]))),
        Step::Leave(index) => {
            if let Some(id) = pick(group, index) {
                group.nodes.remove(&id);
            }
        }
        Step::Lose(index) => {
            if let Some(node) = pick(group, index).and_then(|id| group.nodes.get_mut(&id)) {
                (node.working, node.draining, node.generation) = (Set::new(), Set::new(), -1);
            }
        }
        Step::Grow(index, by) => {
            let topic = group.counts.keys().nth(index.index(group.counts.len())).unwrap().clone();
            *group.counts.get_mut(&topic).unwrap() += by;
        }
        Step::Rebalance { misses, drains } => {
            let bit = |byte: u8, place: usize| byte & (1 << (place % 8)) != 0;
            let luck = |place| Luck { misses_assignment: bit(*misses, place), drains_at_once: bit(*drains, place) };
            group.rebalance(luck);
        }
        Step::Settle => {
            group.settle();
            group.is_complete_and_balanced();
        }
    }
    group.nobody_shares();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn never_two_owners_and_always_balanced_in_the_end(steps in prop::collection::vec(step(), 1..40)) {
        let mut group = Group::new(counts(&[("a", 4), ("b", 4), ("c", 3)]));
        for step in &steps {
            act(&mut group, step);
        }
        group.settle();
        group.is_complete_and_balanced();
        let settled = group.working();
        prop_assert!(!group.rebalance(|_| LUCKY), "a settled group stays settled");
        prop_assert_eq!(group.working(), settled);
    }

    #[test]
    fn a_member_that_joins_moves_only_what_it_gets(members in 1..7_usize, partitions in 1..30_i32) {
        let mut group = Group::new(counts(&[("a", partitions)]));
        (0..members).for_each(|_| drop(group.join(topics(&["a"]))));
        group.settle();
        let before = group.working();
        let new = group.join(topics(&["a"]));
        group.settle();
        for (id, had) in before {
            let has = &group.nodes[&id].working;
            prop_assert!(has.is_subset(&had), "{} got something of another old member", id);
        }
        let fair = usize::try_from(partitions).unwrap() / (members + 1);
        prop_assert_eq!(group.nodes[&new].working.len(), fair);
    }

    #[test]
    fn a_member_that_leaves_takes_nothing_from_the_others(members in 2..7_usize, partitions in 1..30_i32, who: Index) {
        let mut group = Group::new(counts(&[("a", partitions)]));
        (0..members).for_each(|_| drop(group.join(topics(&["a"]))));
        group.settle();
        let gone = group.nodes.keys().nth(who.index(members)).unwrap().clone();
        group.nodes.remove(&gone);
        let before = group.working();
        group.settle();
        group.is_complete_and_balanced();
        for (id, had) in before {
            prop_assert!(had.is_subset(&group.nodes[&id].working), "{} lost something for no reason", id);
        }
    }

    /// Claims of any kind, contradicting ones and ones to what nobody subscribes to included.
    #[test]
    fn what_somebody_claims_is_given_to_nobody_else(
        claims in prop::collection::vec((prop::collection::btree_set((0..3_usize, 0..6_i32), 0..8), -1..3_i32), 1..6),
    ) {
        const NAMES: [&str; 3] = ["a", "b", "gone"];
        let members: Vec<Member> = claims
            .iter()
            .enumerate()
            .map(|(i, (owned, generation))| {
                let owned = owned.iter().map(|(t, p)| TopicPartition::new(NAMES[*t], *p)).collect();
                member(&format!("m{i}"), &["a", "b"], owned, *generation)
            })
            .collect();
        let given = assign(&members, &counts(&[("a", 4), ("b", 5)]));
        prop_assert_eq!(given.len(), members.len(), "every member has an entry");
        let mut seen = Set::new();
        for m in &members {
            for tp in &given[&m.member_id] {
                prop_assert!(seen.insert(tp.clone()), "{} is given twice", tp);
                let latest = members.iter().filter(|o| o.subscription.owned.contains(tp)).map(|o| o.subscription.generation).max();
                let other = members.iter().find(|o| {
                    o.member_id != m.member_id && o.subscription.owned.contains(tp) && Some(o.subscription.generation) == latest
                });
                prop_assert!(other.is_none(), "{} is {}'s, and given to {}", tp, other.unwrap().member_id, m.member_id);
            }
        }
        let mut shuffled = members;
        shuffled.reverse();
        prop_assert_eq!(assign(&shuffled, &counts(&[("a", 4), ("b", 5)])), given, "the order of members says nothing");
    }
}

#[test]
fn a_static_member_keeps_its_place_under_a_new_id() {
    let with_instance =
        |id: &str, instance: &str, owned| Member { instance_id: Some(instance.into()), ..member(id, &["a"], owned, 3) };
    let counts = counts(&[("a", 5)]);
    let first = assign(&[with_instance("zz", "i1", Set::new()), with_instance("aa", "i2", Set::new())], &counts);
    let second = assign(&[with_instance("00", "i1", Set::new()), with_instance("aa", "i2", Set::new())], &counts);
    assert_eq!(first["zz"], second["00"]);
    assert_eq!(first["aa"], second["aa"]);
}

#[test]
fn a_newer_claim_beats_an_older_one() {
    let older = member("old", &["a"], tps(&[("a", 0)]), 1);
    let newer = member("new", &["a"], tps(&[("a", 0)]), 2);
    let given = assign(&[older, newer], &counts(&[("a", 2)]));
    assert_eq!(given["new"], tps(&[("a", 0)]));
    assert_eq!(given["old"], tps(&[("a", 1)]));
}

#[test]
fn topics_that_do_not_exist_and_members_without_topics_are_no_trouble() {
    let given =
        assign(&[member("m", &["nowhere"], Set::new(), -1), member("n", &[], Set::new(), -1)], &counts(&[("a", 3)]));
    assert_eq!(given, BTreeMap::from([("m".into(), Set::new()), ("n".into(), Set::new())]));
    assert_eq!(assign(&[], &counts(&[("a", 3)])), BTreeMap::new());
    let given = assign(&[member("m", &["a"], Set::new(), -1)], &counts(&[("a", -1)]));
    assert_eq!(given["m"], Set::new());
}

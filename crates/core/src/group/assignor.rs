//! Who gets which partition: sticky, balanced, cooperative, and joined topics together.
//!
//! Topics with the same number of partitions and the same subscribers form a class; partition *n* of all topics
//! of a class is one unit and goes to one member, so that a join finds both sides in one process.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::TopicPartition;

/// What a member says when it joins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subscription {
    /// The topics it wants.
    pub topics: BTreeSet<Arc<str>>,
    /// The partitions it claims: working on them, or still draining them.
    pub owned: BTreeSet<TopicPartition>,
    /// The generation in which it got them (KIP-792); -1 if it does not say.
    pub generation: i32,
}

/// A member, as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The id the coordinator gave.
    pub member_id: String,
    /// `group.instance.id`, if static.
    pub instance_id: Option<String>,
    /// What it said.
    pub subscription: Subscription,
}

impl Member {
    /// The order of members: a static member keeps its place when its member id changes.
    fn order(&self) -> (&str, &str) {
        (self.instance_id.as_deref().unwrap_or(&self.member_id), &self.member_id)
    }
}

/// Members are known by their place in [`Member::order`] here.
type Place = usize;
/// Topics that are assigned together: their number of partitions and their subscribers.
type Class = (i32, Vec<Place>);

/// Assigns all partitions of all subscribed topics, given the number of partitions of each topic.
///
/// Deterministic in its input, whatever the order of `members`. Within a class nobody gets more than one unit more
/// than another. A partition that another member claims is given to nobody: its owner drains it, joins again, and
/// the next generation hands it over. Every member has an entry.
pub fn assign(members: &[Member], partitions: &BTreeMap<Arc<str>, i32>) -> BTreeMap<String, BTreeSet<TopicPartition>> {
    let mut members: Vec<&Member> = members.iter().collect();
    members.sort_by_key(|m| m.order());
    let claims = Claims::new(&members);
    let mut load = vec![0; members.len()];
    let mut given: Vec<BTreeSet<TopicPartition>> = vec![BTreeSet::new(); members.len()];
    for ((count, subscribers), topics) in classes(&members, partitions) {
        let sticky = |unit| claims.owner_of_unit(&topics, unit, &subscribers);
        let owners = spread(count, &subscribers, &load, sticky);
        for (unit, owner) in owners {
            load[owner] += topics.len();
            let tps = topics.iter().map(|topic| TopicPartition::new(topic.clone(), unit));
            given[owner].extend(tps.filter(|tp| claims.is_free_for(tp, owner)));
        }
    }
    members.iter().zip(given).map(|(member, tps)| (member.member_id.clone(), tps)).collect()
}

fn classes(members: &[&Member], partitions: &BTreeMap<Arc<str>, i32>) -> BTreeMap<Class, Vec<Arc<str>>> {
    let mut classes: BTreeMap<Class, Vec<Arc<str>>> = BTreeMap::new();
    for (topic, count) in partitions {
        let subscribes = |place: &Place| members[*place].subscription.topics.contains(topic);
        let subscribers: Vec<Place> = (0..members.len()).filter(subscribes).collect();
        if *count > 0 && !subscribers.is_empty() {
            classes.entry((*count, subscribers)).or_default().push(topic.clone());
        }
    }
    classes
}

/// Gives each of `count` units an owner among `subscribers`.
fn spread(
    count: i32,
    subscribers: &[Place],
    load: &[usize],
    sticky: impl Fn(i32) -> Option<Place>,
) -> BTreeMap<i32, Place> {
    let units = usize::try_from(count).unwrap_or(0);
    let (quota, mut extras) = (units / subscribers.len(), units % subscribers.len());
    let mut held: BTreeMap<Place, Vec<i32>> = subscribers.iter().map(|place| (*place, Vec::new())).collect();
    for unit in 0..count {
        if let Some(units) = sticky(unit).and_then(|owner| held.get_mut(&owner)) {
            units.push(unit);
        }
    }
    // Who holds more than the quota may keep one more while there are such; the rest is let go, highest first.
    // Those who do the least elsewhere keep first.
    let mut over: Vec<Place> = held.iter().filter(|(_, units)| units.len() > quota).map(|(place, _)| *place).collect();
    over.sort_by_key(|place| (load[*place], *place));
    for place in over {
        let keep = if extras > 0 { quota + 1 } else { quota };
        extras = extras.saturating_sub(1);
        if let Some(units) = held.get_mut(&place) {
            units.truncate(keep);
        }
    }
    let mut owners: BTreeMap<i32, Place> =
        held.iter().flat_map(|(place, units)| units.iter().map(|unit| (*unit, *place))).collect();
    for unit in 0..count {
        if owners.contains_key(&unit) {
            continue;
        }
        let least = held.iter_mut().min_by_key(|(place, units)| (units.len(), load[**place], **place));
        if let Some((place, units)) = least {
            units.push(unit);
            owners.insert(unit, *place);
        }
    }
    owners
}

/// Who claims what. Of two claims the later generation's counts; the older one is of a member that missed a
/// rebalance, and is told so by its assignment.
struct Claims(BTreeMap<TopicPartition, (i32, BTreeSet<Place>)>);

impl Claims {
    fn new(members: &[&Member]) -> Self {
        let mut claims: BTreeMap<TopicPartition, (i32, BTreeSet<Place>)> = BTreeMap::new();
        for (place, member) in members.iter().enumerate() {
            let generation = member.subscription.generation;
            for tp in &member.subscription.owned {
                let claim = claims.entry(tp.clone()).or_insert((generation, BTreeSet::new()));
                if generation > claim.0 {
                    *claim = (generation, BTreeSet::new());
                }
                if generation == claim.0 {
                    claim.1.insert(place);
                }
            }
        }
        Self(claims)
    }

    /// Whether nobody else claims a partition.
    fn is_free_for(&self, tp: &TopicPartition, place: Place) -> bool {
        self.0.get(tp).is_none_or(|(_, claimants)| claimants.iter().all(|claimant| *claimant == place))
    }

    /// The subscriber that owns most of a unit; nobody where claims contradict each other.
    fn owner_of_unit(&self, topics: &[Arc<str>], unit: i32, subscribers: &[Place]) -> Option<Place> {
        let mut votes: BTreeMap<Place, usize> = BTreeMap::new();
        for topic in topics {
            let Some((_, claimants)) = self.0.get(&TopicPartition::new(topic.clone(), unit)) else { continue };
            if let (1, Some(owner)) = (claimants.len(), claimants.first()) {
                *votes.entry(*owner).or_default() += 1;
            }
        }
        votes.retain(|place, _| subscribers.contains(place));
        votes.into_iter().max_by_key(|(place, votes)| (*votes, std::cmp::Reverse(*place))).map(|(place, _)| place)
    }
}

//! The steps of plans, held once for all cases that have the same ones: a topology plans few different shapes.

use std::collections::{BTreeSet, HashMap, hash_map::DefaultHasher};
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use anabranch_protocol::Step;

/// Shapes that are held before those that no case has any more are let go.
const FIRST_SWEEP: usize = 64;

/// The shapes in use.
#[derive(Debug)]
pub(super) struct Shapes {
    shapes: HashMap<u64, Vec<Arc<[Step]>>>,
    held: usize,
    sweep_at: usize,
}

/// A step that is not a [`Step`] yet, so that looking a shape up allocates nothing.
pub(super) trait Like {
    fn is(&self, step: &Step) -> bool;
    fn hash(&self, hasher: &mut DefaultHasher);
    fn step(&self) -> Step;
}

impl Like for Step {
    fn is(&self, step: &Step) -> bool {
        self == step
    }

    fn hash(&self, hasher: &mut DefaultHasher) {
        hash_step(hasher, &self.agent, self.required, &self.after, self.version.as_deref());
    }

    fn step(&self) -> Step {
        self.clone()
    }
}

pub(super) fn hash_step<A: AsRef<str>>(
    hasher: &mut DefaultHasher,
    agent: &str,
    required: bool,
    after: &[A],
    version: Option<&str>,
) {
    agent.hash(hasher);
    required.hash(hasher);
    after.len().hash(hasher);
    after.iter().for_each(|a| a.as_ref().hash(hasher));
    version.hash(hasher);
}

impl Shapes {
    pub(super) fn new() -> Self {
        Self { shapes: HashMap::new(), held: 0, sweep_at: FIRST_SWEEP }
    }

    /// The shape with these steps. An agent has one step in a plan: of several, the first counts.
    pub(super) fn get<L: Like>(&mut self, steps: &[L]) -> Arc<[Step]> {
        let mut hasher = DefaultHasher::new();
        steps.iter().for_each(|step| step.hash(&mut hasher));
        let same = |shape: &Arc<[Step]>| {
            shape.len() == steps.len() && steps.iter().zip(shape.iter()).all(|(like, step)| like.is(step))
        };
        let hash = hasher.finish();
        if let Some(shape) = self.shapes.get(&hash).and_then(|held| held.iter().find(|s| same(s))) {
            return shape.clone();
        }
        let mut agents = BTreeSet::new();
        let distinct = steps.iter().map(Like::step).filter(|step| agents.insert(step.agent.clone()));
        let shape: Arc<[Step]> = distinct.collect();
        self.sweep();
        self.shapes.entry(hash).or_default().push(shape.clone());
        self.held += 1;
        shape
    }

    fn sweep(&mut self) {
        if self.held < self.sweep_at {
            return;
        }
        for held in self.shapes.values_mut() {
            held.retain(|shape| Arc::strong_count(shape) > 1);
        }
        self.shapes.retain(|_, held| !held.is_empty());
        self.held = self.shapes.values().map(Vec::len).sum();
        self.sweep_at = (self.held * 2).max(FIRST_SWEEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(agent: &str) -> Step {
        Step { agent: agent.into(), required: true, after: vec![], sees: None, version: None }
    }

    #[test]
    fn equal_steps_are_held_once_and_let_go_when_no_case_has_them() {
        let mut shapes = Shapes::new();
        let kept = shapes.get(&[step("a"), step("b")]);
        assert!(Arc::ptr_eq(&kept, &shapes.get(&[step("a"), step("b")])));
        assert!(!Arc::ptr_eq(&kept, &shapes.get(&[step("b"), step("a")])));
        assert_eq!(shapes.get(&[step("a"), step("a")]).len(), 1, "an agent has one step");
        for n in 0..10_000 {
            let _ = shapes.get(&[step(&n.to_string())]);
        }
        assert!(shapes.held <= 2 * FIRST_SWEEP, "{}", shapes.held);
        assert!(Arc::ptr_eq(&kept, &shapes.get(&[step("a"), step("b")])), "what a case has stays");
    }
}

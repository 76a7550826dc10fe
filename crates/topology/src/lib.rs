//! topics.yaml to a validated topology. Pure.

mod model;

pub use model::*;

//! topics.yaml to a validated topology. Pure.

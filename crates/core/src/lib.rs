//! Decisions without I/O: frontier, key order, retry, join, deadlines, group membership.

pub mod group;

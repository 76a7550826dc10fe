//! Harness for agents, fault injection, broker fixtures, assertions.

//! The wire contract: ids, envelope, headers, Task, Partial, Plan, Outcome.

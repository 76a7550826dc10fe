//! What this crate promises, shown against brokers.
//!
//! One suite, each case under several profiles of what the broker offers, through a proxy that can cut, silence,
//! lose answers and hide versions. It runs against the embedded broker, or with `ANABRANCH_TEST_KAFKA=host:port`
//! against that one (`tests/kafka/start.sh` starts an Apache Kafka).
//!
//! ```text
//! cargo test -p anabranch-kafka --test conformance                    # all
//! cargo test -p anabranch-kafka --test conformance -- redpanda::group # some
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to say what must be
#![allow(missing_docs, unreachable_pub)] // nobody else's API

mod admin;
mod commit;
mod fetch;
mod group;
mod member;
mod outage;
mod produce;
mod raw;
mod recovery;
mod transaction;
mod txn;
mod world;

use std::{process::ExitCode, time::Duration};

use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Trial};

use world::{Profile, World};

/// No case takes this long unless something hangs.
const CASE_LIMIT: Duration = Duration::from_secs(100);
/// Most cases wait most of the time.
const CASES_AT_ONCE: usize = 10;

/// A case: its name, and what it does in a world of its own.
pub type Case = (&'static str, fn(World) -> BoxFuture<'static, ()>);

/// Lists the cases of a module by name.
#[macro_export]
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub const CASES: &[$crate::Case] = &[$((stringify!($name), |world| Box::pin($name(world)))),*];
    };
}

fn run(profile: Profile, case: fn(World) -> BoxFuture<'static, ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async move {
        let world = World::new(profile).await;
        tokio::time::timeout(CASE_LIMIT, case(world)).await.expect("the case hangs");
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(CASES_AT_ONCE);
    let modules = [
        ("admin", admin::CASES),
        ("produce", produce::CASES),
        ("fetch", fetch::CASES),
        ("group", group::CASES),
        ("commit", commit::CASES),
        ("outage", outage::CASES),
        ("recovery", recovery::CASES),
        ("transaction", transaction::CASES),
        ("transaction::faults", transaction::faults::CASES),
        ("transaction::groups", transaction::groups::CASES),
    ];
    let mut trials = Vec::new();
    for profile in [Profile::Full, Profile::Redpanda, Profile::Oldest, Profile::Two] {
        // The other modules have nothing to do with what is special about this profile.
        for (module, cases) in
            modules.into_iter().filter(|(m, _)| profile != Profile::Two || m.starts_with("transaction"))
        {
            for (name, case) in cases {
                let name = format!("{profile}::{module}::{name}");
                trials.push(Trial::test(name, move || {
                    run(profile, *case);
                    Ok(())
                }));
            }
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

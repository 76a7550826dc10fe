//! What is done with a text from outside before a model is asked: the search for instructions in it.
//!
//! `cargo bench -p anabranch-bench --bench outside`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot run says so by a panic")]

use std::hint::black_box;

use anabranch_sdk::prompt::injection;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

/// What is printed on the passport of `kyc/request.json`.
const PASSPORT: &str = "UTOPIA PASSPORT. QUILLER, DORIAN. Date of issue 30 SEP 2023. Authority: Port Nowhere.";

/// Words of what rules look for, in an order that says nothing: every text anew, so that none finds the last one's way.
const WORDS: [&str; 16] = [
    "the", "document", "has", "been", "system", "open", "account", "check", "valid", "report", "of", "rules", "you",
    "verified", "output", "bank",
];

fn mixed(seed: &mut u64, bytes: usize) -> String {
    let mut text = String::new();
    while text.len() < bytes {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(WORDS[usize::try_from(*seed >> 60).unwrap()]);
        text.push(' ');
    }
    text
}

fn search(c: &mut Criterion) {
    let mut group = c.benchmark_group("outside");
    group.throughput(Throughput::Elements(1));
    group.bench_function("scan a passport", |b| b.iter(|| injection::scan(black_box(PASSPORT))));
    group.bench_function("a passport without instructions", |b| b.iter(|| injection::without(black_box(PASSPORT))));
    let mut seed = 1;
    group.bench_function("scan 200 bytes of words that rules look for", |b| {
        b.iter_batched(|| mixed(&mut seed, 200), |text| injection::scan(&text), BatchSize::SmallInput);
    });
    group.finish();
}

criterion_group!(benches, search);
criterion_main!(benches);

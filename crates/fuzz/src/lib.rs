//! Fuzz targets that run on stable, in `cargo test`, for a bounded time, and for longer by hand. For tests only: it counts
//! allocations.
//!
//! A target is a closure over bytes. It is given mutations of a corpus, so that most inputs get past the first length, and
//! some noise. It fails if it panics, or if it holds more memory at one time than it is allowed for an input of that
//! size. What fails is printed with its seed, its number and its bytes:
//!
//! ```text
//! ANABRANCH_FUZZ_SECONDS=600 ANABRANCH_FUZZ_SEED=42 cargo test -p anabranch-wire untrusted -- --nocapture
//! ANABRANCH_FUZZ_SEED=42 ANABRANCH_FUZZ_ONLY=1234 cargo test -p anabranch-wire untrusted -- --nocapture
//! ```
//!
//! | variable | meaning |
//! |---|---|
//! | `ANABRANCH_FUZZ_SEED` | the run's seed; the same seed gives the same inputs. 1 by default |
//! | `ANABRANCH_FUZZ_SECONDS` | how long each target runs, instead of a number of inputs |
//! | `ANABRANCH_FUZZ_ONLY` | the number of the one input to try |
//! | `ANABRANCH_FUZZ_LAST` | a file that gets each input before it is tried: for what ends the process, such as a stack overflow |
//!
//! Memory that C libraries take (zstd, lz4) is not counted.

mod mutation;

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    str::FromStr,
    time::{Duration, Instant},
};

pub use allocation_counter::{AllocationInfo, measure};
pub use mutation::mutate;
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// How long a target runs when it is not told, at most.
const USUAL_TIME: Duration = Duration::from_secs(2);
/// How many inputs a target gets when it is not told, at most.
const USUAL_INPUTS: u64 = 20_000;

/// A target: its inputs, and what it may use.
pub struct Fuzz {
    name: &'static str,
    corpus: Vec<Vec<u8>>,
    factor: u64,
    floor_bytes: u64,
}

impl Fuzz {
    /// A target without a corpus that may allocate 64 KiB and 64 times its input.
    pub fn new(name: &'static str) -> Self {
        Self { name, corpus: Vec::new(), factor: 64, floor_bytes: 64 << 10 }
    }

    /// Good inputs, to be tried as they are and then mutated.
    #[must_use]
    pub fn corpus(mut self, corpus: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        self.corpus.extend(corpus.into_iter().map(Into::into));
        self
    }

    /// The most it may hold at one time: so many bytes for each byte of input, and so many beside.
    #[must_use]
    pub fn allocating(mut self, factor: u64, floor_bytes: u64) -> Self {
        (self.factor, self.floor_bytes) = (factor, floor_bytes);
        self
    }

    /// Runs it.
    ///
    /// # Panics
    /// If the target does, or if it holds more memory than allowed; and if a variable has no number in it.
    pub fn run(self, target: impl Fn(&[u8])) {
        let seed = number("ANABRANCH_FUZZ_SEED").unwrap_or(1);
        if let Some(only) = number("ANABRANCH_FUZZ_ONLY") {
            self.one(seed, only, &target);
            return;
        }
        let (inputs, time) = match number("ANABRANCH_FUZZ_SECONDS") {
            Some(seconds) => (u64::MAX, Duration::from_secs(seconds)),
            None => (USUAL_INPUTS, USUAL_TIME),
        };
        let started = Instant::now();
        let (mut tried, mut most) = (0, 0);
        while tried < inputs && started.elapsed() < time {
            most = most.max(self.one(seed, tried, &target));
            tried += 1;
        }
        println!("{}: seed {seed}, {tried} inputs, at most {most} bytes held", self.name);
    }

    /// Tries one input. Returns the bytes it held.
    fn one(&self, seed: u64, index: u64, target: &impl Fn(&[u8])) -> u64 {
        let input = self.input(seed, index);
        if let Some(path) = std::env::var_os("ANABRANCH_FUZZ_LAST") {
            let written = std::fs::write(&path, &input);
            assert!(written.is_ok(), "{}: {written:?}", path.display());
        }
        let mut result = Ok(());
        let info = measure(|| result = catch_unwind(AssertUnwindSafe(|| target(&input))));
        let allowed = self.factor.saturating_mul(input.len() as u64).saturating_add(self.floor_bytes);
        if result.is_ok() && info.bytes_max <= allowed {
            return info.bytes_max;
        }
        eprintln!("{}: seed {seed}, input {index}, {} bytes: {input:02x?}", self.name, input.len());
        if let Err(panic) = result {
            resume_unwind(panic);
        }
        panic!("{}: held {} bytes where {allowed} are allowed", self.name, info.bytes_max);
    }

    /// First the corpus as it is, then mutations and noise, each with a generator of its own.
    fn input(&self, seed: u64, index: u64) -> Vec<u8> {
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        if let Some(good) = self.corpus.get(place) {
            return good.clone();
        }
        let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index);
        if self.corpus.is_empty() || rng.random_ratio(1, 16) {
            return (0..rng.random_range(0..300)).map(|_| rng.random()).collect();
        }
        let good = &self.corpus[rng.random_range(0..self.corpus.len())];
        mutate(&mut rng, good, &self.corpus)
    }
}

/// The number in a variable.
///
/// # Panics
/// If something else is in it.
pub fn number<T: FromStr>(variable: &str) -> Option<T> {
    let text = std::env::var(variable).ok()?;
    let Ok(number) = text.parse() else { panic!("{variable}={text} is no number") };
    Some(number)
}

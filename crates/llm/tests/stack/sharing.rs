//! One limit, several processes: never above it, nearly all of it used.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_llm::stack::{Announcement, Heard, RateLimit, Settings, Sharing, Stack, Stacked};
use anabranch_llm::{ChatRequest, ChatResponse, ChatStream, Model, ModelError};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Endpoint, ask};

/// How long an announcement is under way: as through a broker, and then some.
const UNDER_WAY: Duration = Duration::from_millis(150);

/// A line in memory.
#[derive(Default)]
struct Line {
    said: Mutex<HashMap<String, Vec<(Instant, Announcement)>>>,
}

impl Sharing for Line {
    fn announce(&self, announcement: Announcement) {
        self.said.lock().unwrap().entry(announcement.process.clone()).or_default().push((Instant::now(), announcement));
    }

    fn heard(&self) -> Vec<Heard> {
        let said = self.said.lock().unwrap();
        let now = Instant::now();
        let latest = said.values().filter_map(|all| all.iter().rev().find(|(at, _)| *at + UNDER_WAY <= now));
        latest.map(|(at, a)| Heard { announcement: a.clone(), age: now - *at - UNDER_WAY }).collect()
    }
}

/// An endpoint that writes down when it was asked.
#[derive(Default)]
struct Log {
    asked: Mutex<Vec<Instant>>,
}

impl Model for Log {
    fn chat<'a>(&'a self, request: ChatRequest) -> BoxFuture<'a, Result<ChatResponse, ModelError>> {
        self.asked.lock().unwrap().push(Instant::now());
        async move { Endpoint::well(Duration::from_millis(200)).chat(request).await }.boxed()
    }

    fn stream<'a>(&'a self, request: ChatRequest) -> BoxFuture<'a, Result<ChatStream<'a>, ModelError>> {
        async move { Endpoint::well(Duration::ZERO).stream(request).await.map(|_| unreachable!()) }.boxed()
    }
}

impl Log {
    fn between(&self, from: Instant, to: Instant) -> usize {
        self.asked.lock().unwrap().iter().filter(|at| (from..to).contains(at)).count()
    }

    /// The most calls in any window of this length.
    fn most(&self, per: Duration) -> usize {
        let asked = self.asked.lock().unwrap();
        (0..asked.len()).map(|i| asked[i..].partition_point(|at| *at < asked[i] + per)).max().unwrap_or(0)
    }
}

/// 100 requests a second.
fn process(name: &str, endpoint: &Arc<Log>, line: &Arc<Line>) -> Arc<Stacked> {
    let mut settings = Settings { max_wait: Duration::from_secs(600), ..Settings::new("m") };
    settings.model.rate = RateLimit { requests: Some(1_000), tokens: None, per: Duration::from_secs(10) };
    let stack = Stack::new(endpoint.clone(), settings).with_process(name).with_sharing(line.clone());
    Arc::new(stack.build().unwrap())
}

/// So many calls at any time.
fn keep_busy(tasks: &mut JoinSet<()>, process: &Arc<Stacked>, calls: usize) {
    for i in 0..calls {
        let process = process.clone();
        tasks.spawn(async move {
            loop {
                process.model.chat(ask(&i.to_string())).await.unwrap();
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn four_processes_stay_under_the_limit_and_use_nearly_all_of_it() {
    let (endpoint, line, start) = (Arc::new(Log::default()), Arc::new(Line::default()), Instant::now());
    let processes: Vec<_> = ["a", "b", "c", "d"].iter().map(|name| process(name, &endpoint, &line)).collect();
    let mut tasks = JoinSet::new();
    // One has little to do, one has a lot.
    for (process, calls) in processes.iter().zip([1, 40, 40, 200]) {
        keep_busy(&mut tasks, process, calls);
    }
    tokio::time::sleep(Duration::from_secs(70)).await;
    let used = endpoint.between(start + Duration::from_secs(10), start + Duration::from_secs(70));
    let most = (endpoint.most(Duration::from_secs(10)), endpoint.most(Duration::from_secs(1)));
    println!("used {used} of 6000 in a minute, at most {} in ten seconds and {} in one", most.0, most.1);
    assert!(most.0 <= 1_000, "{most:?}");
    // Four bursts of two may fall into one second.
    assert!(most.1 <= 108, "{most:?}");
    assert!(used >= 5_700, "{used} of 6000");
}

#[tokio::test(start_paused = true)]
async fn who_comes_later_waits_for_its_share_and_what_a_dead_process_had_is_used_by_the_others() {
    let (endpoint, line, start) = (Arc::new(Log::default()), Arc::new(Line::default()), Instant::now());
    let mut tasks = JoinSet::new();
    let first = process("a", &endpoint, &line);
    keep_busy(&mut tasks, &first, 60);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let mut dying = JoinSet::new();
    let second = process("b", &endpoint, &line);
    keep_busy(&mut dying, &second, 60);
    tokio::time::sleep(Duration::from_secs(20)).await;
    // It is gone without a word: nothing it says from now on is heard.
    dying.shutdown().await;
    drop(second);
    line.said.lock().unwrap().get_mut("b").unwrap().retain(|(_, said)| !said.leaving);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let most = endpoint.most(Duration::from_secs(10));
    assert!(most <= 1_000, "{most}");
    let from = |s: u64| start + Duration::from_secs(s);
    let alone = endpoint.between(from(5), from(20));
    // It takes some seconds until a newcomer has grown to its share.
    let both = endpoint.between(from(30), from(40));
    let after = endpoint.between(from(50), from(70));
    println!("alone {alone} in 15 s, both {both} in 10 s, alone again {after} in 20 s");
    assert!(alone >= 1_425 && both >= 950 && after >= 1_900, "{alone} {both} {after}");
}

#[tokio::test(start_paused = true)]
async fn without_the_line_a_new_process_asks_nothing_and_an_old_one_keeps_its_share() {
    /// A line that can be cut.
    struct Cut(Arc<Line>, Mutex<bool>);
    impl Sharing for Cut {
        fn announce(&self, announcement: Announcement) {
            if !*self.1.lock().unwrap() {
                self.0.announce(announcement);
            }
        }
        fn heard(&self) -> Vec<Heard> {
            self.0.heard()
        }
    }
    let (endpoint, line) = (Arc::new(Log::default()), Arc::new(Cut(Arc::default(), Mutex::new(true))));
    let mut settings = Settings { max_wait: Duration::from_secs(600), ..Settings::new("m") };
    settings.model.rate = RateLimit { requests: Some(1_000), tokens: None, per: Duration::from_secs(10) };
    let stacked = Stack::new(endpoint.clone(), settings).with_sharing(line.clone()).build().unwrap();
    let mut tasks = JoinSet::new();
    keep_busy(&mut tasks, &Arc::new(stacked), 60);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(endpoint.asked.lock().unwrap().len(), 0);
    *line.1.lock().unwrap() = false;
    tokio::time::sleep(Duration::from_secs(5)).await;
    *line.1.lock().unwrap() = true;
    let cut = Instant::now();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let used = endpoint.between(cut + Duration::from_secs(10), cut + Duration::from_secs(30));
    assert!(used >= 1_900, "{used}");
}

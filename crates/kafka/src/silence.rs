//! Connections that died and nobody was told: a host is gone, a firewall forgot them, a proxy swallows what is sent. TCP
//! waits for minutes, and a request for its whole limit.
//!
//! A broker may take its time for some answers: a produce waits for replicas, a join for other members. Others come at
//! once, or at a time that is known. When one of those is overdue and *nothing* has come on its connection, new connections
//! to the same broker are tried, until one answers. If the old one then still says nothing, it is dead, and with it every
//! connection to this broker that has been as quiet for most of that time. A broker that is merely slow, stopped or away answers
//! nobody, and nothing is given up for it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::FuturesUnordered};
use kafka_protocol::messages::ApiKey;
use tokio::sync::watch;

/// Requests that a broker answers at once, or (fetches) after a time that the request names. Not those by which a new
/// connection is tried.
const PROMPT: [ApiKey; 6] = [
    ApiKey::Fetch,
    ApiKey::FindCoordinator,
    ApiKey::Heartbeat,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::OffsetFetch,
];
/// A prompt answer may be late by so much before a new connection is tried.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time between tries of a new connection.
const TRY_EVERY: Duration = Duration::from_millis(500);
/// What the old connection may still have to say once a new one works: what waited for the network comes at once.
const LAST_CHANCE: Duration = Duration::from_millis(300);

/// How late the answer to a request may be before its connection is doubted; `None`: as late as its limit.
pub(crate) fn patience(api: i16, hold: Duration) -> Option<Duration> {
    PROMPT.iter().any(|prompt| *prompt as i16 == api).then_some(PATIENCE + hold)
}

/// By tokio's clock, which a test may stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Which connections of a cluster handle are dead.
#[derive(Debug)]
pub(crate) struct Deaths(watch::Sender<HashMap<String, Death>>);

/// What is known of a broker's connections.
#[derive(Debug, Clone, Copy)]
struct Death {
    /// Those on which nothing has come since then are dead.
    silent_since: Instant,
    /// When that was found out.
    found: Instant,
}

impl Default for Deaths {
    fn default() -> Self {
        Self(watch::Sender::new(HashMap::new()))
    }
}

impl Deaths {
    fn declare(&self, address: &str, silent_since: Instant) {
        tracing::warn!(
            broker = address,
            "connections are silent while the broker answers a new one; they are replaced"
        );
        let death = Death { silent_since, found: now() };
        self.0.send_modify(|deaths| {
            deaths.insert(address.to_owned(), death);
        });
    }

    /// Whether a connection to `address` is dead that last heard something at `heard`.
    pub(crate) fn includes(&self, address: &str, heard: Instant) -> bool {
        self.0.borrow().get(address).is_some_and(|death| heard < death.silent_since)
    }

    /// Returns once [`includes`](Self::includes) holds.
    pub(crate) async fn include(&self, address: &str, heard: impl Fn() -> Instant) {
        let dead = |deaths: &HashMap<String, Death>| deaths.get(address).is_some_and(|d| heard() < d.silent_since);
        wait(self.0.subscribe(), dead).await;
    }

    /// Whether a death of any broker's connections was found since `then`.
    pub(crate) fn any_since(&self, then: Instant) -> bool {
        self.0.borrow().values().any(|death| death.found > then)
    }

    /// Returns once [`any_since`](Self::any_since) holds.
    pub(crate) async fn any(&self, then: Instant) {
        wait(self.0.subscribe(), |deaths| deaths.values().any(|death| death.found > then)).await;
    }

    /// Watches a connection to `address` whose answer to a request is awaited since `asked`, and declares it dead when it
    /// is. `heard` is when something last came on it, `open` tries a new connection. Never returns: the caller stops it.
    pub(crate) async fn watch<F: Future<Output = bool>>(
        &self,
        address: &str,
        asked: Instant,
        patience: Duration,
        heard: impl Fn() -> Instant,
        open: impl Fn() -> F,
    ) {
        let mut quiet_since = asked;
        loop {
            tokio::time::sleep_until((quiet_since + patience).into()).await;
            let last = heard();
            if last > quiet_since {
                quiet_since = last;
                continue;
            }
            answered(&open).await;
            tokio::time::sleep(LAST_CHANCE).await;
            if heard() <= quiet_since && !self.includes(address, heard()) {
                // Others may have died somewhat later than this one was last asked.
                self.declare(address, quiet_since + patience / 2);
            }
            quiet_since = now();
        }
    }
}

async fn wait(mut deaths: watch::Receiver<HashMap<String, Death>>, known: impl Fn(&HashMap<String, Death>) -> bool) {
    // An error would mean that the sender is gone, and with it whoever could tell.
    if deaths.wait_for(|deaths| known(deaths)).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Tries new connections until one works. Each try has its own time, so that one made in vain does not delay the next.
async fn answered<F: Future<Output = bool>>(open: impl Fn() -> F) {
    let mut tries = FuturesUnordered::new();
    let mut next = tokio::time::interval(TRY_EVERY);
    loop {
        tokio::select! {
            Some(works) = tries.next(), if !tries.is_empty() => if works { return },
            _ = next.tick() => tries.push(open()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const BROKER: &str = "broker:9092";

    #[test]
    fn only_prompt_answers_are_waited_for_impatiently() {
        let hold = Duration::from_millis(500);
        assert_eq!(patience(ApiKey::Fetch as i16, hold), Some(PATIENCE + hold));
        assert_eq!(patience(ApiKey::Produce as i16, hold), None);
        assert_eq!(patience(ApiKey::JoinGroup as i16, hold), None);
        assert_eq!(patience(ApiKey::OffsetCommit as i16, hold), None);
    }

    #[test]
    fn a_death_takes_those_that_were_quiet_and_no_new_ones() {
        let deaths = Deaths::default();
        let now = Instant::now();
        let earlier = now.checked_sub(Duration::from_secs(5)).unwrap_or(now);
        deaths.declare(BROKER, now);
        assert!(deaths.includes(BROKER, earlier));
        assert!(!deaths.includes(BROKER, Instant::now()));
        assert!(!deaths.includes("other:9092", earlier));
        assert!(deaths.any_since(earlier) && !deaths.any_since(Instant::now() + Duration::from_secs(1)));
    }

    /// Watches for ten seconds a connection that heard something at each of these moments, with a broker that answers new
    /// connections from `back` on. Whether it is declared dead.
    async fn declared(heard_ms: &[u64], back: Duration) -> bool {
        let deaths = Deaths::default();
        let began = tokio::time::Instant::now();
        let asked = began.into_std();
        let heard = Mutex::new(asked);
        let open = || async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            began.elapsed() >= back
        };
        let speaking = async {
            for ms in heard_ms {
                tokio::time::sleep_until(began + Duration::from_millis(*ms)).await;
                if let Ok(mut heard) = heard.lock() {
                    *heard = tokio::time::Instant::now().into_std();
                }
            }
        };
        let last = || heard.lock().map_or(asked, |heard| *heard);
        let watching = deaths.watch(BROKER, asked, PATIENCE, last, open);
        let ended = async { tokio::join!(watching, speaking) };
        drop(tokio::time::timeout(Duration::from_secs(10), ended).await);
        deaths.any_since(asked)
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_death_only_while_the_broker_answers_others() {
        assert!(declared(&[], Duration::ZERO).await, "a new connection works, this one says nothing");
        assert!(declared(&[], Duration::from_secs(7)).await, "once the broker answers again");
        assert!(!declared(&[], Duration::from_secs(60)).await, "a broker that answers nobody");
        let often: Vec<u64> = (1..12).map(|second| second * 1_000).collect();
        assert!(!declared(&often, Duration::ZERO).await, "something comes");
        let late: Vec<u64> = (0..12).map(|second| 7_100 + second * 500).collect();
        assert!(!declared(&late, Duration::from_secs(7)).await, "what waited comes when the broker answers again");
    }
}

//! A bad network between the agents and the broker: one acknowledgement in a hundred is lost, connections are cut, and now
//! and then nothing gets through at all. Nothing is lost, no case has two outcomes, and once the network is back, so is the
//! application.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anabranch_e2e::{App, KYC_AGENTS, Load, Spec, Watch, counter, kyc, one_outcome_each, outcome_topics, seed};
use anabranch_kafka::Record;
use anabranch_testkit::cluster::TestCluster;
use anabranch_testkit::kafka_proxy::{ApiKey, Caps, KafkaProxy, Net};

/// Acknowledgements: the broker has done its part.
const ACKNOWLEDGED: [ApiKey; 4] = [ApiKey::Produce, ApiKey::OffsetCommit, ApiKey::TxnOffsetCommit, ApiKey::EndTxn];
const LOST: f64 = 0.01;
/// Tasks of a case: one of each agent that checks, and one of the agent that writes to the customer.
const TASKS: usize = 5;
/// After healing, until the next outcome.
const RECOVERED_WITHIN: Duration = Duration::from_secs(2);
const WITHIN: Duration = Duration::from_secs(180);

/// The reference application, without the pause in which the fraud agent waits for more of the same: what is measured here
/// is how long the runtime takes.
fn spec() -> Spec {
    let mut spec = kyc();
    let quick = spec.topology.replace("settle: 2s", "settle: 50ms");
    assert_ne!(quick, spec.topology);
    spec.topology = quick;
    spec
}

struct Run {
    app: App,
    proxy: KafkaProxy,
    watch: Watch,
    load: Load,
}

/// What one outage did.
struct Outage {
    net: Net,
    lasted: Duration,
    /// From healing to the next outcome.
    next: Duration,
    /// From healing to the outcome of a case that came right then, through all agents.
    whole: Duration,
}

impl Run {
    /// Processes that reach the broker through the proxy only; the test itself reaches it directly.
    async fn start(cases: usize, over: Duration, seed: u64) -> Self {
        let mut app = App::prepare_on(TestCluster::start().await.unwrap(), spec()).await.unwrap();
        app.create_topics(KYC_AGENTS).await.unwrap();
        let proxy = KafkaProxy::start(app.cluster.bootstrap(), Caps::Full, seed).unwrap();
        for agent in KYC_AGENTS {
            app.spawn_at(agent, agent, &proxy.address(), &[]).unwrap();
        }
        app.all_ready().await.unwrap();
        proxy.lose_share(&ACKNOWLEDGED, LOST);
        let watch = Watch::start(&app.client, &outcome_topics(&app)).await.unwrap();
        Self { app, proxy, watch, load: Load::new(cases, over) }
    }

    /// Sends what is due for so long, or until all is sent, and cuts a connection every second.
    async fn fair(&mut self, time: Option<Duration>) {
        let (began, mut next_cut) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        while time.is_none_or(|time| began.elapsed() < time) && self.load.keep_up(&self.app).await.unwrap() {
            if Instant::now() >= next_cut {
                assert!(self.proxy.cut_one());
                next_cut += Duration::from_secs(1);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn outage(&mut self, net: Net, lasted: Duration) -> Outage {
        self.proxy.set(net);
        let began = Instant::now();
        while began.elapsed() < lasted {
            self.load.keep_up(&self.app).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.proxy.set(Net::Up);
        let healed = Instant::now();
        let last = self.load.send_one(&self.app).await.unwrap().expect("an outage before the last case");
        let first = self.watch.until("an outcome after healing", WITHIN, |w| w.first_after(healed)).await.unwrap();
        let whole = self.watch.until("a case sent after healing", WITHIN, |w| w.of(&last)).await.unwrap();
        let outage = Outage { net, lasted, next: first - healed, whole: whole - healed };
        println!(
            "{net:?} for {lasted:?}: next outcome {:.2} s after healing, a case sent then decided after {:.2} s",
            outage.next.as_secs_f64(),
            outage.whole.as_secs_f64()
        );
        outage
    }
}

async fn lossy(cases: usize, fair: Duration, outages: &[(Net, Duration)]) {
    let Some(python) = counter() else { return };
    let seed = seed();
    // The last outage must end before the last case is sent, on a slow machine too.
    let waits = Duration::from_secs(5) * u32::try_from(outages.len()).unwrap();
    let over = fair * u32::try_from(outages.len() + 1).unwrap()
        + outages.iter().map(|(_, lasted)| *lasted).sum::<Duration>()
        + waits;
    println!("{cases} cases, {} tasks, seed {seed}", cases * TASKS);
    let mut run = Run::start(cases, over, seed).await;
    let mut seen = Vec::new();
    for (net, lasted) in outages {
        run.fair(Some(fair)).await;
        seen.push(run.outage(*net, *lasted).await);
    }
    run.fair(None).await;
    run.watch.until("an outcome of every case", WITHIN, |w| (w.distinct() == cases).then_some(())).await.unwrap();
    println!("all decided {:.1} s after the first was sent", run.load.started().elapsed().as_secs_f64());

    let lost = run.proxy.lost();
    println!("lost answers by API: {lost:?}; of requests {:?}", run.proxy.requests());
    assert!(
        ACKNOWLEDGED.iter().all(|api| lost.contains_key(&(*api as i16))),
        "answers of each kind were lost: {lost:?}"
    );
    tasks_were_given(&run.app, cases).await;
    one_outcome_each(&python, run.app.cluster.bootstrap(), &outcome_topics(&run.app), cases).unwrap();
    // A process that is in the middle of making up for a loss is ready again.
    run.app.all_ready().await.unwrap();
    run.app.stop().await.unwrap();
    for outage in seen {
        let Outage { net, lasted, next, whole } = outage;
        assert!(next <= RECOVERED_WITHIN, "{net:?} for {lasted:?}: the next outcome came {next:?} after healing");
        println!("{net:?} {lasted:?}: {next:?}, {whole:?}");
    }
}

/// Each agent had one task of each case, told apart by the id that is derived from the plan.
async fn tasks_were_given(app: &App, cases: usize) {
    let agents = KYC_AGENTS.iter().filter(|agent| !["supervisor", "composer"].contains(agent));
    let topics: Vec<String> = agents.map(|agent| app.topology.tasks_topic(agent)).collect();
    assert_eq!(topics.len(), TASKS);
    let mut reader = app.reader(&topics).await.unwrap();
    let distinct = |records: &[Record]| {
        let id = |r: &Record| r.headers.iter().find(|h| h.name == "ce_id").and_then(|h| h.value.clone());
        records.iter().filter_map(id).collect::<BTreeSet<_>>().len()
    };
    reader.until("every task", WITHIN, |r| distinct(r) >= cases * TASKS).await.unwrap();
    let all = reader.settle(Duration::from_secs(1)).await.unwrap();
    println!("{} tasks, {} of them written twice", distinct(all), all.len() - distinct(all));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_on_a_bad_network() {
    let seconds = Duration::from_secs;
    lossy(300, seconds(6), &[(Net::Cut, seconds(4)), (Net::Silent, seconds(4)), (Net::Silent, seconds(9))]).await;
}

/// The long lane: the figures of the promise.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "five minutes: 10,000 tasks of 2,000 cases"]
async fn nothing_of_ten_thousand_tasks_is_lost_on_a_bad_network() {
    let seconds = Duration::from_secs;
    let outages = [3, 5, 8, 12].map(seconds).into_iter().flat_map(|s| [(Net::Cut, s), (Net::Silent, s)]);
    lossy(2_000, seconds(15), &outages.collect::<Vec<_>>()).await;
}

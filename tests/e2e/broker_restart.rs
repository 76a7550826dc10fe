//! The broker is killed with -9 and started again on its port and data, in the middle of a run: nothing acknowledged is
//! lost, and every case has one outcome.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::time::{Duration, Instant};

use anabranch_e2e::{App, Kafka, Load, Watch, counter, ends_well, kyc, outcome_topics, workspace};
use anabranch_testkit::cluster::TestCluster;
use anabranch_testkit::process::{Process, built, free_port};
use tokio::process::Command;

const WITHIN: Duration = Duration::from_secs(180);

/// A broker that can be killed and started again.
trait Mortal {
    fn bootstrap(&self) -> String;
    /// kill -9, and after `away` the same again. Returns when it serves.
    async fn bounce(&mut self, away: Duration);
}

/// The embedded broker as a process of its own, on disk.
struct Embedded {
    port: u16,
    folder: tempfile::TempDir,
    binary: std::path::PathBuf,
    process: Process,
}

impl Embedded {
    async fn start() -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port().unwrap());
        let binary = built(&workspace(), &["anabranch-broker".to_owned()]).unwrap().join("anabranch-broker");
        let process = Self::spawn(&binary, &folder, port);
        let embedded = Self { port, folder, binary, process };
        serves(embedded.bootstrap()).await;
        embedded
    }

    fn spawn(binary: &std::path::Path, folder: &tempfile::TempDir, port: u16) -> Process {
        let mut command = Command::new(binary);
        command.args(["--listen", &format!("127.0.0.1:{port}"), "--data-dir"]).arg(folder.path().join("data"));
        Process::start("broker", folder.path(), command).unwrap()
    }
}

/// Waits until a broker tells its topics.
async fn serves(bootstrap: String) {
    let client = TestCluster::at(bootstrap).client();
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(error) = client.admin().list_topics().await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Mortal for Embedded {
    fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    async fn bounce(&mut self, away: Duration) {
        self.process.kill().await.unwrap();
        tokio::time::sleep(away).await;
        self.process = Self::spawn(&self.binary, &self.folder, self.port);
        let started = Instant::now();
        serves(self.bootstrap()).await;
        println!("the embedded broker serves again {:.2} s after it was started", started.elapsed().as_secs_f64());
    }
}

impl Mortal for Kafka {
    fn bootstrap(&self) -> String {
        Self::bootstrap(self).to_owned()
    }

    async fn bounce(&mut self, away: Duration) {
        self.kill(1).unwrap();
        tokio::time::sleep(away).await;
        let started = Instant::now();
        // The script takes a while longer to find out.
        let (restarted, ()) = tokio::join!(self.restart(1), async {
            serves(Mortal::bootstrap(self)).await;
            println!("Apache Kafka serves again {:.1} s after it was started", started.elapsed().as_secs_f64());
        });
        restarted.unwrap();
    }
}

/// Sends cases evenly, from a task of its own: what is sent while the broker is away waits for it.
async fn restarts(mut broker: impl Mortal, cases: usize, seconds: u64, kills: usize) {
    let Some(python) = counter() else { return };
    println!("{cases} cases, the broker killed {kills} times");
    let cluster = TestCluster::at(broker.bootstrap());
    let app = App::start_on(cluster, kyc()).await.unwrap();
    let watch = Watch::start(&app.client, &outcome_topics(&app)).await.unwrap();
    let mut load = Load::new(cases, Duration::from_secs(seconds));
    let part = Duration::from_secs(seconds) / u32::try_from(kills + 1).unwrap();
    let sending = async {
        while load.keep_up(&app).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let killing = async {
        for round in 0..kills {
            tokio::time::sleep(part).await;
            broker.bounce(Duration::from_millis(500 * (round as u64 % 3))).await;
            let back = Instant::now();
            let next = |w: &Watch| w.first_after(back).map(Some).or((w.distinct() == cases).then_some(None));
            match watch.until("an outcome after the restart", WITHIN, next).await.unwrap() {
                Some(next) => {
                    println!("next outcome {:.2} s after the broker served again", (next - back).as_secs_f64());
                }
                None => println!("all were decided by then"),
            }
        }
    };
    tokio::join!(sending, killing);
    ends_well(app, &watch, &load, WITHIN, &python).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_broker_killed_and_restarted_loses_nothing() {
    restarts(Embedded::start().await, 300, 40, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_kafka_killed_and_restarted_loses_nothing() {
    let Some(kafka) = Kafka::start(1).await.unwrap() else { return };
    restarts(kafka, 400, 110, 3).await;
}

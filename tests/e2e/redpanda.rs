//! The same application on Redpanda, where Docker and the image are there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::time::Duration;

use anabranch_e2e::{App, answers, nap, sleeper};
use anabranch_testkit::cluster::TestCluster;
use anabranch_testkit::process::free_port;
use testcontainers::core::{IntoContainerPort as _, WaitFor};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, GenericImage, ImageExt as _};

const IMAGE: &str = "docker.redpanda.com/redpandadata/redpanda";
const TAG: &str = "v26.2.7";

/// A Redpanda that advertises the port it has on the host; or why there is none.
async fn redpanda() -> Result<(ContainerAsync<GenericImage>, String), String> {
    let port = free_port().map_err(|e| e.to_string())?;
    let image = GenericImage::new(IMAGE, TAG)
        .with_wait_for(WaitFor::message_on_stderr("Successfully started Redpanda!"))
        .with_mapped_port(port, 9092.tcp())
        .with_startup_timeout(Duration::from_secs(60))
        .with_cmd([
            "redpanda".to_owned(),
            "start".to_owned(),
            "--smp=1".to_owned(),
            "--memory=1G".to_owned(),
            "--reserve-memory=0M".to_owned(),
            "--overprovisioned".to_owned(),
            "--node-id=0".to_owned(),
            "--check=false".to_owned(),
            "--kafka-addr=0.0.0.0:9092".to_owned(),
            format!("--advertise-kafka-addr=127.0.0.1:{port}"),
            "--set=redpanda.auto_create_topics_enabled=false".to_owned(),
        ]);
    let container = image.start().await.map_err(|e| e.to_string())?;
    Ok((container, format!("127.0.0.1:{port}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runtime_works_on_redpanda() {
    let (container, bootstrap) = match redpanda().await {
        Ok(started) => started,
        Err(why) => {
            println!("skipped: no Redpanda through Docker here: {why}");
            return;
        }
    };
    let cluster = TestCluster::at(bootstrap);
    let mut app = App::prepare_on(cluster, sleeper(3, "session_timeout: 6s")).await.unwrap();
    app.create_topics(&["sleeper"]).await.unwrap();
    app.spawn("sleeper", "sleeper").unwrap();
    app.all_ready().await.unwrap();
    let tasks = app.topology.tasks_topic("sleeper");
    app.send((0..50).map(|n| nap(&tasks, &format!("key-{n}"), n, 10).unwrap()).collect()).await.unwrap();
    let mut reader = app.reader(&[app.topology.results_topic()]).await.unwrap();
    reader.until("all answers", Duration::from_secs(60), |r| answers(r).len() >= 50).await.unwrap();
    app.stop().await.unwrap();
    drop(container);
}

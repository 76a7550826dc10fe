//! A broker that is away, or is none.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::support::{Setup, finished};

async fn ends_with_an_error(setup: &Setup, brokers: &str) {
    setup.write("one.json", "{}");
    let commands: [&[&str]; 7] = [
        &["status"],
        &["dlq", "list"],
        &["cost"],
        &["topics", "diff"],
        &["send", "one.json"],
        &["watch"],
        &["trace", "case-1"],
    ];
    let began = Instant::now();
    let started = commands.map(|args| finished(setup.command(args).env("ANABRANCH_KAFKA", brokers).spawn().unwrap()));
    for (args, done) in commands.iter().zip(futures::future::join_all(started).await) {
        assert_eq!(done.code, 1, "{args:?}: {done:?}");
        assert_eq!(done.out, "", "{args:?}");
        assert!(done.err.contains(&format!("no broker answers at {brokers}")), "{args:?}: {done:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens() {
    let setup = Setup::empty().await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    ends_with_an_error(&setup, &free.to_string()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_listens_and_says_nothing() {
    let setup = Setup::empty().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let silent = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    ends_with_an_error(&setup, &address).await;
    silent.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_speaks_another_protocol() {
    let setup = Setup::empty().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let web = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // The client may have gone already.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    ends_with_an_error(&setup, &address).await;
    web.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_away_ends_a_watch() {
    let setup = Setup::with_topics().await;
    let mut child = setup.start(&["watch"]);
    let err = child.stderr.take().unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(err));
    assert!(lines.next_line().await.unwrap().unwrap().contains("watching"));
    let Setup { broker, .. } = setup;
    broker.stop().await;
    let gone = Instant::now();
    let status = tokio::time::timeout(Duration::from_secs(30), child.wait()).await.expect("it ends").unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(gone.elapsed() < Duration::from_secs(14), "{:?}", gone.elapsed());
}

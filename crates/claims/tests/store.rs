//! What a store promises, and what becomes of one that does not keep it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anabranch_claims::{Bytes, ClaimCheck, ClaimError, Class, Limits, Location, Store, Stored, open, sha256};
use anabranch_protocol::claim::{Claim, JSON, Sha256, TEXT};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};

const LIMITS: Limits = Limits { over: 1_000, most: 8 * 1024 * 1024, timeout: Duration::from_secs(5) };

fn at(location: &Location) -> ClaimCheck {
    ClaimCheck::new(open(location, LIMITS).unwrap(), LIMITS)
}

fn directory(path: &Path) -> ClaimCheck {
    at(&Location::Directory(path.to_owned()))
}

fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { found.extend(files(&entry)) } else { found.push(entry.display().to_string()) }
    }
    found
}

#[tokio::test]
async fn what_is_put_is_had_back_and_lies_under_its_own_name() {
    let folder = tempfile::tempdir().unwrap();
    for claims in [directory(&folder.path().join("made/on/demand")), at(&Location::Memory)] {
        for content in [Bytes::new(), Bytes::from("é"), Bytes::from(vec![7; 3 * 1024 * 1024])] {
            let claim = claims.put(content.clone(), TEXT).await.unwrap();
            assert_eq!((claim.bytes, &claim.sha256), (content.len() as u64, &sha256(&content)));
            assert_eq!(claims.put(content.clone(), TEXT).await.unwrap(), claim, "again is no difference");
            assert_eq!(claims.fetch(&claim).await.unwrap(), content);
        }
        let listed: Vec<Stored> = claims.store().list().map(Result::unwrap).collect().await;
        assert_eq!(listed.len(), 3);
        for stored in &listed {
            claims.store().remove(&stored.name).await.unwrap();
            claims.store().remove(&stored.name).await.unwrap();
        }
        assert_eq!(claims.store().list().count().await, 0);
    }
}

#[tokio::test]
async fn a_payload_is_checked_in_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let claims = directory(folder.path());
    assert_eq!(claims.check_in("{\"a\":1}").await.unwrap(), None);
    let text = "x".repeat(2_000);
    let json = serde_json::json!({ "text": text, "list": vec!["0123456789"; 200], "n": 1 }).to_string();
    let checked: serde_json::Value = serde_json::from_str(&claims.check_in(&json).await.unwrap().unwrap()).unwrap();
    assert_eq!(checked["n"], 1);
    let text_claim: Claim = serde_json::from_value(checked["text"].clone()).unwrap();
    assert_eq!(claims.fetch(&text_claim).await.unwrap(), text);
    let list_claim: Claim = serde_json::from_value(checked["list"].clone()).unwrap();
    assert_eq!(list_claim.content_type, JSON);
    let names = files(folder.path());
    assert_eq!(names.len(), 2, "whole files and nothing beside them: {names:?}");
    let name = text_claim.sha256.as_str();
    assert!(names.iter().any(|file| file.ends_with(&format!("/sha256/{}/{name}", &name[..2]))), "{names:?}");
}

#[tokio::test]
async fn what_is_not_there_or_is_not_what_was_put_is_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let claims = directory(folder.path());
    let claim = claims.put(Bytes::from("content"), TEXT).await.unwrap();
    let file = folder.path().join("sha256").join(&claim.sha256.as_str()[..2]).join(claim.sha256.as_str());
    let refused = async |claim: &Claim| {
        let error = claims.fetch(claim).await.unwrap_err();
        assert_eq!(error.class(), Class::Terminal, "{error}");
        error
    };
    let longer = Claim { bytes: 8, ..claim.clone() };
    assert!(matches!(refused(&longer).await, ClaimError::Mismatch { .. }));
    let huge = Claim { bytes: u64::MAX, ..claim.clone() };
    assert!(matches!(refused(&huge).await, ClaimError::TooLarge { .. }));
    let error = claims.put(vec![0; 8 * 1024 * 1024 + 1].into(), TEXT).await.unwrap_err();
    assert!(matches!(error, ClaimError::TooLarge { .. }), "{error}");
    std::fs::write(&file, "CONTENT").unwrap();
    assert!(matches!(refused(&claim).await, ClaimError::Mismatch { .. }), "as long, and something else");
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(refused(&claim).await, ClaimError::NotFound { .. }));
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_is_retryable_and_bounded_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("claims");
    let limits = Limits { timeout: Duration::from_millis(500), ..LIMITS };
    let claims = ClaimCheck::new(open(&Location::Directory(root.clone()), limits).unwrap(), limits);
    let claim = claims.put(Bytes::from("content"), TEXT).await.unwrap();
    std::fs::rename(&root, folder.path().join("aside")).unwrap();
    std::fs::write(&root, "a file is where the directory was").unwrap();
    let began = Instant::now();
    let error = claims.fetch(&claim).await.unwrap_err();
    assert_eq!(error.class(), Class::Retryable, "{error}");
    let error = claims.put(Bytes::from("content"), TEXT).await.unwrap_err();
    assert_eq!(error.class(), Class::Retryable, "{error}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let config = open(&Location::Directory(root), limits).unwrap_err();
    assert!(matches!(config, ClaimError::Config(_)), "{config}");
}

/// Out of order `failing` times; then it never answers.
#[derive(Debug)]
struct Broken {
    failing: usize,
    asked: AtomicUsize,
}

impl Store for Broken {
    fn put<'a>(&'a self, _: &'a Sha256, _: Bytes) -> BoxFuture<'a, Result<(), ClaimError>> {
        async move {
            match self.asked.fetch_add(1, Ordering::Relaxed) {
                n if n < self.failing => Err(ClaimError::Unavailable("out of order".into())),
                n if n == self.failing => Ok(()),
                _ => std::future::pending().await,
            }
        }
        .boxed()
    }

    fn get<'a>(&'a self, _: &'a Sha256, _: u64) -> BoxFuture<'a, Result<Bytes, ClaimError>> {
        std::future::pending().boxed()
    }

    fn list(&self) -> BoxStream<'_, Result<Stored, ClaimError>> {
        futures::stream::empty().boxed()
    }

    fn remove<'a>(&'a self, _: &'a Sha256) -> BoxFuture<'a, Result<(), ClaimError>> {
        std::future::ready(Ok(())).boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_paid_for_is_put_again_while_there_is_time() {
    let store = Arc::new(Broken { failing: 3, asked: AtomicUsize::new(0) });
    let claims = ClaimCheck::new(store.clone(), LIMITS);
    let claim = claims.put(Bytes::from("content"), TEXT).await.unwrap();
    assert_eq!(store.asked.load(Ordering::Relaxed), 4);
    let slow = claims.put(Bytes::from("content"), TEXT).await.unwrap_err();
    assert!(matches!(slow, ClaimError::Slow { .. }), "{slow}");
    let slow = claims.fetch(&claim).await.unwrap_err();
    assert_eq!(
        (slow.class(), slow.to_string().as_str()),
        (Class::Retryable, "the claim store did not answer within 5000 ms")
    );
}

//! What no well-behaved client sends.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::time::Duration;

use anabranch_broker::{Broker, BrokerConfig};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

async fn send(broker: &Broker, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(broker.address()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// A frame: API key, version, correlation id 7, a null client id, and a body.
fn request(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut bytes = i32::try_from(10 + body.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(&key.to_be_bytes());
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend_from_slice(&7_i32.to_be_bytes());
    bytes.extend_from_slice(&(-1_i16).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

async fn answer(stream: &mut TcpStream) -> Vec<u8> {
    let length = stream.read_u32().await.unwrap();
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).await.unwrap();
    answer
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_u8()).await;
    read.is_ok_and(|read| read.is_err())
}

#[tokio::test]
async fn an_api_versions_request_that_is_too_new_is_told_what_there_is() {
    let broker = Broker::start(BrokerConfig::default()).await.unwrap();
    let mut stream = send(&broker, &request(18, 99, &[0, 0, 0])).await;
    let fallback = answer(&mut stream).await;
    assert_eq!(&fallback[..6], &[0, 0, 0, 7, 0, 35], "correlation id, UNSUPPORTED_VERSION");
    let count = u32::from_be_bytes(fallback[6..10].try_into().unwrap());
    assert!(count > 20 && fallback.len() == 10 + 6 * count as usize, "version 0 of the answer");
    stream.write_all(&request(18, 0, &[])).await.unwrap();
    assert_eq!(&answer(&mut stream).await[..6], &[0, 0, 0, 7, 0, 0], "the connection goes on");
    broker.stop().await;
}

#[tokio::test]
async fn what_is_no_request_ends_its_connection_and_nothing_else() {
    let broker = Broker::start(BrokerConfig { max_request_bytes: 1 << 20, ..BrokerConfig::default() }).await.unwrap();
    let cases: [(&str, Vec<u8>); 7] = [
        ("an unknown API", request(999, 0, &[])),
        ("an unknown version", request(3, 99, &[])),
        ("a body that is cut short", request(3, 1, &[0, 0, 0, 9, 0])),
        ("a body that is noise", request(0, 7, &[0xff; 64])),
        ("too few bytes for a header", vec![0, 0, 0, 3, 0, 18, 0]),
        ("an announced size above the limit", vec![0x7f, 0xff, 0xff, 0xff, 0, 18, 0, 0]),
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ];
    for (what, bytes) in cases {
        let mut stream = send(&broker, &bytes).await;
        assert!(is_closed(&mut stream).await, "{what}");
    }
    let mut stream = send(&broker, &request(18, 0, &[])).await;
    assert_eq!(&answer(&mut stream).await[..6], &[0, 0, 0, 7, 0, 0]);
    broker.stop().await;
}

#[tokio::test]
async fn requests_sent_at_once_are_answered_in_order() {
    let broker = Broker::start(BrokerConfig::default()).await.unwrap();
    let mut all = Vec::new();
    for correlation_id in 0..50_i32 {
        let mut bytes = request(18, 0, &[]);
        bytes[8..12].copy_from_slice(&correlation_id.to_be_bytes());
        all.extend(bytes);
    }
    let mut stream = send(&broker, &all).await;
    for correlation_id in 0..50_i32 {
        assert_eq!(&answer(&mut stream).await[..4], &correlation_id.to_be_bytes());
    }
    broker.stop().await;
}

/// Requests of a few bytes that claim to hold billions of things. The broker refuses them before it makes room for any,
/// and whoever else is connected notices nothing.
#[tokio::test]
async fn forged_lengths_end_their_connection_and_nothing_else() {
    const HUGE: [u8; 4] = [0x7f, 0xff, 0xff, 0xff];
    // No tagged fields in the header, then the most that a varint holds.
    const HUGE_VARINT: [u8; 6] = [0, 0xff, 0xff, 0xff, 0xff, 0x0f];
    let broker = Broker::start(BrokerConfig::default()).await.unwrap();
    let mut other = send(&broker, &request(18, 0, &[])).await;
    assert_eq!(&answer(&mut other).await[..4], &[0, 0, 0, 7]);
    let cases: [(&str, Vec<u8>); 9] = [
        ("two billion topics", request(3, 1, &HUGE)),
        ("four billion topics", request(3, 12, &HUGE_VARINT)),
        ("a negative number of topics", request(3, 1, &[0xff, 0xff, 0xff, 0xfe])),
        ("two billion groups to describe", request(15, 0, &HUGE)),
        ("four billion groups to delete", request(42, 2, &HUGE_VARINT)),
        ("two billion protocols", request(11, 0, &[&[0, 1, b'g', 0, 0, 0x40, 0, 0, 0, 0, 0], &HUGE[..]].concat())),
        ("two billion new topics", request(19, 2, &HUGE)),
        (
            "records longer than the request",
            request(
                0,
                7,
                &[&[0xff; 2], &[0; 6][..], &[0, 0, 0, 1, 0, 1, b't'], &[0, 0, 0, 1], &[0; 4], &HUGE].concat(),
            ),
        ),
        ("four billion tagged fields", request(18, 3, &[0xff, 0xff, 0xff, 0xff, 0x0f, 1, 1])),
    ];
    for (what, bytes) in cases {
        let mut stream = send(&broker, &bytes).await;
        assert!(is_closed(&mut stream).await, "{what}");
        other.write_all(&request(18, 0, &[])).await.unwrap();
        assert_eq!(&answer(&mut other).await[..6], &[0, 0, 0, 7, 0, 0], "the other connection, after {what}");
    }
    broker.stop().await;
}

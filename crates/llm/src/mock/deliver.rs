//! Sends a decided answer: its latency, whole or in pieces, and how it breaks off.

use std::io;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::fault::Delivery;
use super::request::Call;
use super::wire;

/// The events of a stream; an error breaks the connection.
type Events = Vec<Result<Event, io::Error>>;

/// Sends `delivery` after `latency`. An error comes at once, as endpoints answer what they do not work on.
pub(super) async fn send(delivery: Delivery, call: &Call, latency: Duration, stop: CancellationToken) -> Response {
    match delivery {
        Delivery::Refused(refusal) => refusal.into_response(),
        Delivery::Hang => std::future::pending().await,
        delivery if call.stream => {
            // The first event after a quarter of the time, the others evenly over the rest.
            let events = events(delivery, call);
            tokio::time::sleep(latency / 4).await;
            let pause = (latency * 3 / 4) / u32::try_from(events.len()).unwrap_or(u32::MAX).max(1);
            Sse::new(paced(events, pause, stop)).into_response()
        }
        delivery => {
            tokio::time::sleep(latency).await;
            whole(delivery, call)
        }
    }
}

fn whole(delivery: Delivery, call: &Call) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    match delivery {
        Delivery::Whole(reply) => Json(wire::completion(&reply, call)).into_response(),
        Delivery::Cut(reply) => {
            let body = wire::completion(&reply, call).to_string();
            let half = Bytes::copy_from_slice(&body.as_bytes()[..body.len() / 2]);
            (json, Body::from_stream(flushed(vec![Ok(half), Err(broken())]))).into_response()
        }
        // `send` takes the others.
        Delivery::NotJson | Delivery::Hang | Delivery::Refused(_) => {
            (json, "<html><body>upstream says hello</body></html>").into_response()
        }
    }
}

fn events(delivery: Delivery, call: &Call) -> Events {
    let data = |chunk: Value| Ok(Event::default().data(chunk.to_string()));
    match delivery {
        Delivery::Whole(reply) => {
            let done = std::iter::once(Ok(Event::default().data("[DONE]")));
            wire::chunks(&reply, call).into_iter().map(data).chain(done).collect()
        }
        Delivery::Cut(reply) => {
            let mut chunks = wire::chunks(&reply, call);
            // Before the chunk that says the answer is done.
            chunks.truncate((chunks.len() / 2).max(1));
            chunks.into_iter().map(data).chain([Err(broken())]).collect()
        }
        Delivery::NotJson | Delivery::Hang | Delivery::Refused(_) => {
            vec![Ok(Event::default().data("<html>upstream says hello</html>"))]
        }
    }
}

fn broken() -> io::Error {
    io::Error::other("the mock breaks the answer off")
}

/// The events with a pause before each; they end when the server stops.
fn paced(
    events: Events,
    pause: Duration,
    stop: CancellationToken,
) -> impl Stream<Item = Result<Event, io::Error>> + Send {
    let paced = flushed(events).then(move |event| async move {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        event
    });
    paced.take_until(stop.cancelled_owned())
}

/// The items, each sent before the next is asked for: what comes before an error still arrives.
fn flushed<T: Send>(items: Vec<Result<T, io::Error>>) -> impl Stream<Item = Result<T, io::Error>> + Send {
    stream::iter(items).then(|item| async {
        tokio::task::yield_now().await;
        item
    })
}

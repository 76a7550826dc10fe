//! One client's connection: requests are read, carried out and answered one after the other, as Apache Kafka does.

use std::{io, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use kafka_protocol::{
    messages::{ApiKey, ApiVersionsRequest, RequestHeader, ResponseHeader},
    protocol::{Encodable, HeaderVersion},
};
use tokio::net::TcpStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use tracing::{debug, warn};

use super::dispatch;
use crate::node::Node;

/// Where a request came from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) client_id: String,
    pub(crate) host: String,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The body of the answer, and the version of its header.
    Answer(Bytes, i16),
    /// The client asked for none.
    NoAnswer,
    /// The connection ends.
    Close,
}

/// Serves a connection until the client leaves, or sends something that is no request.
pub(crate) async fn serve(stream: TcpStream, node: Arc<Node>) {
    let host = stream.peer_addr().map(|address| address.ip().to_string()).unwrap_or_default();
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "could not turn Nagle's algorithm off");
    }
    let codec = LengthDelimitedCodec::builder().max_frame_length(node.config.max_request_bytes).new_codec();
    let mut framed = Framed::new(stream, codec);
    while let Some(frame) = framed.next().await {
        let answer = match frame {
            Ok(frame) => handle(frame.freeze(), &host, &node).await,
            Err(error) => {
                log_end(&error);
                return;
            }
        };
        match answer {
            Ok(Some(bytes)) => {
                if let Err(error) = framed.send(bytes).await {
                    log_end(&error);
                    return;
                }
            }
            Ok(None) => {}
            Err(Closed) => return,
        }
    }
}

fn log_end(error: &io::Error) {
    match error.kind() {
        io::ErrorKind::InvalidData => warn!(%error, "a connection is closed"),
        _ => debug!(%error, "a connection ended"),
    }
}

/// The connection ends.
pub(crate) struct Closed;

/// The fields every request begins with, whatever the version of its header.
struct Head {
    key: i16,
    version: i16,
    correlation_id: i32,
}

fn head(frame: &Bytes) -> Option<Head> {
    let mut rest = frame.get(..8)?;
    Some(Head { key: rest.get_i16(), version: rest.get_i16(), correlation_id: rest.get_i32() })
}

/// Carries out one frame and frames its answer.
pub(crate) async fn handle(frame: Bytes, host: &str, node: &Arc<Node>) -> Result<Option<Bytes>, Closed> {
    let Some(head) = head(&frame) else {
        warn!("a request is too short");
        return Err(Closed);
    };
    let range = ApiKey::try_from(head.key).ok().and_then(|key| Some((key, node.offer.range(key)?)));
    let outcome = match range {
        Some((key, range)) if (range.min..=range.max).contains(&head.version) => {
            request(key, head.version, frame, host, node).await
        }
        // A client that does not know yet what the broker knows.
        Some((ApiKey::ApiVersions, _)) => dispatch::unsupported_api_versions(node),
        _ => {
            warn!(api = head.key, version = head.version, "a request is not supported, its connection is closed");
            Outcome::Close
        }
    };
    match outcome {
        Outcome::Answer(body, header_version) => frame_answer(head.correlation_id, header_version, &body).map(Some),
        Outcome::NoAnswer => Ok(None),
        Outcome::Close => Err(Closed),
    }
}

async fn request(key: ApiKey, version: i16, mut frame: Bytes, host: &str, node: &Arc<Node>) -> Outcome {
    let header = match anabranch_wire::decode::<RequestHeader>(&mut frame, key.request_header_version(version)) {
        Ok(header) => header,
        Err(error) => {
            warn!(api = ?key, version, %error, "a request's header cannot be read");
            return Outcome::Close;
        }
    };
    let client_id = header.client_id.map(|id| id.as_str().to_owned()).unwrap_or_default();
    let origin = Origin { client_id, host: host.to_owned() };
    dispatch::dispatch(key, version, frame, &origin, node).await
}

fn frame_answer(correlation_id: i32, header_version: i16, body: &Bytes) -> Result<Bytes, Closed> {
    let mut out = BytesMut::with_capacity(body.len() + 8);
    let header = ResponseHeader::default().with_correlation_id(correlation_id);
    if let Err(error) = header.encode(&mut out, header_version) {
        warn!(%error, "an answer's header cannot be written");
        return Err(Closed);
    }
    out.put_slice(body);
    Ok(out.freeze())
}

/// The header version of an answer to a version the broker does not know.
pub(crate) fn fallback_header_version() -> i16 {
    <ApiVersionsRequest as kafka_protocol::protocol::Request>::Response::header_version(0)
}

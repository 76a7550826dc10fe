//! Completions and chunks in OpenAI's shape.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::answer::{Reply, ReplyCall};
use super::request::Call;

/// Most pieces a text is streamed in.
const MAX_PIECES: usize = 48;
/// Least characters of a piece.
const MIN_PIECE: usize = 8;

/// The body of an answer that is not streamed.
pub(super) fn completion(reply: &Reply, call: &Call) -> Value {
    let mut message = json!({ "role": "assistant", "content": content(reply), "refusal": reply.refusal });
    if !reply.tool_calls.is_empty() {
        message["tool_calls"] = reply.tool_calls.iter().map(tool_call).collect();
    }
    let choice = json!({ "index": 0, "message": message, "logprobs": null, "finish_reason": reply.finish });
    let mut body = head("chat.completion", call);
    body["choices"] = json!([choice]);
    body["usage"] = usage(reply);
    body
}

/// The events of a streamed answer, without the `[DONE]` at its end.
pub(super) fn chunks(reply: &Reply, call: &Call) -> Vec<Value> {
    let mut deltas = vec![json!({ "role": "assistant", "content": "" })];
    deltas.extend(pieces(&reply.content).map(|piece| json!({ "content": piece })));
    deltas.extend(reply.refusal.iter().map(|text| json!({ "refusal": text })));
    for (index, tool) in reply.tool_calls.iter().enumerate() {
        let start = json!({ "index": index, "id": tool.id, "type": "function",
            "function": { "name": tool.name, "arguments": "" } });
        let rest = pieces(&tool.arguments).map(|piece| json!({ "index": index, "function": { "arguments": piece } }));
        deltas.extend(std::iter::once(start).chain(rest).map(|piece| json!({ "tool_calls": [piece] })));
    }
    let mut chunks: Vec<Value> = deltas.into_iter().map(|delta| chunk(&delta, None, call)).collect();
    chunks.push(chunk(&json!({}), Some(reply.finish), call));
    if call.include_usage {
        let mut last = head("chat.completion.chunk", call);
        last["choices"] = json!([]);
        last["usage"] = usage(reply);
        chunks.push(last);
    }
    chunks
}

/// The answer of `GET /v1/models`.
pub(super) fn models(names: &[String]) -> Value {
    let one = |name: &str| json!({ "id": name, "object": "model", "created": 0, "owned_by": "anabranch-mock" });
    let data: Vec<Value> = match names {
        [] => vec![one("mock")],
        names => names.iter().map(|name| one(name)).collect(),
    };
    json!({ "object": "list", "data": data })
}

fn chunk(delta: &Value, finish: Option<&str>, call: &Call) -> Value {
    let mut chunk = head("chat.completion.chunk", call);
    chunk["choices"] = json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish }]);
    if call.include_usage {
        chunk["usage"] = Value::Null;
    }
    chunk
}

fn head(object: &str, call: &Call) -> Value {
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    json!({ "id": format!("chatcmpl-mock-{:016x}", call.key), "object": object, "created": created,
        "model": call.model, "system_fingerprint": "anabranch-mock" })
}

/// Null where there is none, as with tool calls and refusals.
fn content(reply: &Reply) -> Value {
    if reply.content.is_empty() { Value::Null } else { json!(reply.content) }
}

fn tool_call(call: &ReplyCall) -> Value {
    json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": call.arguments } })
}

fn usage(reply: &Reply) -> Value {
    json!({ "prompt_tokens": reply.usage.prompt_tokens, "completion_tokens": reply.usage.completion_tokens,
        "total_tokens": reply.usage.total_tokens() })
}

/// The text in a bounded number of pieces, cut between characters.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let length = text.len().div_ceil(MAX_PIECES).max(MIN_PIECE);
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = (length..=rest.len()).find(|end| rest.is_char_boundary(*end)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_text() {
        for text in ["", "short", &"é".repeat(1000), &"x".repeat(5_000_000)] {
            let cut: Vec<&str> = pieces(text).collect();
            assert_eq!(cut.concat(), text);
            assert!(cut.len() <= MAX_PIECES, "{}", cut.len());
        }
    }
}

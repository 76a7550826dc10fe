//! What a call may take, before it is made.

use crate::chat::{ChatRequest, Usage};

/// Bytes of a token: fewer than tokenizers need on average, so that the estimate errs high.
const BYTES_PER_TOKEN: usize = 3;
/// Tokens that each message takes beside its text.
const PER_MESSAGE: u64 = 4;

/// What `request` may take; `output` is what an answer is expected to have where the request does not bound it.
pub(crate) fn estimate(request: &ChatRequest, output: u64) -> Usage {
    let text = |text: &str| tokens(text.len());
    let messages = request.messages.iter().map(|message| {
        let calls: u64 =
            message.tool_calls.iter().map(|call| text(&call.name) + text(&call.arguments.to_string())).sum();
        PER_MESSAGE + text(&message.content) + calls
    });
    let schema = request.response_schema.iter().map(|schema| text(schema.schema.text().get()));
    let tools = request
        .tools
        .iter()
        .map(|tool| PER_MESSAGE + text(&tool.name) + text(&tool.description) + text(tool.parameters.text().get()));
    Usage {
        prompt_tokens: messages.chain(schema).chain(tools).fold(0, u64::saturating_add),
        completion_tokens: request.max_output_tokens.map_or(output, u64::from),
    }
}

fn tokens(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(BYTES_PER_TOKEN)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Message;

    #[test]
    fn it_errs_high() {
        let mut request = ChatRequest::new("m", vec![Message::user("x".repeat(400)), Message::system("")]);
        assert_eq!(estimate(&request, 50), Usage { prompt_tokens: 134 + 8, completion_tokens: 50 });
        request.max_output_tokens = Some(7);
        assert_eq!(estimate(&request, 50).completion_tokens, 7);
    }
}

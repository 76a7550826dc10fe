//! A server over streamable HTTP. Secrets come from variables of our environment, and go nowhere but to its address. A
//! session that is lost is begun anew by [`McpServer`](super::McpServer), which is the one that tries again.

use std::collections::{BTreeMap, HashMap};

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use rmcp::model::ClientConfig;
use rmcp::service::RunningService;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{RoleClient, ServiceExt as _};

use super::{ServerError, client_info};

/// Largest event of a stream.
const MAX_EVENT: usize = 4 * 1024 * 1024;

/// Shakes hands with it.
pub(super) async fn start(
    url: &str,
    bearer_env: Option<&str>,
    headers_env: &BTreeMap<String, String>,
) -> Result<RunningService<RoleClient, ClientConfig>, ServerError> {
    let unusable = |what: &str, why: &dyn std::fmt::Display| ServerError::Config(format!("{what}: {why}"));
    let client =
        reqwest::Client::builder().redirect(Policy::none()).build().map_err(|e| unusable("HTTP client", &e))?;
    let mut headers = HashMap::new();
    for (name, variable) in headers_env {
        let header = HeaderName::try_from(name.as_str()).map_err(|e| unusable(name, &e))?;
        let mut value = HeaderValue::try_from(secret(variable)?).map_err(|e| unusable(name, &e))?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    let mut config = StreamableHttpClientTransportConfig::with_uri(url)
        .custom_headers(headers)
        .max_sse_event_size(MAX_EVENT)
        .reinit_on_expired_session(false);
    if let Some(variable) = bearer_env {
        config = config.auth_header(secret(variable)?);
    }
    let transport = StreamableHttpClientTransport::with_client(client, config);
    client_info().serve(transport).await.map_err(|e| ServerError::Talk(e.to_string()))
}

fn secret(variable: &str) -> Result<String, ServerError> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
    value.ok_or_else(|| ServerError::NoVariable(variable.to_owned()))
}

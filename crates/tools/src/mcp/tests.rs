//! Against a server of a few lines of shell, so that nothing has to be installed. The reference servers are in
//! tests/e2e/tools_mcp.rs.

use serde_json::json;

use super::*;
use crate::error::ToolClass;

/// Answers what it must, and dies when it is asked to echo `die`.
const SERVER: &str = r#"
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case "$line" in
    *'"initialize"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"shell","version":"1"}}}';;
    *tools/list*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"tools":[{"name":"echo","description":"Echoes.","inputSchema":{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}},{"name":"bad name","inputSchema":{"type":"object"}}]}}';;
    *'"die"'*) exit 3;;
    *'"no"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"isError":true,"content":[{"type":"text","text":"no such text"}]}}';;
    *'"env"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"content":[{"type":"text","text":"'"$GIVEN_TO_SERVER|$KEPT_FROM_SERVER|${PATH:+path}"'"}]}}';;
    *'"wait"'*) sleep 60;;
    *tools/call*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"content":[{"type":"text","text":"heard"},{"type":"image","data":"AA==","mimeType":"image/png"}]}}';;
  esac
done
"#;

fn config(env: &[&str]) -> ServerConfig {
    ServerConfig {
        transport: Transport::Stdio {
            command: "sh".to_owned(),
            args: vec!["-c".to_owned(), SERVER.to_owned()],
            env: env.iter().map(|name| (*name).to_owned()).collect(),
        },
        start_timeout: Duration::from_secs(10),
        call_timeout: Duration::from_millis(1500),
    }
}

fn context() -> ToolContext<'static> {
    ToolContext { correlation_id: "case-1", idempotency_key: "key", within: Duration::from_secs(5) }
}

async fn echo(server: &Arc<McpServer>, text: &str) -> Result<Value, ToolError> {
    let tools = server.tools().await?;
    tools[0].call(context(), json!({ "text": text })).await
}

fn is_running(pid: u32) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap()), None).is_ok()
}

async fn is_gone_within(pid: u32, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    while Instant::now() < until {
        if !is_running(pid) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

#[tokio::test]
async fn its_tools_are_listed_and_called() {
    let server = McpServer::new("shell", config(&[]));
    let tools = server.tools().await.unwrap();
    assert_eq!(tools.iter().map(|t| t.name()).collect::<Vec<_>>(), ["echo"], "a bad name is left out");
    assert_eq!(echo(&server, "hello").await.unwrap(), json!("heard\n[an image, image/png: not shown]"));
    let told = echo(&server, "no").await.unwrap_err();
    assert_eq!((told.class(), told.to_string().as_str()), (ToolClass::Told, "no such text"));
    server.end(Duration::from_secs(2)).await;
}

#[tokio::test]
async fn one_that_dies_is_away_for_a_moment_and_then_back() {
    let server = McpServer::new("shell", config(&[]));
    let keeping = tokio::spawn(server.clone().keep());
    echo(&server, "hello").await.unwrap();
    let first = server.pid().await.unwrap();
    let error = echo(&server, "die").await.unwrap_err();
    assert!(matches!(error.class(), ToolClass::Retryable { .. }), "{error}");
    let until = Instant::now() + Duration::from_secs(10);
    let back = loop {
        match echo(&server, "hello").await {
            Ok(answer) => break answer,
            Err(error) => assert!(matches!(error.class(), ToolClass::Retryable { .. }), "{error}"),
        }
        assert!(Instant::now() < until, "it is not started again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(back.to_string().contains("heard"));
    assert_ne!(server.pid().await.unwrap(), first);
    server.end(Duration::from_secs(2)).await;
    keeping.await.unwrap();
}

#[tokio::test]
async fn it_ends_with_us_and_takes_its_children_along() {
    let server = McpServer::new("shell", config(&[]));
    echo(&server, "hello").await.unwrap();
    let pid = server.pid().await.unwrap();
    // It is busy and does not look at its stdin: only killing helps, and its own child must go too.
    let error = echo(&server, "wait").await.unwrap_err();
    assert!(error.to_string().contains("did not answer within 1500 ms"), "{error}");
    server.end(Duration::from_millis(100)).await;
    assert!(is_gone_within(pid, Duration::from_secs(5)).await);
    assert!(echo(&server, "hello").await.is_err(), "nothing is started while the agent drains");
}

#[tokio::test]
async fn it_is_given_the_variables_that_are_named_and_no_others() {
    // CARGO_PKG_NAME is set by cargo for every test; HOME is given always.
    let mut config = config(&["CARGO_PKG_NAME"]);
    let Transport::Stdio { args, .. } = &mut config.transport else { unreachable!() };
    args[1] = SERVER.replace("$GIVEN_TO_SERVER", "$CARGO_PKG_NAME").replace("$KEPT_FROM_SERVER", "$CARGO_PKG_VERSION");
    let server = McpServer::new("shell", config);
    assert_eq!(echo(&server, "env").await.unwrap(), json!("anabranch-tools||path"));
    server.end(Duration::from_secs(2)).await;
}

#[tokio::test]
async fn one_that_cannot_be_started_says_why_and_may_come_later() {
    let missing = Transport::Stdio { command: "/no/such/program".to_owned(), args: Vec::new(), env: Vec::new() };
    let unset = Transport::Stdio { command: "sh".to_owned(), args: Vec::new(), env: vec!["NO_SUCH_VARIABLE_X".into()] };
    let http =
        Transport::Http { url: "http://127.0.0.1:9/mcp".to_owned(), bearer_env: None, headers_env: BTreeMap::new() };
    for (transport, words) in [(missing, "/no/such/program"), (unset, "NO_SUCH_VARIABLE_X"), (http, "is not up")] {
        let server = McpServer::new("x", ServerConfig { transport, ..config(&[]) });
        let error = server.tools().await.err().unwrap();
        assert!(matches!(error.class(), ToolClass::Retryable { after: Some(_) }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        let again = server.tools().await.err().unwrap();
        assert!(again.to_string().contains("is away"), "it is not tried at every call: {again}");
    }
}

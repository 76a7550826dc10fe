//! Asking processes whether they are ready.

use std::time::Duration;

use reqwest::Client;
use tokio::sync::watch;

use super::child::{End, State};

/// Between two questions.
const EVERY: Duration = Duration::from_millis(100);
/// Longest wait for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Asks until the process says that it is ready. `Err` if it has ended instead.
///
/// `why` always holds the latest reason why it is not, and nothing once it is.
pub(super) async fn wait(
    client: &Client,
    mut state: watch::Receiver<State>,
    why: &watch::Sender<String>,
) -> Result<(), End> {
    loop {
        let now = *state.borrow_and_update();
        let reason = match now {
            State::Ended(end) => return Err(end),
            State::Starting => "it is being started".to_owned(),
            State::Running { port } => match ask(client, port).await {
                Ok(()) => {
                    why.send_replace(String::new());
                    return Ok(());
                }
                Err(reason) => reason,
            },
        };
        why.send_replace(reason);
        // A change of state is worth asking at once; a closed channel has said its last state.
        let _ = tokio::time::timeout(EVERY, state.changed()).await;
    }
}

async fn ask(client: &Client, port: u16) -> Result<(), String> {
    let request = client.get(format!("http://127.0.0.1:{port}/ready")).timeout(ANSWER_WITHIN);
    let response = request.send().await.map_err(|_| "its probes do not answer yet".to_owned())?;
    if response.status().is_success() {
        return Ok(());
    }
    let said = response.text().await.unwrap_or_default();
    Err(crate::console::plain(said.trim()).chars().take(120).collect())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers each request with the next of these.
    async fn answer(listener: TcpListener, answers: Vec<&'static str>) {
        for answer in answers {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = connection.read(&mut request).await.unwrap();
            let text = format!("HTTP/1.1 {answer}\r\nConnection: close\r\nContent-Length: 6\r\n\r\nhello\n");
            connection.write_all(text.as_bytes()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn it_waits_for_a_yes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(answer(listener, vec!["503 Service Unavailable", "200 OK"]));
        let (_state, receiver) = watch::channel(State::Running { port });
        let (why, mut reasons) = watch::channel(String::new());
        let client = Client::builder().no_proxy().build().unwrap();
        let (ready, ()) = tokio::join!(wait(&client, receiver, &why), async {
            let said = reasons.wait_for(|why| !why.is_empty()).await.unwrap();
            assert_eq!(&**said, "hello");
        });
        assert_eq!(ready, Ok(()));
        assert_eq!(&**why.borrow(), "");
        server.await.unwrap();
    }

    #[tokio::test]
    async fn it_stops_waiting_for_what_has_ended() {
        let (state, receiver) = watch::channel(State::Starting);
        let (why, _reasons) = watch::channel(String::new());
        let client = Client::builder().no_proxy().build().unwrap();
        let waiting = wait(&client, receiver, &why);
        state.send_replace(State::Ended(End::Refused));
        assert_eq!(waiting.await, Err(End::Refused));
    }
}

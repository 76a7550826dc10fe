//! SASL on our own connections: SaslHandshake, then SaslAuthenticate until the mechanism is done. The mechanisms are
//! rsasl's, which rskafka uses as well.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use kafka_protocol::{
    messages::{SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest},
    protocol::StrBytes,
};
use rsasl::{
    callback::{Context, Request, SessionCallback, SessionData},
    config::SASLConfig,
    mechname::Mechname,
    prelude::{SASLClient, Session, SessionError},
    property::{AuthId, OAuthBearerKV, OAuthBearerToken, Password},
};
use secrecy::{ExposeSecret, SecretString};

use super::{
    SecurityError,
    env::{TOKEN_FILE, secret_file},
};
use crate::{
    api::Api,
    connection::Connection,
    error::{Error, ErrorKind},
};

/// No mechanism here takes more than two rounds; a broker that goes on is not believed.
const MAX_ROUNDS: usize = 8;
/// RFC 7628, 3.2.3: what a client answers when its token is refused, to be told why.
const TELL_ME_WHY: &[u8] = b"\x01";

/// A user and what proves it.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(super) username: String,
    pub(super) password: SecretString,
}

/// Where a token comes from.
#[derive(Clone)]
pub(crate) enum Token {
    Fixed(SecretString),
    /// Read at every authentication: whoever renews it replaces the file.
    File(PathBuf),
}

impl Token {
    pub(super) async fn get(&self) -> Result<SecretString, SecurityError> {
        match self {
            Self::Fixed(token) => Ok(token.clone()),
            Self::File(file) => {
                let file = file.clone();
                let read = tokio::task::spawn_blocking(move || secret_file(TOKEN_FILE, &file));
                read.await.map_err(|_| SecurityError::new(TOKEN_FILE, "reading the file it names was cut short"))?
            }
        }
    }
}

/// The hash of SCRAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScramHash {
    Sha256,
    Sha512,
}

/// A mechanism with what it needs.
#[derive(Clone)]
pub(crate) enum Sasl {
    Plain(Credentials),
    Scram(ScramHash, Credentials),
    OAuthBearer(Token),
}

impl Sasl {
    /// Its name in the registry of IANA.
    pub(crate) fn mechanism(&self) -> &'static str {
        match self {
            Self::Plain(_) => "PLAIN",
            Self::Scram(ScramHash::Sha256, _) => "SCRAM-SHA-256",
            Self::Scram(ScramHash::Sha512, _) => "SCRAM-SHA-512",
            Self::OAuthBearer(_) => "OAUTHBEARER",
        }
    }

    /// Whether the broker, and whoever listens, is sent the secret itself.
    pub(super) fn sends_secret(&self) -> bool {
        !matches!(self, Self::Scram(..))
    }

    async fn answers(&self) -> Result<Answers, SecurityError> {
        Ok(match self {
            Self::Plain(credentials) | Self::Scram(_, credentials) => Answers::Credentials(credentials.clone()),
            Self::OAuthBearer(token) => Answers::Token(token.get().await?),
        })
    }

    fn session(&self, answers: Answers) -> Result<Session, Error> {
        let unusable = |e: &dyn std::fmt::Display| refused(format!("{} cannot begin: {e}", self.mechanism()));
        let config: Arc<SASLConfig> =
            SASLConfig::builder().with_default_mechanisms().with_callback(answers).map_err(|e| unusable(&e))?;
        let name = Mechname::parse(self.mechanism().as_bytes()).map_err(|e| unusable(&e))?;
        SASLClient::new(config).start_suggested(&[name]).map_err(|e| unusable(&e))
    }
}

/// What a mechanism asks for.
enum Answers {
    Credentials(Credentials),
    Token(SecretString),
}

impl SessionCallback for Answers {
    fn callback(&self, _: &SessionData, _: &Context<'_>, request: &mut Request<'_>) -> Result<(), SessionError> {
        match self {
            Self::Credentials(credentials) => request
                .satisfy::<AuthId>(&credentials.username)?
                .satisfy::<Password>(credentials.password.expose_secret().as_bytes())?,
            Self::Token(token) => {
                request.satisfy::<OAuthBearerKV>(&[])?.satisfy::<OAuthBearerToken>(token.expose_secret())?
            }
        };
        Ok(())
    }
}

fn refused(why: impl Into<String>) -> Error {
    Error::new(SaslAuthenticateRequest::NAME, ErrorKind::Security(why.into()))
}

/// Authenticates a connection. Returns how long the broker takes the session to last (KIP-368), if it ends at all.
pub(crate) async fn authenticate(
    connection: &Connection,
    sasl: &Sasl,
    limit: Duration,
) -> Result<Option<Duration>, Error> {
    handshake(connection, sasl, limit).await?;
    let answers = sasl.answers().await.map_err(|e| refused(e.to_string()))?;
    let mut session = sasl.session(answers)?;
    let mut lifetime_ms = 0;
    let mut received: Option<Bytes> = None;
    for _ in 0..MAX_ROUNDS {
        let is_token = matches!(sasl, Sasl::OAuthBearer(_));
        let (message, finished) = match received.as_deref() {
            // In words of its own only: what rsasl would make of it depends on a callback.
            Some(complaint) if is_token && !complaint.is_empty() => (Some(TELL_ME_WHY.to_vec()), false),
            _ => step(&mut session, received.as_deref())?,
        };
        if let Some(message) = message {
            let answer = send(connection, message, limit).await?;
            lifetime_ms = answer.session_lifetime_ms;
            received = Some(answer.auth_bytes);
        }
        if finished {
            return Ok(u64::try_from(lifetime_ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis));
        }
    }
    Err(refused("the broker does not come to an end with it"))
}

/// What is to be sent next, if anything, and whether that is all.
fn step(session: &mut Session, received: Option<&[u8]>) -> Result<(Option<Vec<u8>>, bool), Error> {
    let mut message = Vec::new();
    let state = session.step(received, &mut message).map_err(|e| match received {
        // The broker has to prove that it knows the password, too (RFC 5802).
        Some(_) => refused(format!("the broker's proof is wrong: {e}")),
        None => refused(format!("it cannot begin: {e}")),
    })?;
    Ok((state.has_sent_message().then_some(message), state.is_finished()))
}

async fn handshake(connection: &Connection, sasl: &Sasl, limit: Duration) -> Result<(), Error> {
    let mechanism = StrBytes::from_static_str(sasl.mechanism());
    let answer = connection.call(limit, |_| SaslHandshakeRequest::default().with_mechanism(mechanism)).await?;
    if answer.error_code == 0 {
        return Ok(());
    }
    let offered: Vec<&str> = answer.mechanisms.iter().map(|m| m.as_str()).take(16).collect();
    let message = format!("{} is asked for; the broker offers {}", sasl.mechanism(), offered.join(", "));
    Err(Error::broker_code(SaslHandshakeRequest::NAME, answer.error_code, Some(message)))
}

async fn send(connection: &Connection, message: Vec<u8>, limit: Duration) -> Result<SaslAuthenticateResponse, Error> {
    let message = Bytes::from(message);
    let answer = connection.call(limit, |_| SaslAuthenticateRequest::default().with_auth_bytes(message)).await?;
    match answer.error_code {
        0 => Ok(answer),
        code => {
            let words = answer.error_message.map(|m| m.to_string());
            Err(Error::broker_code(SaslAuthenticateRequest::NAME, code, words))
        }
    }
}

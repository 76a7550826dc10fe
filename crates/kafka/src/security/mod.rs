//! Encryption and authentication, from one configuration for both clients: the project's own requests and rskafka.
//!
//! | `ANABRANCH_KAFKA_…` | meaning |
//! |---|---|
//! | `SECURITY_PROTOCOL` | `plaintext` (the default), `ssl`, `sasl_plaintext` or `sasl_ssl` |
//! | `SSL_CA_FILE` | PEM: the authorities trusted for brokers; default: those of the operating system |
//! | `SSL_CERTIFICATE_FILE`, `SSL_KEY_FILE` | PEM: this client's certificate chain and its key (mutual TLS) |
//! | `SASL_MECHANISM` | `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER` |
//! | `SASL_USERNAME` | for PLAIN and SCRAM |
//! | `SASL_PASSWORD` or `SASL_PASSWORD_FILE` | for PLAIN and SCRAM |
//! | `OAUTH_TOKEN` or `OAUTH_TOKEN_FILE` | for OAUTHBEARER; the file is read again at every authentication |
//!
//! Secrets are in no log, no error and no `Debug` output. An error names the variable and never its value. The host
//! name in a broker's certificate is always verified.

mod env;
mod rskafka;
mod sasl;
mod tls;

use std::fmt;

use crate::transport::{PlainTcp, Transport};
pub(crate) use rskafka::SecureBuilder;
pub(crate) use sasl::authenticate;
use sasl::{Credentials, Sasl};
use tls::Tls;
pub(crate) use tls::refusal;

/// What can be said wrong in the configuration of [`SecurityConfig`]. It names the variable and never its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {what}")]
pub struct SecurityError {
    variable: &'static str,
    what: String,
}

impl SecurityError {
    fn new(variable: &'static str, what: impl Into<String>) -> Self {
        Self { variable, what: what.into() }
    }

    /// The environment variable that has to be mended.
    pub fn variable(&self) -> &'static str {
        self.variable
    }
}

/// How connections are encrypted and authenticated. Cheap to clone; its `Debug` output has no secrets.
#[derive(Clone, Default)]
pub struct SecurityConfig {
    tls: Option<Tls>,
    sasl: Option<Sasl>,
}

impl SecurityConfig {
    /// The variables, for `--help`.
    pub const HELP: &'static str = "\
TLS and SASL towards the brokers, in the environment:
  ANABRANCH_KAFKA_SECURITY_PROTOCOL     plaintext (the default), ssl, sasl_plaintext or sasl_ssl
  ANABRANCH_KAFKA_SSL_CA_FILE           PEM file: authorities trusted for brokers; default: the operating system's
  ANABRANCH_KAFKA_SSL_CERTIFICATE_FILE  PEM file: this client's certificate, for mutual TLS
  ANABRANCH_KAFKA_SSL_KEY_FILE          PEM file: its key
  ANABRANCH_KAFKA_SASL_MECHANISM        PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER
  ANABRANCH_KAFKA_SASL_USERNAME         for PLAIN and SCRAM
  ANABRANCH_KAFKA_SASL_PASSWORD         or, better, a file that holds it: ANABRANCH_KAFKA_SASL_PASSWORD_FILE
  ANABRANCH_KAFKA_OAUTH_TOKEN_FILE      for OAUTHBEARER, read at every authentication; or ANABRANCH_KAFKA_OAUTH_TOKEN";

    /// Neither encryption nor authentication.
    pub fn plaintext() -> Self {
        Self::default()
    }

    /// The configuration that the environment asks for. Certificates and passwords are read now; a token file is
    /// checked to be there, and read at every authentication.
    ///
    /// # Errors
    /// The first variable that cannot be used: unknown, missing beside another, or naming a file that is not what it
    /// should be.
    pub fn from_env() -> Result<Self, SecurityError> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// As [`from_env`](Self::from_env), from any source of values by the variables' names.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, SecurityError> {
        env::read(&lookup)
    }

    /// Kafka's name for it, as in `security.protocol`.
    pub fn protocol(&self) -> &'static str {
        match (&self.tls, &self.sasl) {
            (None, None) => "PLAINTEXT",
            (Some(_), None) => "SSL",
            (None, Some(_)) => "SASL_PLAINTEXT",
            (Some(_), Some(_)) => "SASL_SSL",
        }
    }

    /// What a person should know about this choice: secrets or records that travel unencrypted.
    pub fn warning(&self) -> Option<&'static str> {
        match (&self.tls, &self.sasl) {
            (None, Some(sasl)) if sasl.sends_secret() => {
                Some("SASL without TLS: the password or token travels in clear; use sasl_ssl")
            }
            (None, Some(_)) => Some("SASL without TLS: records travel in clear; use sasl_ssl"),
            _ => None,
        }
    }

    /// What carries bytes to brokers under this configuration.
    pub(crate) fn transport(&self) -> std::sync::Arc<dyn Transport> {
        match &self.tls {
            Some(tls) => std::sync::Arc::new(tls.clone()),
            None => std::sync::Arc::new(PlainTcp),
        }
    }

    pub(crate) fn uses_tls(&self) -> bool {
        self.tls.is_some()
    }

    pub(crate) fn sasl(&self) -> Option<&Sasl> {
        self.sasl.as_ref()
    }

    /// Why a connection may have ended before the broker's first answer, as far as TLS knows: a reason no retry mends.
    pub(crate) fn closed_at_once(&self) -> Option<&'static str> {
        self.tls.as_ref().and_then(Tls::closed_at_once)
    }
}

impl fmt::Debug for SecurityConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mechanism = self.sasl.as_ref().map(Sasl::mechanism);
        f.debug_struct("SecurityConfig")
            .field("protocol", &self.protocol())
            .field("mechanism", &mechanism)
            .finish_non_exhaustive()
    }
}

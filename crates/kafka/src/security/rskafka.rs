//! The same configuration for rskafka.
//!
//! It can do every mechanism that we can. It keeps a password as a plain `String` of its own, which nothing here prints.
//! It does not authenticate again before a session ends (KIP-368): the broker then closes the connection at the next
//! request, without having read it, and rskafka connects anew. It takes a broker's host to end at the first colon, so
//! that an IPv6 address cannot be verified: see [`Cluster::rskafka_reaches`](crate::cluster::Cluster::rskafka_reaches).

use std::sync::Arc;

use ::rskafka::client::{ClientBuilder, Credentials as RsCredentials, OauthBearerCredentials, SaslConfig};
use secrecy::ExposeSecret;

use super::{
    Credentials, SecurityConfig,
    sasl::{Sasl, ScramHash, Token},
};

/// What configures a client as [`SecurityConfig`] says.
pub(crate) trait SecureBuilder {
    fn secure(self, security: &SecurityConfig) -> Self;
}

impl SecureBuilder for ClientBuilder {
    fn secure(mut self, security: &SecurityConfig) -> Self {
        if let Some(tls) = &security.tls {
            self = self.tls_config(tls.client.clone());
        }
        match &security.sasl {
            Some(sasl) => self.sasl_config(to_rskafka(sasl)),
            None => self,
        }
    }
}

fn to_rskafka(sasl: &Sasl) -> SaslConfig {
    match sasl {
        Sasl::Plain(c) => SaslConfig::Plain(exposed(c)),
        Sasl::Scram(ScramHash::Sha256, c) => SaslConfig::ScramSha256(exposed(c)),
        Sasl::Scram(ScramHash::Sha512, c) => SaslConfig::ScramSha512(exposed(c)),
        Sasl::OAuthBearer(token) => SaslConfig::Oauthbearer(bearer(token.clone())),
    }
}

fn exposed(credentials: &Credentials) -> RsCredentials {
    RsCredentials::new(credentials.username.clone(), credentials.password.expose_secret().to_owned())
}

fn bearer(token: Token) -> OauthBearerCredentials {
    let callback = move || {
        let token = token.clone();
        let read = async move {
            let token = token.get().await?;
            Ok(token.expose_secret().to_owned())
        };
        Box::pin(read) as _
    };
    OauthBearerCredentials { callback: Arc::new(callback), authz_id: None, bearer_kvs: Vec::new() }
}

//! TLS against what may stand at a broker's port, and what a person is told. SASL and ACLs need a real broker:
//! `tests/e2e/security.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{path::PathBuf, sync::Arc, time::Duration};

use anabranch_broker::{Broker, BrokerConfig};
use anabranch_kafka::{Cluster, ClusterConfig, Error, ErrorKind, SecurityConfig, SecurityError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const LIMIT: Duration = Duration::from_secs(5);

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
struct Identity {
    chain: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    fn issue(&self, host: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        change(&mut params);
        Identity { chain: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }
}

/// The embedded broker behind TLS. What it advertises is without TLS, so that only the bootstrap address is asked.
struct Front {
    address: String,
    folder: tempfile::TempDir,
    _broker: Broker,
}

impl Front {
    async fn start(identity: &Identity, clients: Option<&Authority>) -> Self {
        let broker = Broker::start(BrokerConfig::default()).await.unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let acceptor = TlsAcceptor::from(Arc::new(server(identity, clients)));
        let behind = broker.bootstrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, behind) = (acceptor.clone(), behind.clone());
                tokio::spawn(async move {
                    let Ok(mut front) = acceptor.accept(stream).await else { return };
                    let mut back = TcpStream::connect(behind).await.unwrap();
                    drop(tokio::io::copy_bidirectional(&mut front, &mut back).await);
                });
            }
        });
        Self { address, folder: tempfile::tempdir().unwrap(), _broker: broker }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The configuration with these PEM texts under the ends of the variables' names.
    fn security(&self, files: &[(&str, &str)]) -> Result<SecurityConfig, SecurityError> {
        let files: Vec<(String, PathBuf)> = files
            .iter()
            .map(|(name, text)| (format!("ANABRANCH_KAFKA_SSL_{name}_FILE"), self.file(&format!("{name}.pem"), text)))
            .collect();
        SecurityConfig::from_lookup(|asked| match asked {
            "ANABRANCH_KAFKA_SECURITY_PROTOCOL" => Some("ssl".to_owned()),
            _ => files.iter().find(|(name, _)| name == asked).map(|(_, path)| path.to_str().unwrap().to_owned()),
        })
    }

    async fn ping(&self, security: SecurityConfig) -> Result<(), Error> {
        ping(&self.address, security).await
    }
}

fn server(identity: &Identity, clients: Option<&Authority>) -> ServerConfig {
    let chain = CertificateDer::pem_slice_iter(identity.chain.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.issuer.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    builder.with_single_cert(chain, key).unwrap()
}

async fn ping(address: &str, security: SecurityConfig) -> Result<(), Error> {
    let config = ClusterConfig::new(vec![address.to_owned()], "test").with_security(security);
    Cluster::new(config).ping(LIMIT).await
}

fn is_refused(result: Result<(), Error>, words: &[&str]) {
    let error = result.expect_err("this must not work");
    assert!(matches!(error.kind(), ErrorKind::Security(_)), "{error}");
    assert!(error.is_fatal() && !error.is_retryable() && !error.may_have_happened());
    for word in words {
        assert!(error.to_string().contains(word), "{word} is missing: {error}");
    }
}

#[tokio::test]
async fn a_trusted_broker_is_reached() {
    let ca = Authority::new("ours");
    let front = Front::start(&ca.issue("127.0.0.1", |_| {}), None).await;
    front.ping(front.security(&[("CA", &ca.issuer.pem())]).unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_broker_that_is_not_trusted_is_refused_for_good() {
    let (ca, other) = (Authority::new("ours"), Authority::new("theirs"));
    let front = Front::start(&ca.issue("127.0.0.1", |_| {}), None).await;
    is_refused(
        front.ping(front.security(&[("CA", &other.issuer.pem())]).unwrap()).await,
        &["UnknownIssuer", "SSL_CA_FILE"],
    );
}

#[tokio::test]
async fn self_signed_expired_and_misnamed_certificates_are_refused_for_good() {
    let ca = Authority::new("ours");
    let expired = ca.issue("127.0.0.1", |params| {
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let misnamed = ca.issue("kafka.example", |_| {});
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let self_signed = Identity { chain: own.pem(), key: key.serialize_pem() };
    for (identity, word) in [(expired, "expired"), (misnamed, "kafka.example"), (self_signed, "UnknownIssuer")] {
        let front = Front::start(&identity, None).await;
        is_refused(front.ping(front.security(&[("CA", &ca.issuer.pem())]).unwrap()).await, &[word]);
    }
}

#[tokio::test]
async fn mutual_tls_wants_a_certificate_that_the_broker_trusts() {
    let (ca, other) = (Authority::new("ours"), Authority::new("theirs"));
    let front = Front::start(&ca.issue("127.0.0.1", |_| {}), Some(&ca)).await;
    let root = ca.issuer.pem();
    let client = ca.issue("identity", |_| {});
    let with = |i: &Identity| front.security(&[("CA", &root), ("CERTIFICATE", &i.chain), ("KEY", &i.key)]).unwrap();
    front.ping(with(&client)).await.unwrap();
    is_refused(front.ping(front.security(&[("CA", &root)]).unwrap()).await, &["client certificate"]);
    let stranger = other.issue("identity", |_| {});
    let error = front.ping(with(&stranger)).await.expect_err("the broker does not know who signed it");
    println!("a certificate of another authority: {error}");
}

#[tokio::test]
async fn a_key_must_be_readable_and_belong_to_its_certificate() {
    let ca = Authority::new("ours");
    let (one, two) = (ca.issue("one", |_| {}), ca.issue("two", |_| {}));
    let front = Front::start(&one, None).await;
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (key, word) in
        [(two.key.as_str(), "not that of"), (encrypted, "passphrase"), (one.chain.as_str(), "no private")]
    {
        let error = front.security(&[("CERTIFICATE", &one.chain), ("KEY", key)]).unwrap_err();
        assert_eq!(error.variable(), "ANABRANCH_KAFKA_SSL_KEY_FILE");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[tokio::test]
async fn tls_and_no_tls_do_not_hang_on_each_other() {
    let ca = Authority::new("ours");
    let front = Front::start(&ca.issue("127.0.0.1", |_| {}), None).await;
    is_refused(ping(&front.address, SecurityConfig::plaintext()).await, &["speaks TLS", "SECURITY_PROTOCOL"]);
    let broker = Broker::start(BrokerConfig::default()).await.unwrap();
    let trusting = front.security(&[("CA", &ca.issuer.pem())]).unwrap();
    let error = ping(&broker.bootstrap(), trusting).await.expect_err("it speaks no TLS");
    println!("TLS to a port without: {error}");
}

//! TLS with rustls, for both clients.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::future::BoxFuture;
use rustls::{
    ClientConfig, RootCertStore, SignatureScheme,
    client::ResolvesClientCert,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    sign::CertifiedKey,
};
use tokio_rustls::TlsConnector;

use super::{
    SecurityError,
    env::{CA_FILE, CERTIFICATE_FILE, KEY_FILE, read_file},
};
use crate::transport::{BoxStream, Transport, tcp};

/// The PEM files of a client.
pub(super) struct TlsFiles {
    pub(super) ca: Option<PathBuf>,
    /// Certificate chain and key.
    pub(super) client: Option<(PathBuf, PathBuf)>,
}

/// TLS over TCP. The name in the broker's certificate is verified, and sent (SNI) where it is a name.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) client: Arc<ClientConfig>,
    /// Present when there is no client certificate.
    asked: Option<Arc<NoCertificate>>,
}

impl Tls {
    pub(super) fn load(files: &TlsFiles) -> Result<Self, SecurityError> {
        // Named outright: with two providers in one program rustls has no default.
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| SecurityError::new(CA_FILE, format!("TLS cannot be set up: {e}")))?
            .with_root_certificates(roots(files)?);
        let Some((certificate, key)) = &files.client else {
            let asked = Arc::new(NoCertificate::default());
            let client = Arc::new(builder.with_client_cert_resolver(asked.clone()));
            return Ok(Self { client, asked: Some(asked) });
        };
        let chain = certificates(CERTIFICATE_FILE, certificate)?;
        let key = CertifiedKey::from_der(chain, private_key(key)?, &provider).map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => {
                SecurityError::new(KEY_FILE, format!("the key is not that of {CERTIFICATE_FILE}"))
            }
            _ => SecurityError::new(KEY_FILE, "the key in the file it names cannot be used"),
        })?;
        let client = builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
        Ok(Self { client: Arc::new(client), asked: None })
    }

    pub(super) fn closed_at_once(&self) -> Option<&'static str> {
        self.asked.as_ref().filter(|a| a.0.load(Ordering::Relaxed)).map(|_| {
            "the broker asks for a client certificate, and closed the connection without one; set \
             ANABRANCH_KAFKA_SSL_CERTIFICATE_FILE and ANABRANCH_KAFKA_SSL_KEY_FILE"
        })
    }
}

/// Remembers that a broker asked for the certificate that is not there: in TLS 1.3 its refusal comes after the
/// handshake, and is often overtaken by the end of the connection.
#[derive(Debug, Default)]
struct NoCertificate(AtomicBool);

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

fn roots(files: &TlsFiles) -> Result<RootCertStore, SecurityError> {
    let mut store = RootCertStore::empty();
    let unusable = |_| SecurityError::new(CA_FILE, "a certificate in the file it names cannot be used");
    match &files.ca {
        Some(file) => {
            for certificate in certificates(CA_FILE, file)? {
                store.add(certificate).map_err(unusable)?;
            }
        }
        None => {
            // Some of a system's certificates are often unusable; the others count.
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if store.is_empty() {
                return Err(SecurityError::new(CA_FILE, "is not set, and this system has no trusted certificates"));
            }
        }
    }
    Ok(store)
}

/// All certificates of a PEM file. What is wrong with it is told without quoting it: it may be a key.
fn certificates(variable: &'static str, file: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, SecurityError> {
    let bytes = read_file(variable, file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|_| SecurityError::new(variable, "the file it names is no PEM file"))?;
    if found.is_empty() {
        return Err(SecurityError::new(variable, "the file it names has no certificate in PEM form"));
    }
    Ok(found)
}

fn private_key(file: &std::path::Path) -> Result<PrivateKeyDer<'static>, SecurityError> {
    let bytes = read_file(KEY_FILE, file)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        let encrypted = String::from_utf8_lossy(&bytes).contains("ENCRYPTED");
        let what = if encrypted {
            "the key in the file it names is encrypted; write it without a passphrase, readable by this user only"
        } else {
            "the file it names has no private key in PEM form"
        };
        SecurityError::new(KEY_FILE, what)
    })
}

/// The host of `host:port`, for the broker's certificate.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}

impl Transport for Tls {
    fn name(&self) -> &'static str {
        "tls"
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let name = ServerName::try_from(host(address).to_owned())
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
            let connecting = TlsConnector::from(self.client.clone()).connect(name, tcp(address).await?);
            let stream = connecting.await.map_err(explain)?;
            Ok(Box::pin(stream) as BoxStream)
        })
    }

    fn rskafka_reaches(&self) -> bool {
        true
    }
}

/// A broker without TLS on its port takes the greeting for nonsense and hangs up.
fn explain(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(
            error.kind(),
            "closed by the broker during the TLS handshake; does it speak TLS on this port?",
        ),
        _ => error,
    }
}

/// What TLS has against the other side, or it against us, where no retry mends it. `None`: something else went wrong.
pub(crate) fn refusal(error: &io::Error) -> Option<String> {
    use rustls::{AlertDescription as Alert, CertificateError as Cert, Error as Tls};
    let tls = error.get_ref()?.downcast_ref::<Tls>()?;
    let (what, help) = match tls {
        Tls::InvalidCertificate(Cert::UnknownIssuer) => {
            ("nobody trusted here signed the broker's certificate", "; ANABRANCH_KAFKA_SSL_CA_FILE says who is trusted")
        }
        Tls::InvalidCertificate(Cert::Expired | Cert::ExpiredContext { .. }) => {
            ("the broker's certificate has expired", "")
        }
        Tls::InvalidCertificate(_) => ("the broker's certificate is refused", ""),
        Tls::InvalidMessage(_) => ("the broker does not speak TLS on this port", ""),
        Tls::PeerIncompatible(_) => ("the broker and this client share no way of TLS", ""),
        Tls::AlertReceived(Alert::CertificateRequired) => {
            ("the broker asks for a client certificate", "; set ANABRANCH_KAFKA_SSL_CERTIFICATE_FILE")
        }
        // What brokers and what stands before them answer to a certificate, or its lack, before TLS 1.3 as well.
        Tls::AlertReceived(
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::HandshakeFailure
            | Alert::ProtocolVersion
            | Alert::UnrecognisedName,
        ) => ("the broker refuses this client", "; its certificate is ANABRANCH_KAFKA_SSL_CERTIFICATE_FILE's"),
        _ => return None,
    };
    Some(format!("TLS: {what}: {tls}{help}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificates_name_is_the_host() {
        for (address, expected) in [("kafka:9093", "kafka"), ("[::1]:9093", "::1"), ("127.0.0.1:1", "127.0.0.1")] {
            assert_eq!(host(address), expected);
            ServerName::try_from(host(address).to_owned()).unwrap();
        }
    }

    #[test]
    fn only_tls_refuses() {
        assert_eq!(refusal(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
        let expired = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        let told = refusal(&io::Error::new(io::ErrorKind::InvalidData, expired)).unwrap();
        assert!(told.contains("expired"), "{told}");
        let stranger = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let told = refusal(&io::Error::new(io::ErrorKind::InvalidData, stranger)).unwrap();
        assert!(told.contains("ANABRANCH_KAFKA_SSL_CA_FILE"), "{told}");
    }
}

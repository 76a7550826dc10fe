//! An Apache Kafka with TLS, SASL and ACLs, its certificates made here, and who may do what.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anabranch_e2e::workspace;
use anabranch_kafka::{Cluster, ClusterConfig, SecurityConfig};
use anabranch_testkit::process::free_port;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// A session ends after this; what runs longer must have authenticated again.
pub(crate) const SESSION_MS: u64 = 5_000;

/// The password of a user; easy to look for in a log.
pub(crate) fn password(user: &str) -> String {
    format!("s3cret-of-{user}-9f31")
}

/// A running Kafka. Stopped when dropped.
pub(crate) struct Secured {
    /// Everyone here is a super user; for preparing.
    pub(crate) plain: String,
    /// SASL over TLS.
    pub(crate) sasl_ssl: String,
    /// Mutual TLS.
    pub(crate) ssl: String,
    folder: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name = Default::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl Secured {
    /// Starts it, with SCRAM users of these names (user of SCRAM-SHA-256 if it ends in `-256`, else of SCRAM-SHA-512).
    /// `None`, with a reason printed, where there is no Java.
    pub(crate) fn start(users: &[&str]) -> Option<Self> {
        if let Err(error) = Command::new("java").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status() {
            assert!(std::env::var_os("CI").is_none(), "in CI this must not be skipped: no java: {error}");
            println!("skipped: no java: {error}");
            return None;
        }
        let [sasl_ssl, ssl] = [(), ()].map(|()| free_port().unwrap());
        let mut kafka = Self {
            plain: String::new(),
            sasl_ssl: format!("localhost:{sasl_ssl}"),
            ssl: format!("localhost:{ssl}"),
            folder: tempfile::tempdir().unwrap(),
            authority: authority("ours"),
        };
        kafka.write("ca.pem", &kafka.authority.pem());
        kafka.write("stranger.pem", &authority("theirs").pem());
        let (chain, key) = kafka.issue("broker", &["localhost"]);
        kafka.write("broker.pem", &format!("{key}{chain}"));
        let mut start = Command::new(workspace().join("tests/kafka/start.sh"));
        start.arg("--pid-file").arg(kafka.path("pid")).arg("--data-dir").arg(kafka.path("data"));
        start.args(["--listener", &format!("SASL_SSL={sasl_ssl}"), "--listener", &format!("SSL={ssl}")]);
        for setting in kafka.settings() {
            start.args(["--set", &setting]);
        }
        for user in users {
            let mechanism = if user.ends_with("-256") { "SCRAM-SHA-256" } else { "SCRAM-SHA-512" };
            start.args(["--add-scram", &format!("{mechanism}=[name={user},password={}]", password(user))]);
        }
        let output = start.stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        kafka.plain = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        Some(kafka)
    }

    fn settings(&self) -> Vec<String> {
        let login = "org.apache.kafka.common.security";
        let sasl = "listener.name.sasl_ssl";
        let (broker, ca) = (self.path("broker.pem"), self.path("ca.pem"));
        vec![
            "ssl.keystore.type=PEM".into(),
            format!("ssl.keystore.location={}", broker.display()),
            "ssl.truststore.type=PEM".into(),
            format!("ssl.truststore.location={}", ca.display()),
            "listener.name.ssl.ssl.client.auth=required".into(),
            "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER".into(),
            format!(
                "{sasl}.plain.sasl.jaas.config={login}.plain.PlainLoginModule required user_plain=\"{}\";",
                password("plain")
            ),
            format!("{sasl}.scram-sha-256.sasl.jaas.config={login}.scram.ScramLoginModule required;"),
            format!("{sasl}.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;"),
            format!(
                "{sasl}.oauthbearer.sasl.jaas.config={login}.oauthbearer.OAuthBearerLoginModule required \
                 unsecuredLoginStringClaim_sub=\"broker\";"
            ),
            format!("connections.max.reauth.ms={SESSION_MS}"),
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer".into(),
            // Only the plain listener has anonymous users.
            "super.users=User:ANONYMOUS".into(),
        ]
    }

    /// A file in the folder of this broker.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A certificate for a common name, and its key, in PEM.
    pub(crate) fn issue(&self, common_name: &str, hosts: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(hosts.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = Default::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        (params.signed_by(&key, &self.authority).unwrap().pem(), key.serialize_pem())
    }

    /// Environment for TLS, with this file for the authorities.
    fn tls(&self, protocol: &str, ca: &str) -> Vec<(String, String)> {
        env(&[("SECURITY_PROTOCOL", protocol), ("SSL_CA_FILE", self.path(ca).to_str().unwrap())])
    }

    /// Environment for a user of SCRAM-SHA-512, whose password is in a file.
    pub(crate) fn scram(&self, user: &str) -> Vec<(String, String)> {
        let file = self.write(&format!("{user}.password"), &format!("{}\n", password(user)));
        let mine = [
            ("SASL_MECHANISM", "SCRAM-SHA-512"),
            ("SASL_USERNAME", user),
            ("SASL_PASSWORD_FILE", file.to_str().unwrap()),
        ];
        [self.tls("sasl_ssl", "ca.pem"), env(&mine)].concat()
    }

    /// Environment for a user with a password.
    pub(crate) fn user(&self, mechanism: &str, user: &str, password: &str) -> Vec<(String, String)> {
        let mine = [("SASL_MECHANISM", mechanism), ("SASL_USERNAME", user), ("SASL_PASSWORD", password)];
        [self.tls("sasl_ssl", "ca.pem"), env(&mine)].concat()
    }

    /// Environment for OAUTHBEARER with an unsecured token, which this broker takes, in a file.
    pub(crate) fn bearer(&self, token: &str) -> Vec<(String, String)> {
        let file = self.write("token", &format!("{token}\n"));
        let mine = [("SASL_MECHANISM", "OAUTHBEARER"), ("OAUTH_TOKEN_FILE", file.to_str().unwrap())];
        [self.tls("sasl_ssl", "ca.pem"), env(&mine)].concat()
    }

    /// Environment for SASL with a certificate authority that did not sign the broker's certificate.
    pub(crate) fn wrong_authority(&self, user: &str) -> Vec<(String, String)> {
        let mut env = self.scram(user);
        env.extend(self.tls("sasl_ssl", "stranger.pem"));
        env
    }

    /// Environment for mutual TLS; without `common_name` no certificate is shown.
    pub(crate) fn mutual(&self, common_name: Option<&str>) -> Vec<(String, String)> {
        let mut all = self.tls("ssl", "ca.pem");
        if let Some(name) = common_name {
            let (chain, key) = self.issue(name, &[]);
            let chain = self.write(&format!("{name}.crt"), &chain);
            let key = self.write(&format!("{name}.key"), &key);
            all.extend(env(&[
                ("SSL_CERTIFICATE_FILE", chain.to_str().unwrap()),
                ("SSL_KEY_FILE", key.to_str().unwrap()),
            ]));
        }
        all
    }

    /// A shell that finds `kafka-acls.sh`.
    pub(crate) fn shell(&self, script: &str) {
        let bin = self.path("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let tool = workspace().join("tests/kafka/tool.sh").canonicalize().unwrap();
        let shim = self.write("bin/kafka-acls.sh", &format!("#!/bin/sh\nexec {} AclCommand \"$@\"\n", tool.display()));
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(shim, executable).unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let mut sh = Command::new("sh");
        sh.args(["-e", "-c", script]).env("PATH", path).env("ANABRANCH_KAFKA", &self.plain);
        let output = sh.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        let stop = workspace().join("tests/kafka/stop.sh");
        if let Err(error) = Command::new(stop).arg(self.path("pid")).status() {
            eprintln!("kafka was not stopped: {error}");
        }
    }
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| (format!("ANABRANCH_KAFKA_{name}"), (*value).to_owned())).collect()
}

/// A client with the security of this environment.
pub(crate) fn client(bootstrap: &str, env: &[(String, String)]) -> Cluster {
    // The last of several counts, as in an environment.
    let lookup = |asked: &str| env.iter().rev().find(|(name, _)| name == asked).map(|(_, value)| value.clone());
    let security = SecurityConfig::from_lookup(lookup).unwrap();
    Cluster::new(ClusterConfig::new(vec![bootstrap.to_owned()], "e2e").with_security(security))
}

/// Whether a text has anything of these users' passwords.
pub(crate) fn has_secret(text: &str) -> bool {
    text.contains("s3cret-of-") || text.contains("BEGIN PRIVATE")
}

/// An unsecured JSON web token for a subject, valid for an hour.
pub(crate) fn token(subject: &str, folder: &Path) -> String {
    let script = "import base64,json,sys,time\n\
                  b=lambda o: base64.urlsafe_b64encode(json.dumps(o).encode()).rstrip(b'=').decode()\n\
                  n=int(time.time())\n\
                  print(b({'alg':'none'})+'.'+b({'sub':sys.argv[1],'iat':n,'exp':n+3600})+'.')";
    let output = Command::new("python3").current_dir(folder).args(["-c", script, subject]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

//! The configuration from the environment. Pure but for the files it names.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::{
    Credentials, SecurityConfig, SecurityError,
    sasl::{Sasl, ScramHash, Token},
    tls::{Tls, TlsFiles},
};

pub(super) const PROTOCOL: &str = "ANABRANCH_KAFKA_SECURITY_PROTOCOL";
pub(super) const MECHANISM: &str = "ANABRANCH_KAFKA_SASL_MECHANISM";
pub(super) const USERNAME: &str = "ANABRANCH_KAFKA_SASL_USERNAME";
pub(super) const PASSWORD: &str = "ANABRANCH_KAFKA_SASL_PASSWORD";
pub(super) const PASSWORD_FILE: &str = "ANABRANCH_KAFKA_SASL_PASSWORD_FILE";
pub(super) const TOKEN: &str = "ANABRANCH_KAFKA_OAUTH_TOKEN";
pub(super) const TOKEN_FILE: &str = "ANABRANCH_KAFKA_OAUTH_TOKEN_FILE";
pub(super) const CA_FILE: &str = "ANABRANCH_KAFKA_SSL_CA_FILE";
pub(super) const CERTIFICATE_FILE: &str = "ANABRANCH_KAFKA_SSL_CERTIFICATE_FILE";
pub(super) const KEY_FILE: &str = "ANABRANCH_KAFKA_SSL_KEY_FILE";

const FOR_TLS: [&str; 3] = [CA_FILE, CERTIFICATE_FILE, KEY_FILE];
const FOR_SASL: [&str; 6] = [MECHANISM, USERNAME, PASSWORD, PASSWORD_FILE, TOKEN, TOKEN_FILE];

/// No password, token or certificate chain is larger.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A variable that is set to nothing is not set.
fn value(lookup: Lookup<'_>, name: &str) -> Option<String> {
    lookup(name).filter(|value| !value.is_empty())
}

pub(super) fn read(lookup: Lookup<'_>) -> Result<SecurityConfig, SecurityError> {
    let protocol = value(lookup, PROTOCOL);
    let (tls, sasl) = match protocol.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None => (false, false),
        // Said outright: whatever else is set, for example for another cluster, is not meant.
        Some("plaintext") => return Ok(SecurityConfig::plaintext()),
        Some("ssl") => (true, false),
        Some("sasl_plaintext") => (false, true),
        Some("sasl_ssl") => (true, true),
        Some(_) => {
            let what = "unknown protocol; write plaintext, ssl, sasl_plaintext or sasl_ssl";
            return Err(SecurityError::new(PROTOCOL, what));
        }
    };
    // Credentials that are not used would be a surprise.
    unused(lookup, tls, &FOR_TLS, "ssl or sasl_ssl")?;
    unused(lookup, sasl, &FOR_SASL, "sasl_ssl")?;
    let tls = if tls { Some(read_tls(lookup)?) } else { None };
    let sasl = if sasl { Some(read_sasl(lookup)?) } else { None };
    Ok(SecurityConfig { tls, sasl })
}

fn unused(lookup: Lookup<'_>, used: bool, names: &[&'static str], wanted: &str) -> Result<(), SecurityError> {
    match names.iter().find(|name| !used && value(lookup, name).is_some()) {
        Some(name) => Err(SecurityError::new(name, format!("is set, but {PROTOCOL} does not say {wanted}"))),
        None => Ok(()),
    }
}

fn read_tls(lookup: Lookup<'_>) -> Result<Tls, SecurityError> {
    let path = |name| value(lookup, name).map(PathBuf::from);
    let (certificate, key) = (path(CERTIFICATE_FILE), path(KEY_FILE));
    match (&certificate, &key) {
        (Some(_), None) => return Err(SecurityError::new(KEY_FILE, format!("is not set, but {CERTIFICATE_FILE} is"))),
        (None, Some(_)) => return Err(SecurityError::new(CERTIFICATE_FILE, format!("is not set, but {KEY_FILE} is"))),
        _ => {}
    }
    Tls::load(&TlsFiles { ca: path(CA_FILE), client: certificate.zip(key) })
}

fn read_sasl(lookup: Lookup<'_>) -> Result<Sasl, SecurityError> {
    let mechanism = value(lookup, MECHANISM)
        .ok_or_else(|| SecurityError::new(MECHANISM, format!("is not set, but {PROTOCOL} asks for SASL")))?;
    let sasl = match mechanism.to_ascii_uppercase().as_str() {
        "PLAIN" => Sasl::Plain(credentials(lookup)?),
        "SCRAM-SHA-256" => Sasl::Scram(ScramHash::Sha256, credentials(lookup)?),
        "SCRAM-SHA-512" => Sasl::Scram(ScramHash::Sha512, credentials(lookup)?),
        "OAUTHBEARER" => Sasl::OAuthBearer(token(lookup)?),
        _ => {
            let what = "unknown mechanism; write PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER";
            return Err(SecurityError::new(MECHANISM, what));
        }
    };
    Ok(sasl)
}

fn credentials(lookup: Lookup<'_>) -> Result<Credentials, SecurityError> {
    let username = value(lookup, USERNAME);
    let password = match (value(lookup, PASSWORD), value(lookup, PASSWORD_FILE)) {
        (Some(_), Some(_)) => return Err(both(PASSWORD_FILE, PASSWORD)),
        (Some(password), None) => Some(SecretString::from(password)),
        (None, Some(file)) => Some(secret_file(PASSWORD_FILE, Path::new(&file))?),
        (None, None) => None,
    };
    match (username, password) {
        (Some(username), Some(password)) => Ok(Credentials { username, password }),
        (None, _) => Err(SecurityError::new(USERNAME, format!("is not set, but {MECHANISM} needs it"))),
        (Some(_), None) => {
            Err(SecurityError::new(PASSWORD, format!("neither it nor {PASSWORD_FILE} is set, but {USERNAME} is")))
        }
    }
}

fn token(lookup: Lookup<'_>) -> Result<Token, SecurityError> {
    match (value(lookup, TOKEN), value(lookup, TOKEN_FILE)) {
        (Some(_), Some(_)) => Err(both(TOKEN_FILE, TOKEN)),
        (Some(token), None) => Ok(Token::Fixed(SecretString::from(token))),
        (None, Some(file)) => {
            let file = PathBuf::from(file);
            secret_file(TOKEN_FILE, &file)?;
            Ok(Token::File(file))
        }
        (None, None) => {
            Err(SecurityError::new(TOKEN_FILE, format!("neither it nor {TOKEN} is set, but {MECHANISM} needs one")))
        }
    }
}

fn both(file: &'static str, other: &str) -> SecurityError {
    SecurityError::new(file, format!("{other} is set as well; keep one of them"))
}

/// A secret from a file; line ends after it are not part of it.
pub(super) fn secret_file(variable: &'static str, file: &Path) -> Result<SecretString, SecurityError> {
    let bytes = read_file(variable, file)?;
    let text = String::from_utf8(bytes).map_err(|_| SecurityError::new(variable, "the file it names is not UTF-8"))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(SecurityError::new(variable, "the file it names is empty"));
    }
    Ok(SecretString::from(text))
}

/// A small file. What goes wrong is told without its name: whoever confuses variables may have written a secret there.
pub(super) fn read_file(variable: &'static str, file: &Path) -> Result<Vec<u8>, SecurityError> {
    let cannot = |e: std::io::Error| SecurityError::new(variable, format!("the file it names cannot be read: {e}"));
    let size = std::fs::metadata(file).map_err(cannot)?.len();
    if size > MAX_FILE_BYTES {
        return Err(SecurityError::new(variable, format!("the file it names has {size} bytes; that is too large")));
    }
    std::fs::read(file).map_err(cannot)
}

#[cfg(test)]
#[path = "env_tests.rs"]
mod tests;

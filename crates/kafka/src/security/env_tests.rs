use std::collections::BTreeMap;

use super::*;

const SECRET: &str = "s3cr3t-p4ssw0rd";

fn config(pairs: &[(&str, &str)]) -> Result<SecurityConfig, SecurityError> {
    let map: BTreeMap<&str, &str> = pairs.iter().copied().collect();
    SecurityConfig::from_lookup(|name| map.get(name).map(|v| (*v).to_owned()))
}

fn refused(pairs: &[(&str, &str)]) -> SecurityError {
    let error = config(pairs).expect_err("it cannot be used");
    let shown = format!("{error} {error:?}");
    for (_, value) in pairs.iter().filter(|(name, value)| *name != PROTOCOL && value.len() > 5) {
        assert!(!shown.contains(value), "no value is told: {shown}");
    }
    error
}

#[test]
fn nothing_is_plaintext() {
    assert_eq!(config(&[]).unwrap().protocol(), "PLAINTEXT");
    assert_eq!(config(&[(PROTOCOL, "")]).unwrap().protocol(), "PLAINTEXT");
    let said = config(&[(PROTOCOL, "plaintext"), (PASSWORD, SECRET), (CA_FILE, "/nowhere")]);
    assert_eq!(said.unwrap().protocol(), "PLAINTEXT", "said outright");
}

#[test]
fn every_mechanism_is_read_in_any_case() {
    let user = [(USERNAME, "kyc"), (PASSWORD, SECRET)];
    for mechanism in ["PLAIN", "scram-sha-256", "SCRAM-SHA-512"] {
        let pairs = [&user[..], &[(PROTOCOL, "SASL_PLAINTEXT"), (MECHANISM, mechanism)]].concat();
        let read = config(&pairs).unwrap();
        assert_eq!(read.sasl().unwrap().mechanism(), mechanism.to_uppercase());
        assert_eq!(read.protocol(), "SASL_PLAINTEXT");
        assert_eq!(read.warning().unwrap().contains("password"), mechanism == "PLAIN");
        assert!(!format!("{read:?}").contains(SECRET));
    }
    let read = config(&[(PROTOCOL, "sasl_plaintext"), (MECHANISM, "OAUTHBEARER"), (TOKEN, SECRET)]).unwrap();
    assert_eq!(read.sasl().unwrap().mechanism(), "OAUTHBEARER");
    assert!(!format!("{read:?}").contains(SECRET));
}

#[test]
fn what_cannot_be_used_names_its_variable() {
    let sasl = (PROTOCOL, "sasl_plaintext");
    let (plain, user, password) = ((MECHANISM, "PLAIN"), (USERNAME, "some-user"), (PASSWORD, SECRET));
    for (pairs, variable) in [
        (&[(PROTOCOL, "tls")][..], PROTOCOL),
        (&[sasl], MECHANISM),
        (&[sasl, (MECHANISM, "GSSAPI-X")], MECHANISM),
        (&[sasl, plain, password], USERNAME),
        (&[sasl, plain, user], PASSWORD),
        (&[sasl, plain, user, password, (PASSWORD_FILE, "/no/such/file")], PASSWORD_FILE),
        (&[sasl, plain, user, (PASSWORD_FILE, "/no/such/file")], PASSWORD_FILE),
        (&[sasl, (MECHANISM, "OAUTHBEARER")], TOKEN_FILE),
        (&[sasl, (MECHANISM, "OAUTHBEARER"), (TOKEN_FILE, "/no/such/file")], TOKEN_FILE),
        (&[plain, user, password], MECHANISM),
        (&[(PROTOCOL, "ssl"), user], USERNAME),
        (&[sasl, plain, user, password, (CA_FILE, "/no/such/file")], CA_FILE),
        (&[(PROTOCOL, "ssl"), (CA_FILE, "/no/such/file")], CA_FILE),
        (&[(PROTOCOL, "ssl"), (CERTIFICATE_FILE, "/no/such/file")], KEY_FILE),
        (&[(PROTOCOL, "ssl"), (KEY_FILE, "/no/such/file")], CERTIFICATE_FILE),
    ] {
        assert_eq!(refused(pairs).variable(), variable, "{pairs:?}");
    }
}

#[test]
fn a_secret_file_ends_before_its_line_end() {
    use secrecy::ExposeSecret as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, format!("{SECRET} \r\n")).unwrap();
    let secret = secret_file(PASSWORD_FILE, &file).unwrap();
    assert_eq!(secret.expose_secret(), format!("{SECRET} "), "a blank may be part of it");
    std::fs::write(&file, "\n").unwrap();
    assert!(secret_file(PASSWORD_FILE, &file).unwrap_err().to_string().contains("empty"));
    std::fs::write(&file, [0xff, 0xfe]).unwrap();
    assert!(secret_file(PASSWORD_FILE, &file).unwrap_err().to_string().contains("UTF-8"));
}

#[test]
fn a_file_that_is_no_pem_is_not_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let path = file.to_str().unwrap();
    for text in [SECRET.to_owned(), format!("-----BEGIN CERTIFICATE-----\n{SECRET}\n-----END CERTIFICATE-----\n")] {
        std::fs::write(&file, text).unwrap();
        let error = refused(&[(PROTOCOL, "ssl"), (CA_FILE, path)]);
        assert!(error.variable() == CA_FILE && !error.to_string().contains(SECRET), "{error}");
    }
}

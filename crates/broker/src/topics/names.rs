//! Apache Kafka's rules for topic names.

/// The longest name, in characters; the log directories of a real broker leave no more.
const MAX: usize = 249;

/// Says what is wrong with a name.
pub(crate) fn check(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() {
        Err("Topic name is invalid: the empty string is not allowed".into())
    } else if name == "." || name == ".." {
        Err("Topic name cannot be '.' or '..'".into())
    } else if name.len() > MAX {
        Err(format!("Topic name is invalid: the length is longer than the max allowed length {MAX}"))
    } else if !name.chars().all(legal) {
        Err(format!(
            "Topic name '{name}' is illegal, it contains a character other than ASCII alphanumerics, '.', '_' and '-'"
        ))
    } else {
        Ok(())
    }
}

/// Whether two names would be one metric: '.' and '_' are the same there, so Kafka allows only one of them.
pub(crate) fn collide(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.replace('.', "_") == other.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_kafka_does() {
        for name in ["kyc.requests", "a", "A-b_c.9", &"x".repeat(249)] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for name in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(check(name).is_err(), "{name}");
        }
        assert!(collide("a.b", "a_b") && !collide("a.b", "a-b"));
    }
}

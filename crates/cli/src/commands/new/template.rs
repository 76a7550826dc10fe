//! The files of a new agent.

use crate::usage::usage;

use super::check_name;

/// Where each file goes, and what is in it before the agent's own words. The manifest comes last: cargo never sees a
/// crate that is not all there.
const FILES: [(&str, &str); 4] = [
    ("src/lib.rs", include_str!("template/lib.rs.txt")),
    ("src/main.rs", include_str!("template/main.rs.txt")),
    ("tests/agent.rs", include_str!("template/agent.rs.txt")),
    ("Cargo.toml", include_str!("template/Cargo.toml.txt")),
];

/// Longest description: it is one sentence, and it goes into every plan's prompt.
const MAX_DESCRIPTION_CHARS: usize = 400;

/// An agent that is to be written.
#[derive(Debug)]
pub(super) struct Template {
    words: Vec<(&'static str, String)>,
}

impl Template {
    /// # Errors
    /// If a crate of that name could not be, or an expression is no CEL.
    pub(super) fn new(name: &str, description: Option<&str>, when: Option<&str>) -> anyhow::Result<Self> {
        check_name(name).map_err(usage)?;
        if matches!(name, "supervisor" | "composer" | "outcome") {
            return Err(usage(format!("{name:?} is taken: it has a meaning of its own in every topology")));
        }
        let description = description.map_or_else(|| format!("The {name} agent."), str::to_owned);
        let odd = description.chars().any(char::is_control) || description.trim().is_empty();
        if odd || description.chars().count() > MAX_DESCRIPTION_CHARS {
            return Err(usage(format!("--description: one line of 1 to {MAX_DESCRIPTION_CHARS} characters")));
        }
        if let Some(when) = when {
            anabranch_core::planning::check_when(when).map_err(|e| usage(format!("--when: {e}")))?;
        }
        let when = when.map(|when| format!("    const WHEN: Option<&'static str> = Some({when:?});\n"));
        let words = vec![
            ("{name}", name.to_owned()),
            ("{crate}", format!("anabranch_agent_{}", name.replace('-', "_"))),
            ("{type}", type_name(name)),
            ("{code}", format!("{}_SEEN", name.replace('-', "_").to_ascii_uppercase())),
            ("{when}", when.unwrap_or_default()),
            // A JSON string is a TOML basic string, as long as there are no control characters.
            ("{description_toml}", serde_json::Value::from(description.as_str()).to_string()),
            ("{description_rust}", format!("{description:?}")),
            ("{description_doc}", description),
        ];
        Ok(Self { words })
    }

    /// The files: where, relative to the crate's directory, and what is in them.
    pub(super) fn files(&self) -> impl Iterator<Item = (&'static str, String)> {
        FILES.iter().map(|(path, text)| (*path, self.fill(text)))
    }

    /// Puts the words in one pass, so that a description that looks like a placeholder stays as it is.
    fn fill(&self, mut rest: &str) -> String {
        let mut out = String::with_capacity(rest.len());
        while let Some(at) = rest.find('{') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            match self.words.iter().find(|(placeholder, _)| rest.starts_with(placeholder)) {
                Some((placeholder, word)) => {
                    out.push_str(word);
                    rest = &rest[placeholder.len()..];
                }
                None => {
                    out.push('{');
                    rest = &rest[1..];
                }
            }
        }
        out.push_str(rest);
        out
    }
}

/// `adverse-media` → `AdverseMedia`.
fn type_name(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    name.split('-').map(capital).collect()
}

//! What a model reads out of a document's free text, and how far it is believed: only what stands in the text.

use anabranch_sdk::{AgentError, Context, Prompt, json};
use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Instructions for the model. What comes from outside is not in them.
const SYSTEM: &str = "You extract fields from the text of an identity document, the member `text` of the JSON object that \
    you are given; an unknown person wrote it. Give each field exactly as it stands in the text, dates as YYYY-MM-DD, and null where the text \
    does not say it. `confidence` is how sure you are of the extraction, from 0 to 1; it is not an opinion of the \
    applicant.";

/// What the model reads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DocumentText {
    /// Document number as it stands in the text.
    #[schemars(extend("x-pii" = true))]
    pub document_number: Option<String>,
    /// The holder's name as it stands in the text.
    #[schemars(extend("x-pii" = true))]
    pub name: Option<String>,
    /// Date of birth, YYYY-MM-DD.
    #[schemars(extend("x-pii" = true))]
    pub birth_date: Option<String>,
    /// Date of expiry, YYYY-MM-DD.
    pub expiry_date: Option<String>,
    /// How sure the extraction is.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub confidence: f64,
}

/// The fields that a person can find in the text too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Grounded {
    pub(crate) number: Option<String>,
    pub(crate) birth_date: Option<Date>,
    pub(crate) expiry_date: Option<Date>,
    /// Fields the model made up.
    pub(crate) dropped: Vec<&'static str>,
}

/// Asks the model; `None` if it will not answer.
pub(crate) async fn read(ctx: &Context<'_>, text: &str) -> Result<Option<DocumentText>, AgentError> {
    let document = json!({ "text": text, "round": ctx.round(), "question": ctx.question() });
    let prompt = Prompt::new(SYSTEM).json("document", document).personal(text);
    Ok(ctx.model().ask_or_go_without("document_text", &prompt).await?)
}

/// Drops what does not stand in the text.
pub(crate) fn ground(read: &DocumentText, text: &str) -> Grounded {
    let mut grounded = Grounded::default();
    let haystack = squeeze(text);
    if let Some(number) = read.document_number.as_deref().map(squeeze).filter(|n| !n.is_empty()) {
        if haystack.contains(&number) {
            grounded.number = Some(number);
        } else {
            grounded.dropped.push("document_number");
        }
    }
    let mut date = |field: &'static str, value: &Option<String>| {
        let date = value.as_deref()?.trim().parse::<Date>().ok();
        let found = date.filter(|d| renderings(*d).iter().any(|r| haystack.contains(r.as_str())));
        if found.is_none() {
            grounded.dropped.push(field);
        }
        found
    };
    let (birth_date, expiry_date) = (date("birth_date", &read.birth_date), date("expiry_date", &read.expiry_date));
    Grounded { birth_date, expiry_date, ..grounded }
}

/// Capitals and digits only.
pub(crate) fn squeeze(text: &str) -> String {
    let plain = deunicode::deunicode(text);
    plain.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect()
}

/// How a document may write a date, squeezed.
fn renderings(date: Date) -> Vec<String> {
    let formats = [
        "%Y%m%d", "%d%m%Y", "%m%d%Y", "%d%b%Y", "%d%B%Y", "%b%d%Y", "%B%d%Y", "%-d%b%Y", "%-d%B%Y", "%B%-d%Y", "%y%m%d",
    ];
    formats.iter().map(|f| date.strftime(f).to_string().to_ascii_uppercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "UTOPIA — Passport no. UT 0000001, born 14 February 1985, valid until 13.02.2034";

    fn said(number: &str, birth: &str, expiry: &str) -> DocumentText {
        DocumentText {
            document_number: Some(number.into()),
            name: None,
            birth_date: Some(birth.into()),
            expiry_date: Some(expiry.into()),
            confidence: 0.9,
        }
    }

    #[test]
    fn what_stands_in_the_text_is_kept() {
        let grounded = ground(&said("UT0000001", "1985-02-14", "2034-02-13"), TEXT);
        assert_eq!(grounded.number.as_deref(), Some("UT0000001"));
        assert_eq!(grounded.birth_date, Some(jiff::civil::date(1985, 2, 14)));
        assert_eq!(grounded.expiry_date, Some(jiff::civil::date(2034, 2, 13)));
        assert!(grounded.dropped.is_empty());
    }

    #[test]
    fn what_a_model_makes_up_is_dropped() {
        let grounded = ground(&said("UT0000009", "1985-02-15", "never"), TEXT);
        assert_eq!(
            grounded,
            Grounded { dropped: vec!["document_number", "birth_date", "expiry_date"], ..Grounded::default() }
        );
    }
}

//! KYC document agent: is the document genuine, in date, and the applicant's?
//!
//! Rules decide: check digits, dates, comparison with what was declared. A model is asked only where rules end (is
//! `Jon` a form of `JOHN`? what does the printed text say?), and what it answers can lower confidence or raise a doubt,
//! never lift a gate: its confidence is bounded by what the rules found, its extractions count only where they stand in
//! the text, and text reaches it fenced, as data, without the sentences in which a rule found an instruction.

mod examine;
pub mod mrz;
mod names;
#[cfg(test)]
mod tests;
mod text;

use std::borrow::Cow;

use anabranch_sdk::prelude::*;
use anabranch_sdk::prompt::injection::{self, Sign};
use jiff::civil::Date;
use jiff::tz::TimeZone;

pub use examine::Difference;
pub use text::DocumentText;

use crate::mrz::{CheckDigit, Format, Mrz};
use crate::names::Likeness;

/// Without a zone there are no check digits, and rules cannot be sure enough to approve.
const WITHOUT_ZONE: f64 = 0.80;
/// A question the model would not answer leaves a doubt that only a person can settle.
const WITHOUT_ANSWER: f64 = 0.90;
/// Rules are never surer than this.
const RULES: f64 = 0.99;

const NAMES: &str = "You compare the name an applicant declared with the name on their identity document. You are \
    given one JSON object. Say whether both may be names of one \
    person: spelling, transliteration, order, short forms and left-out middle names are usual; another person's name \
    is not. `confidence` is how sure you are, from 0 to 1, that both are one person's name. If `question` is not null \
    it says what to look at again.";

/// The agent.
#[derive(Debug)]
pub struct DocumentAgent {
    config: Config,
}

/// `agents.document.config`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Most characters of a document's text that a model is shown.
    pub max_text_chars: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_text_chars: 8_000 }
    }
}

/// What it reads from the request.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Application {
    /// Who applies.
    pub applicant: Applicant,
    /// Their identity document.
    pub document: Document,
}

/// Who applies, as declared.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Applicant {
    /// Full name.
    #[schemars(extend("x-pii" = true))]
    pub name: String,
    /// YYYY-MM-DD.
    #[schemars(extend("x-pii" = true))]
    pub birth_date: Option<String>,
    /// Three-letter code.
    pub nationality: Option<String>,
    /// Postal address.
    #[schemars(extend("x-pii" = true))]
    pub address: Option<String>,
}

/// An identity document, as declared and as scanned.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Document {
    /// `passport` or `id_card`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its number.
    #[schemars(extend("x-pii" = true))]
    pub number: Option<String>,
    /// Three-letter code of the state that issued it.
    pub issuer: Option<String>,
    /// The machine-readable zone.
    #[schemars(extend("x-pii" = true))]
    pub mrz: Option<Zone>,
    /// What else is printed on it; a large text may lie in the claim store.
    #[schemars(extend("x-pii" = true))]
    pub text: Option<Claimed<String>>,
}

/// A machine-readable zone: a list of lines, or one text with line breaks.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Zone {
    /// Its lines.
    Lines(Vec<String>),
    /// All of it.
    Text(String),
}

impl Zone {
    fn lines(&self) -> Vec<&str> {
        match self {
            Self::Lines(lines) => lines.iter().flat_map(|l| l.lines()).collect(),
            Self::Text(text) => text.lines().collect(),
        }
    }
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DocumentReport {
    /// What the zone says, if it can be read.
    pub fields: Option<Fields>,
    /// The zone's check digits.
    pub check_digits: Vec<CheckDigit>,
    /// What the model read from the printed text.
    pub text: Option<DocumentText>,
    /// The model's words on the names, where it was asked.
    pub name_comparison: Option<NameComparison>,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// What the zone says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fields {
    /// Format of the zone.
    pub format: Format,
    /// Document code.
    pub code: String,
    /// Issuing state.
    pub issuer: String,
    /// Document number.
    #[schemars(extend("x-pii" = true))]
    pub number: String,
    /// Surname.
    #[schemars(extend("x-pii" = true))]
    pub surname: String,
    /// Given names.
    #[schemars(extend("x-pii" = true))]
    pub given_names: String,
    /// Nationality.
    pub nationality: String,
    /// Date of birth, if there is one.
    #[schemars(extend("x-pii" = true))]
    pub birth_date: Option<String>,
    /// Date of expiry, if there is one.
    pub expiry_date: Option<String>,
}

/// Whether two names are one person's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NameComparison {
    /// Why, in one or two sentences.
    pub explanation: String,
    /// How sure it is that both are one person's name.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub confidence: f64,
}

impl Agent for DocumentAgent {
    const NAME: &'static str = "document";
    const DESCRIPTION: &'static str = "Verifies the identity document: machine-readable zone, check digits, expiry, \
        comparison with what was declared, signs of forgery.";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const REQUIRED: bool = true;
    type Config = Config;
    type Input = Application;
    type Output = DocumentReport;

    fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { config })
    }

    async fn handle(&self, ctx: &Context<'_>, input: Application) -> Result<Outcome<DocumentReport>, AgentError> {
        let today = date_of(ctx)?;
        let mut review = Review::new(today);
        let printed = match &input.document.text {
            Some(text) => ctx.fetch(text).await?,
            None => Cow::Owned(String::new()),
        };
        review.findings.extend(instructions(&input, &printed));
        let mrz = review.zone(&input, &printed);
        let likeness = mrz.as_ref().and_then(|mrz| review.compare(mrz, &input));
        if let Some(likeness @ Likeness::Variant(score)) = likeness
            && let Some(mrz) = &mrz
        {
            review.name_variant(ctx, &input.applicant.name, mrz, likeness, score).await?;
        }
        let text: String = printed.chars().take(self.config.max_text_chars).collect();
        let shown = injection::without(&text);
        if !shown.trim().is_empty() {
            review.text(ctx, &shown, mrz.as_ref(), &input.document).await?;
        }
        Ok(review.outcome(mrz))
    }
}

/// An instruction that was found, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// Where it stands: a member of the request.
    pub place: String,
    /// What it tries, in which disguise, and its words.
    #[serde(flatten)]
    pub sign: Sign,
}

/// Instructions anywhere in what the applicant wrote. They are on record and change nothing.
fn instructions(input: &Application, printed: &str) -> Option<Finding> {
    let places = [
        ("document.text", Some(printed)),
        ("applicant.name", Some(input.applicant.name.as_str())),
        ("applicant.address", input.applicant.address.as_deref()),
    ];
    let found = |(place, text): (&str, Option<&str>)| {
        let attempt = |sign| Attempt { place: place.to_owned(), sign };
        injection::scan(text.unwrap_or_default()).into_iter().map(attempt).collect::<Vec<_>>()
    };
    let attempts: Vec<Attempt> = places.into_iter().flat_map(found).collect();
    let detail = "the application holds instructions to whoever decides; they were not followed";
    (!attempts.is_empty())
        .then(|| Finding::note("INSTRUCTION_IN_DOCUMENT", detail).with(json!({ "attempts": attempts })))
}

/// The answer in the making.
struct Review {
    today: Date,
    bound: f64,
    findings: Vec<Finding>,
    text: Option<DocumentText>,
    name_comparison: Option<NameComparison>,
}

impl Review {
    fn new(today: Date) -> Self {
        Self { today, bound: RULES, findings: Vec::new(), text: None, name_comparison: None }
    }

    fn bound(&mut self, at_most: f64) {
        self.bound = self.bound.min(at_most);
    }

    /// Reads the zone and its own faults.
    fn zone(&mut self, input: &Application, printed: &str) -> Option<Mrz> {
        let lines = input.document.mrz.as_ref().map(Zone::lines).unwrap_or_default();
        if lines.iter().all(|l| l.trim().is_empty()) {
            let has_text = !printed.trim().is_empty();
            self.findings.push(if has_text {
                Finding::note("DOC_WITHOUT_ZONE", "the document has no machine-readable zone, so no check digits")
            } else {
                Finding::gate("DOC_MISSING", "no identity document was sent")
                    .with(json!({ "needed": ["valid_identity_document"] }))
            });
            self.bound(WITHOUT_ZONE);
            return None;
        }
        match Mrz::parse(lines, self.today) {
            Ok(mrz) => {
                self.findings.extend(examine::zone(&mrz, self.today));
                Some(mrz)
            }
            Err(error) => {
                let detail = format!("the machine-readable zone cannot be read: {error}");
                self.findings
                    .push(Finding::gate("DOC_UNREADABLE", detail).with(json!({ "needed": ["readable_document"] })));
                self.bound(WITHOUT_ZONE);
                None
            }
        }
    }

    fn compare(&mut self, mrz: &Mrz, input: &Application) -> Option<Likeness> {
        let (differences, likeness) = examine::compare(mrz, &input.applicant, &input.document);
        self.mismatch(&differences);
        likeness
    }

    fn mismatch(&mut self, differences: &[Difference]) {
        if !differences.is_empty() {
            let fields: Vec<&str> = differences.iter().map(|d| d.field.as_str()).collect();
            let detail = format!("the document says otherwise: {}", fields.join(", "));
            self.findings.push(Finding::gate("DOC_MISMATCH", detail).with(json!({ "differences": differences })));
        }
    }

    /// Rules see a name that may be a form of the declared one; the model says how likely.
    async fn name_variant(
        &mut self,
        ctx: &Context<'_>,
        declared: &str,
        mrz: &Mrz,
        likeness: Likeness,
        score: f64,
    ) -> Result<(), AgentError> {
        let on_document = format!("{} {}", mrz.given_names, mrz.surname);
        let names = json!({
            "declared": declared, "document": on_document, "score": rounded(score),
            "round": ctx.round(), "question": ctx.question(),
        });
        let prompt = Prompt::new(NAMES).json("names", names).personal(on_document.as_str());
        self.name_comparison = ctx.model().ask_or_go_without("name_comparison", &prompt).await?;
        let model = self.name_comparison.as_ref().map_or(WITHOUT_ANSWER, |c| c.confidence);
        self.bound(likeness.bound().min(model));
        let detail = format!("the declared name is written otherwise on the document: {on_document}");
        let evidence =
            json!({ "score": rounded(score), "model_confidence": model, "answered": self.name_comparison.is_some() });
        self.findings.push(Finding::note("NAME_VARIANT", detail).with(evidence));
        Ok(())
    }

    /// The printed text: extracted by the model, believed where it stands there, compared by rule.
    async fn text(
        &mut self,
        ctx: &Context<'_>,
        text: &str,
        mrz: Option<&Mrz>,
        document: &Document,
    ) -> Result<(), AgentError> {
        self.text = text::read(ctx, text).await?;
        let Some(read) = &self.text else {
            self.findings.push(Finding::note("DOC_TEXT_UNREAD", "the model would not read the printed text"));
            self.bound(WITHOUT_ANSWER);
            return Ok(());
        };
        let grounded = text::ground(read, text);
        let confidence = read.confidence;
        if !grounded.dropped.is_empty() {
            let detail = "the model gave fields that do not stand in the text; they were dropped";
            self.findings
                .push(Finding::note("DOC_TEXT_UNGROUNDED", detail).with(json!({ "dropped": grounded.dropped })));
        }
        if mrz.is_none() {
            // All there is is what was read; with a zone the text only adds a comparison.
            self.bound(confidence);
            if let Some(expired) = grounded.expiry_date.filter(|d| *d < self.today) {
                self.findings.push(examine::expired_on(expired));
            }
        }
        self.mismatch(&examine::compare_text(&grounded, mrz, document));
        Ok(())
    }

    fn outcome(self, mrz: Option<Mrz>) -> Outcome<DocumentReport> {
        let gated = self.findings.iter().any(|f| f.effect == Effect::Gate);
        let fields = mrz.as_ref().map(Fields::from);
        let report = DocumentReport {
            fields,
            check_digits: mrz.map(|m| m.checks).unwrap_or_default(),
            text: self.text,
            name_comparison: self.name_comparison,
            findings: self.findings,
        };
        Outcome::new(report).confidence(self.bound).disposition(if gated { "doubtful" } else { "genuine" })
    }
}

impl From<&Mrz> for Fields {
    fn from(mrz: &Mrz) -> Self {
        Self {
            format: mrz.format,
            code: mrz.code.clone(),
            issuer: mrz.issuer.clone(),
            number: mrz.number.clone(),
            surname: mrz.surname.clone(),
            given_names: mrz.given_names.clone(),
            nationality: mrz.nationality.clone(),
            birth_date: mrz.birth_date.known().map(|d| d.to_string()),
            expiry_date: mrz.expiry_date.known().map(|d| d.to_string()),
        }
    }
}

/// The day of the runtime's clock, in UTC.
fn date_of(ctx: &Context<'_>) -> Result<Date, AgentError> {
    let now = jiff::Timestamp::from_millisecond(ctx.now().as_millis())?;
    Ok(TimeZone::UTC.to_datetime(now).date())
}

fn rounded(score: f64) -> f64 {
    (score * 1000.0).round() / 1000.0
}

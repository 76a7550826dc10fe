//! The rules: read, selected by what they are for, and searched.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tantivy::collector::TopDocs;
use tantivy::directory::RamDirectory;
use tantivy::query::{BooleanQuery, Occur, Query, QueryParser, TermQuery};
use tantivy::schema::{Field, IndexRecordOption, STORED, STRING, Schema, TEXT, Value as _};
use tantivy::snippet::SnippetGenerator;
use tantivy::{Index, IndexReader, ReloadPolicy, TantivyDocument, Term};

use crate::requirement::Requirement;

/// Everywhere.
const EVERYWHERE: &str = "*";
/// Memory of the index while it is built; the corpus is small.
const INDEX_BYTES: usize = 15_000_000;
/// Largest rule that is read.
const MAX_RULE_BYTES: u64 = 256 * 1024;
/// Longest text that is searched for, in characters.
const MAX_QUERY: usize = 500;
/// Longest excerpt of a citation, in characters.
const EXCERPT: usize = 240;

/// What the crate ships.
const SHIPPED: [&str; 13] = [
    include_str!("../rules/fatf-10-identification.md"),
    include_str!("../rules/fatf-10-risk.md"),
    include_str!("../rules/fatf-11-records.md"),
    include_str!("../rules/us-cip-information.md"),
    include_str!("../rules/us-cip-verification.md"),
    include_str!("../rules/us-cip-records.md"),
    include_str!("../rules/us-ofac-screening.md"),
    include_str!("../rules/eu-amld-identification.md"),
    include_str!("../rules/eu-amld-enhanced.md"),
    include_str!("../rules/eu-amld-records.md"),
    include_str!("../rules/sg-mas-626-identification.md"),
    include_str!("../rules/sg-mas-626-verification.md"),
    include_str!("../rules/sg-mas-626-enhanced.md"),
];

/// Why rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// A file or folder cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A rule is not written as it should be.
    #[error("{name}: {reason}")]
    Format {
        /// The file, or the rule's first line.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// Two rules have one id.
    #[error("two rules have the id {0:?}")]
    Twice(String),
    /// There is none.
    #[error("there is no rule in it")]
    Empty,
    /// The search library.
    #[error("cannot index the rules: {0}")]
    Index(#[from] tantivy::TantivyError),
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) head: Head,
    pub(crate) text: String,
}

/// A rule's head.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Head {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) jurisdiction: String,
    #[serde(default)]
    pub(crate) products: Vec<String>,
    #[serde(default)]
    pub(crate) risks: Vec<String>,
    pub(crate) requires: Vec<Requirement>,
    pub(crate) source: String,
    pub(crate) version: String,
}

/// A place in the rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Citation {
    /// The rule's id.
    pub rule: String,
    /// Its title.
    pub title: String,
    /// Where it comes from.
    pub source: String,
    /// As of when.
    pub version: String,
    /// Its words.
    pub excerpt: String,
}

/// The rules and their index.
pub(crate) struct Corpus {
    rules: Vec<Rule>,
    reader: IndexReader,
    parser: QueryParser,
    fields: Fields,
}

#[derive(Debug, Clone, Copy)]
struct Fields {
    place: Field,
    jurisdiction: Field,
    title: Field,
    text: Field,
}

impl Corpus {
    /// Reads the `.md` files of a folder, or what the crate ships.
    pub(crate) fn load(folder: Option<&Path>) -> Result<Self, RulesError> {
        let rules = match folder {
            Some(folder) => read_folder(folder)?,
            None => SHIPPED.iter().map(|text| parse("a shipped rule", text)).collect::<Result<_, _>>()?,
        };
        let mut ids = BTreeSet::new();
        if let Some(twice) = rules.iter().find(|r| !ids.insert(r.head.id.as_str())) {
            return Err(RulesError::Twice(twice.head.id.clone()));
        }
        if rules.is_empty() {
            return Err(RulesError::Empty);
        }
        Ok(Self::index(rules)?)
    }

    fn index(rules: Vec<Rule>) -> Result<Self, tantivy::TantivyError> {
        let mut schema = Schema::builder();
        let fields = Fields {
            place: schema.add_u64_field("place", STORED),
            jurisdiction: schema.add_text_field("jurisdiction", STRING),
            title: schema.add_text_field("title", TEXT),
            text: schema.add_text_field("text", TEXT),
        };
        let builder = Index::builder().schema(schema.build());
        // One segment, written here and now: no thread of its own.
        let mut writer = builder.single_segment_index_writer(RamDirectory::create(), INDEX_BYTES)?;
        for (place, rule) in rules.iter().enumerate() {
            let mut document = TantivyDocument::new();
            document.add_u64(fields.place, u64::try_from(place).unwrap_or(u64::MAX));
            document.add_text(fields.jurisdiction, &rule.head.jurisdiction);
            document.add_text(fields.title, &rule.head.title);
            document.add_text(fields.text, &rule.text);
            writer.add_document(document)?;
        }
        let index = writer.finalize()?;
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        let parser = QueryParser::for_index(&index, vec![fields.title, fields.text]);
        Ok(Self { rules, reader, parser, fields })
    }

    /// The version of the corpus: that of its newest rule.
    pub(crate) fn version(&self) -> &str {
        self.rules.iter().map(|r| r.head.version.as_str()).max().unwrap_or_default()
    }

    /// Whether any rule is this jurisdiction's own.
    pub(crate) fn knows(&self, jurisdiction: &str) -> bool {
        self.rules.iter().any(|r| r.head.jurisdiction == jurisdiction)
    }

    /// The rules for a case, in the order of the corpus.
    pub(crate) fn applying(&self, jurisdiction: &str, product: &str, risk: &str) -> Vec<&Rule> {
        let among = |list: &[String], value: &str| list.is_empty() || list.iter().any(|v| v == value);
        let applies = |rule: &&Rule| {
            let head = &rule.head;
            (head.jurisdiction == jurisdiction || head.jurisdiction == EVERYWHERE)
                && among(&head.products, product)
                && among(&head.risks, risk)
        };
        self.rules.iter().filter(applies).collect()
    }

    /// The rules of this jurisdiction, and of everywhere, that say most about `words`. `words` may be anything.
    pub(crate) fn search(&self, jurisdiction: &str, words: &str, most: usize) -> Result<Vec<Citation>, RulesError> {
        // What a parser would take for syntax is only punctuation here.
        let words: String = words.chars().take(MAX_QUERY).map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
        if words.trim().is_empty() || most == 0 {
            return Ok(Vec::new());
        }
        let (text, _) = self.parser.parse_query_lenient(&words.to_lowercase());
        let query =
            BooleanQuery::new(vec![(Occur::Must, self.place_query(jurisdiction)), (Occur::Must, text.box_clone())]);
        let searcher = self.reader.searcher();
        let snippets = SnippetGenerator::create(&searcher, &text, self.fields.text)?;
        let mut citations = Vec::new();
        for (_, address) in searcher.search(&query, &TopDocs::with_limit(most).order_by_score())? {
            let document: TantivyDocument = searcher.doc(address)?;
            let place = document.get_first(self.fields.place).and_then(|v| v.as_u64());
            let rule = place.and_then(|p| usize::try_from(p).ok()).and_then(|p| self.rules.get(p));
            if let Some(rule) = rule {
                citations.push(rule.cite(snippets.snippet(&rule.text).fragment()));
            }
        }
        Ok(citations)
    }

    fn place_query(&self, jurisdiction: &str) -> Box<dyn Query> {
        let term = |value: &str| -> Box<dyn Query> {
            let term = Term::from_field_text(self.fields.jurisdiction, value);
            Box::new(TermQuery::new(term, IndexRecordOption::Basic))
        };
        Box::new(BooleanQuery::new(vec![(Occur::Should, term(jurisdiction)), (Occur::Should, term(EVERYWHERE))]))
    }
}

impl std::fmt::Debug for Corpus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Corpus").field("rules", &self.rules.len()).field("version", &self.version()).finish()
    }
}

impl Rule {
    /// A citation with these words of it, or its beginning.
    pub(crate) fn cite(&self, words: &str) -> Citation {
        let words = if words.trim().is_empty() { &self.text } else { words };
        let plain = words.split_whitespace().collect::<Vec<_>>().join(" ");
        Citation {
            rule: self.head.id.clone(),
            title: self.head.title.clone(),
            source: self.head.source.clone(),
            version: self.head.version.clone(),
            excerpt: cut(&plain),
        }
    }
}

/// At most [`EXCERPT`] characters, whole words.
fn cut(text: &str) -> String {
    match text.char_indices().nth(EXCERPT) {
        None => text.to_owned(),
        Some((end, _)) => {
            let whole = text[..end].rfind(' ').unwrap_or(end);
            format!("{} …", &text[..whole])
        }
    }
}

fn read_folder(folder: &Path) -> Result<Vec<Rule>, RulesError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| RulesError::Read { path, source }
    };
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        let is_rule = path.extension().is_some_and(|e| e == "md") && path.file_stem().is_some_and(|s| s != "README");
        if is_rule {
            files.push(path);
        }
    }
    files.sort();
    let mut rules = Vec::new();
    for path in files {
        let name = path.display().to_string();
        let bytes = std::fs::metadata(&path).map_err(failed(&path))?.len();
        if bytes > MAX_RULE_BYTES {
            let reason = format!("it has {bytes} bytes, more than the {MAX_RULE_BYTES} a rule may have");
            return Err(RulesError::Format { name, reason });
        }
        rules.push(parse(&name, &std::fs::read_to_string(&path).map_err(failed(&path))?)?);
    }
    Ok(rules)
}

/// `+++`, a head in TOML, `+++`, a text.
fn parse(name: &str, text: &str) -> Result<Rule, RulesError> {
    let wrong = |reason: String| RulesError::Format { name: name.to_owned(), reason };
    let text = text.replace("\r\n", "\n");
    let rest = text.strip_prefix("+++\n").ok_or_else(|| wrong("it does not begin with a line `+++`".to_owned()))?;
    let (head, text) =
        rest.split_once("\n+++\n").ok_or_else(|| wrong("its head has no end, a line `+++`".to_owned()))?;
    let head: Head = toml::from_str(head).map_err(|e| wrong(e.to_string()))?;
    let text = text.trim().to_owned();
    if text.is_empty() || head.id.is_empty() {
        return Err(wrong("it has no text or no id".to_owned()));
    }
    Ok(Rule { head, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus() -> Corpus {
        Corpus::load(None).unwrap()
    }

    fn found(jurisdiction: &str, words: &str) -> Vec<String> {
        corpus().search(jurisdiction, words, 3).unwrap().into_iter().map(|c| c.rule).collect()
    }

    #[test]
    fn the_shipped_rules_are_sound() {
        let corpus = corpus();
        assert_eq!(corpus.version(), "2026-11");
        assert!(corpus.knows("US") && corpus.knows("EU") && corpus.knows("SG") && !corpus.knows("ZZ"));
    }

    #[test]
    fn the_search_finds_what_it_is_asked_for_within_the_jurisdiction() {
        assert_eq!(found("US", "how long are records kept after closing")[0], "us-cip-records");
        assert_eq!(found("EU", "source of funds and wealth")[0], "eu-amld-enhanced");
        assert_eq!(found("SG", "utility bill for the residential address")[0], "sg-mas-626-verification");
        assert!(
            found("US", "source of funds and wealth").iter().all(|r| r.starts_with("us-") || r.starts_with("fatf-"))
        );
    }

    #[test]
    fn a_citation_quotes_the_rule() {
        let cited = corpus().search("US", "taxpayer identification number", 1).unwrap().remove(0);
        assert!(cited.source.contains("31 CFR 1020.220"), "{cited:?}");
        assert!(cited.excerpt.contains("taxpayer identification number"), "{cited:?}");
    }

    #[test]
    fn excerpts_end_with_a_word() {
        assert_eq!(cut("short"), "short");
        let long = cut(&"wörd ".repeat(100));
        assert!(long.ends_with("wörd …") && long.chars().count() <= EXCERPT + 2, "{long}");
        assert!(cut(&"é".repeat(1000)).chars().count() <= EXCERPT + 2);
    }

    #[test]
    fn any_words_may_be_searched_for() {
        for words in ["", "   ", "AND OR NOT (", "text:*", "\"", "a:b^~5 [x TO", "🦀🦀", &"word ".repeat(100_000)] {
            corpus().search("US", words, 3).unwrap();
        }
    }

    #[test]
    fn rules_that_are_not_sound_are_refused() {
        for (text, words) in [
            ("", "does not begin"),
            ("+++\nid = 1", "no end"),
            ("+++\nid = \"a\"\n+++\ntext", "missing field"),
            ("+++\nid = \"a\"\nfoo = 1\n+++\ntext", "unknown field"),
        ] {
            let error = parse("r.md", text).unwrap_err().to_string();
            assert!(error.starts_with("r.md: ") && error.contains(words), "{error}");
        }
        assert!(matches!(Corpus::load(Some(Path::new("no/such/folder"))), Err(RulesError::Read { .. })));
    }

    #[test]
    fn a_folder_of_rules_may_take_their_place() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
        let read = Corpus::load(Some(&folder)).unwrap();
        let ids = |corpus: &Corpus| corpus.rules.iter().map(|r| r.head.id.clone()).collect::<BTreeSet<_>>();
        assert_eq!(ids(&read), ids(&corpus()), "every file of the folder is shipped");
    }
}

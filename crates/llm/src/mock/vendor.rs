//! The document registry: an outside vendor whose checks have an effect, and which takes idempotency keys.
//!
//! `POST /registry/checks`, header `Idempotency-Key`, `{"document_number": "…", "issuer": "UTO"}` is answered with
//! `{"check_id": "…", "status": "found" | "unknown"}`. The same key is done once and answered the same for ever; the
//! same key for another document is refused with 422. The counts are what a test proves "no effect twice" with.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};

use super::bounded::OTHER;
use super::refusal::Refusal;
use super::script::{VendorConfig, VendorOutage};
use super::seeded;
use super::stats::{DocumentStats, RegistryStats};

/// Longest idempotency key, document number or issuer, in bytes.
const MAX_TEXT_BYTES: usize = 256;
/// Most checks kept. Past it the registry refuses new ones: forgetting one would do it twice.
const MAX_CHECKS: usize = 500_000;
/// Most document numbers counted by name.
const MAX_DOCUMENTS: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
struct Document {
    document_number: String,
    issuer: String,
}

/// What was done for one idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    check_id: String,
    status: &'static str,
    #[serde(skip)]
    document: Document,
}

/// An answer, and how long it is held back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) check: Check,
    pub(super) delay: Duration,
}

#[derive(Debug)]
pub(super) struct Vendor {
    config: VendorConfig,
    seed: u64,
    done: HashMap<String, Check>,
    documents: BTreeMap<String, Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    stats: DocumentStats,
    /// How often each outage struck.
    outages: HashMap<usize, u32>,
}

impl Vendor {
    pub(super) fn new(config: VendorConfig, seed: u64) -> Self {
        Self { config, seed, done: HashMap::new(), documents: BTreeMap::new() }
    }

    /// Does the check that the request asks for, unless its key says that it is done.
    pub(super) fn check(&mut self, headers: &HeaderMap, body: &[u8]) -> Result<Answered, Refusal> {
        let key = idempotency_key(headers)?;
        let document = document(body)?;
        let outage = self.called(&document.document_number);
        if outage.as_ref().is_some_and(|outage| outage.unavailable) {
            return Err(Refusal::new(503, "server_error", "The registry is not available.").code("unavailable"));
        }
        let delay = Duration::from_millis(outage.map_or(0, |outage| outage.delay_ms));
        if let Some(check) = self.done.get(&key) {
            if check.document != document {
                let message = "This Idempotency-Key was used for another document.";
                return Err(Refusal::new(422, "idempotency_error", message).code("idempotency_key_reused"));
            }
            return Ok(Answered { check: check.clone(), delay });
        }
        if self.done.len() >= MAX_CHECKS {
            return Err(Refusal::new(503, "server_error", "The mock's registry is full; start it again."));
        }
        Ok(Answered { check: self.make(key, document), delay })
    }

    /// Counts a call; the outage it meets.
    fn called(&mut self, number: &str) -> Option<VendorOutage> {
        let counted = counted(&mut self.documents, number);
        counted.stats.calls += 1;
        let (index, outage) = self.config.outages.iter().enumerate().find(|(index, outage)| {
            let struck = counted.outages.get(index).copied().unwrap_or(0);
            number.starts_with(&outage.document_prefix) && outage.times.is_none_or(|times| struck < times)
        })?;
        *counted.outages.entry(index).or_default() += 1;
        Some(outage.clone())
    }

    fn make(&mut self, key: String, document: Document) -> Check {
        let unknown = self.config.unknown_prefixes.iter().any(|prefix| document.document_number.starts_with(prefix));
        let id = seeded::key(self.seed, &[b"check", key.as_bytes()]);
        counted(&mut self.documents, &document.document_number).stats.done += 1;
        let status = if unknown { "unknown" } else { "found" };
        let check = Check { check_id: format!("chk_{id:016x}"), status, document };
        self.done.insert(key, check.clone());
        check
    }

    pub(super) fn stats(&self) -> RegistryStats {
        let documents: BTreeMap<_, _> = self.documents.iter().map(|(number, c)| (number.clone(), c.stats)).collect();
        RegistryStats {
            calls: documents.values().map(|stats| stats.calls).sum(),
            done: documents.values().map(|stats| stats.done).sum(),
            documents,
        }
    }
}

fn counted<'a>(documents: &'a mut BTreeMap<String, Counted>, number: &str) -> &'a mut Counted {
    let room = documents.len() < MAX_DOCUMENTS || documents.contains_key(number);
    documents.entry(if room { number } else { OTHER }.to_owned()).or_default()
}

fn idempotency_key(headers: &HeaderMap) -> Result<String, Refusal> {
    let key = headers.get("idempotency-key").and_then(|value| value.to_str().ok()).map(str::trim);
    match key {
        Some(key) if is_text(key) => Ok(key.to_owned()),
        _ => Err(Refusal::bad("Idempotency-Key", "The header Idempotency-Key must be 1 to 256 characters.")),
    }
}

fn document(body: &[u8]) -> Result<Document, Refusal> {
    let document: Document =
        serde_json::from_slice(body).map_err(|error| Refusal::bad("", format!("The body cannot be read: {error}")))?;
    for (name, text) in [("document_number", &document.document_number), ("issuer", &document.issuer)] {
        if !is_text(text) {
            return Err(Refusal::bad(name, format!("'{name}' must be 1 to 256 characters.")));
        }
    }
    Ok(document)
}

fn is_text(text: &str) -> bool {
    (1..=MAX_TEXT_BYTES).contains(&text.len())
}

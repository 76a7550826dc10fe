//! Personal data in what is shown. Which fields hold it is said by the schemas on the agents' cards.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_kafka::{Cluster, Record, TopicPartition};
use anabranch_protocol::{AgentCard, Envelope, Timestamp};
use anabranch_sdk::mask::Mask;
use anabranch_topology::TopicRole;
use serde_json::Value;

use crate::reading::{self, Survey};

/// Agents that run have announced themselves within this.
const RECENT: Duration = Duration::from_secs(600);

/// What is masked in records of one topology.
#[derive(Debug, Clone, Default)]
pub(crate) struct Masking(Mask);

impl Masking {
    /// As the cards on the cluster say. Where no agent has announced itself, nothing is known and nothing is masked.
    pub(crate) async fn take(cluster: &Cluster, survey: &Survey) -> anyhow::Result<Self> {
        let partitions: Vec<TopicPartition> =
            survey.with_role(&[TopicRole::Directory]).flat_map(|topic| topic.all()).collect();
        let recent = i64::try_from(RECENT.as_millis()).unwrap_or(i64::MAX);
        let recent = Timestamp::from_millis(reading::now().as_millis().saturating_sub(recent));
        // Cards are announced every few seconds; of agents that are gone, the compacted log has the last.
        for since in [Some(recent), None] {
            let mut cards: BTreeMap<Vec<u8>, AgentCard> = BTreeMap::new();
            let spans = reading::spans(cluster, &partitions, since).await?;
            reading::scan(cluster, spans, |record| take_card(&record, &mut cards)).await?;
            if !cards.is_empty() {
                return Ok(Self::of(cards.values()));
            }
        }
        Ok(Self::default())
    }

    /// As these cards say.
    pub(crate) fn of<'a>(cards: impl IntoIterator<Item = &'a AgentCard>) -> Self {
        let schemas = cards.into_iter().flat_map(|card| [&card.input_schema, &card.output_schema]);
        Self(Mask::of(schemas).anywhere())
    }

    /// Whether no card has marked anything yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A record's value as it may be shown.
    pub(crate) fn value(&self, value: &Value) -> Value {
        self.0.value(value)
    }

    /// Words about a record, as they may be shown.
    pub(crate) fn words(&self, value: Option<&[u8]>, words: &str) -> String {
        match value.and_then(|value| serde_json::from_slice(value).ok()) {
            Some(value) => self.0.text(&value, words),
            None => words.to_owned(),
        }
    }
}

fn take_card(record: &Record, cards: &mut BTreeMap<Vec<u8>, AgentCard>) {
    let key = record.key.as_deref().unwrap_or_default().to_vec();
    // A tombstone removes a card; what cannot be read is no card.
    let card = Envelope::decode(&record.view()).ok().and_then(|decoded| decoded.json::<AgentCard>().ok());
    if let Some(card) = card {
        cards.insert(key, card);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn card(input_schema: &Value) -> AgentCard {
        serde_json::from_value(json!({
            "name": "identity", "description": "", "version": "1", "after": [], "required": true,
            "input_schema": input_schema, "output_schema": {}, "announced_at": "2026-11-24T12:00:00Z",
        }))
        .unwrap()
    }

    #[test]
    fn what_a_card_marks_is_masked_wherever_it_stands() {
        let masking = Masking::of([&card(&json!({ "properties": { "name": { "x-pii": true } } }))]);
        let task = json!({ "request": { "name": "Ava Specimen" }, "agent": "identity" });
        assert_eq!(masking.value(&task), json!({ "request": { "name": "[masked]" }, "agent": "identity" }));
        let bytes = task.to_string();
        assert_eq!(masking.words(Some(bytes.as_bytes()), "no such person: Ava Specimen"), "no such person: [masked]");
        assert_eq!(masking.words(Some(b"{"), "not JSON"), "not JSON");
    }
}

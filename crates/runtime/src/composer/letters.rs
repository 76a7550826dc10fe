//! Records that are set aside: late ones, dead letters, and review decisions that came to the wrong partition.

use anabranch_core::join::{Case, LOST_CASE, LateReason, Log};
use anabranch_kafka::{OutRecord, Record};
use anabranch_protocol::dead_letter::{self, MAX_MESSAGE_BYTES};
use anabranch_protocol::{CorrelationId, Header, header};
use anabranch_sdk::composer::Composer;
use bytes::Bytes;

use super::partition::PartitionJoin;
use super::payloads::Payload;
use crate::emit::{self, GivenUp, Reason};
use crate::service::Service;

impl<C: Composer> PartitionJoin<C> {
    pub(super) fn late(&self, record: &Record, reason: LateReason) -> OutRecord {
        tracing::debug!(correlation_id = %Service::case_of(record), reason = reason.as_str(), "late");
        self.site.metrics.handled("late");
        let mut headers = record.headers.clone();
        headers.push(Header::text(header::LATE_REASON, reason.as_str()));
        OutRecord {
            topic: self.site.topology.late_topic(),
            partition: None,
            key: record.key.clone(),
            value: record.value.clone(),
            headers,
            timestamp_ms: Some(record.timestamp_ms),
        }
    }

    /// A producer that does not place keys as Java clients do (kcat, by default) puts a decision beside another
    /// partition of the join than its case. It is written again, where it belongs.
    pub(super) fn move_to_its_partition(&self, record: &Record, id: &CorrelationId) -> Option<OutRecord> {
        let home = anabranch_protocol::partition::partition_for_key(id.as_str().as_bytes(), self.review_partitions);
        (home != self.partition).then(|| {
            tracing::info!(correlation_id = %id, from = self.partition, to = home, "a review decision in another partition, moving it");
            OutRecord {
                topic: record.topic.to_string(),
                partition: Some(home),
                key: Some(id.as_str().to_owned().into()),
                value: record.value.clone(),
                headers: record.headers.clone(),
                timestamp_ms: Some(record.timestamp_ms),
            }
        })
    }

    /// The plan of a case that becomes a dead letter, with the request in it.
    pub(super) fn plan_record(&self, case: &Case, plan: &Payload) -> Record {
        Record {
            value: Some(plan.data.clone()),
            headers: match case.redrives {
                0 => plan.envelope.headers(),
                redrives => dead_letter::redriven(&plan.envelope.headers(), redrives),
            },
            ..self.case_record(&plan.envelope.correlation_id, case)
        }
    }

    /// A case whose plan is lost, with what is known of it.
    pub(super) fn lost_record(&self, id: &CorrelationId, case: &Case, saved: Vec<u8>) -> Record {
        let headers = [
            (header::SPEC_VERSION, "1.0".to_owned()),
            (header::ID, case.plan_id.to_string()),
            (header::SOURCE, self.site.source()),
            (header::TYPE, LOST_CASE.to_owned()),
            (header::TIME, case.opened_at.to_string()),
            (header::CORRELATION_ID, id.to_string()),
            (header::EXPIRY_TIME, case.deadline.to_string()),
        ];
        Record {
            value: Some(Bytes::from(saved)),
            headers: headers.into_iter().map(|(name, value)| Header::text(name, value)).collect(),
            ..self.case_record(id, case)
        }
    }

    fn case_record(&self, id: &CorrelationId, case: &Case) -> Record {
        Record {
            topic: self.site.topology.results_topic().into(),
            partition: self.partition,
            offset: if case.plan.log == Log::Results { case.plan.offset } else { -1 },
            timestamp_ms: case.opened_at.as_millis(),
            key: Some(Bytes::from(id.as_str().to_owned())),
            value: None,
            headers: Vec::new(),
        }
    }

    pub(super) fn dead_letter(&self, record: &Record, why: &str) -> OutRecord {
        let case = Service::case_of(record);
        self.site.metrics.handled("dead-letter");
        tracing::warn!(
            correlation_id = %case, agent = C::NAME, topic = &*record.topic, partition = record.partition,
            offset = record.offset, error = why, "dead letter"
        );
        let dlq_topic = self.site.topology.dlq_topic(&record.topic);
        let given_up = GivenUp {
            dlq_topic: &dlq_topic,
            group: &self.site.group(),
            agent: C::NAME,
            agent_version: C::VERSION,
            reason: &Reason::new("terminal", why),
            correlation_id: &case,
        };
        emit::dead_letter(record, &given_up, self.now, MAX_MESSAGE_BYTES)
    }
}

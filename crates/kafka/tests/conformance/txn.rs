//! A transactional producer, of the plainest kind.

use std::time::Duration;

use kafka_protocol::{
    messages::{
        AddPartitionsToTxnRequest, EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest, ProducerId,
        TransactionalId, add_partitions_to_txn_request::AddPartitionsToTxnTopic,
    },
    records::Compression,
};

use crate::raw::{From, Raw, batch, produce, text, topic_name};

/// Codes that pass: the coordinator is on its way, or still writing markers.
const PASSING: [i16; 4] = [14, 15, 16, 51];

pub struct Txn {
    raw: Raw,
    from: From,
}

impl Txn {
    pub async fn new(address: &str, id: &str) -> Self {
        let mut raw = Raw::connect(address).await;
        let find = FindCoordinatorRequest::default().with_key(text(id)).with_key_type(1);
        let init = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(text(id))))
            .with_transaction_timeout_ms(30_000);
        loop {
            let mut code = raw.call(1, &find).await.error_code;
            if code == 0 {
                let answer = raw.call(1, &init).await;
                code = answer.error_code;
                if code == 0 {
                    let producer = Some((answer.producer_id.0, answer.producer_epoch));
                    return Self { raw, from: From { transactional_id: Some(id.into()), producer, sequence: 0 } };
                }
            }
            passing(code).await;
        }
    }

    pub async fn send(&mut self, topic: &str, partition: i32, values: &[&str]) -> i64 {
        let (producer_id, epoch) = self.from.producer.unwrap();
        let id = TransactionalId(text(self.from.transactional_id.as_deref().unwrap()));
        let t = AddPartitionsToTxnTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        let add = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(id)
            .with_v3_and_below_producer_id(ProducerId(producer_id))
            .with_v3_and_below_producer_epoch(epoch)
            .with_v3_and_below_topics(vec![t]);
        loop {
            let answer = self.raw.call(1, &add).await;
            match answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code {
                0 => break,
                code => passing(code).await,
            }
        }
        let batch = batch(&self.from, values, Compression::None);
        let offset = produce(&mut self.raw, &self.from, topic, partition, batch).await;
        self.from.sequence += i32::try_from(values.len()).unwrap();
        offset
    }

    pub async fn end(&mut self, commit: bool) {
        let (producer_id, epoch) = self.from.producer.unwrap();
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(text(self.from.transactional_id.as_deref().unwrap())))
            .with_producer_id(ProducerId(producer_id))
            .with_producer_epoch(epoch)
            .with_committed(commit);
        loop {
            match self.raw.call(1, &request).await.error_code {
                0 => return,
                code => passing(code).await,
            }
        }
    }
}

async fn passing(code: i16) {
    assert!(PASSING.contains(&code), "code {code}");
    tokio::time::sleep(Duration::from_millis(20)).await;
}

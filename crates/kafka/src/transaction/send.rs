//! Writing records as part of a transaction: one batch per partition at a time, one request per leader.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use anabranch_core::transaction::{Asked, Producer, Verdict, Version};
use bytes::Bytes;
use futures::future::join_all;
use kafka_protocol::messages::{
    ProduceRequest, ProduceResponse,
    produce_request::{PartitionProduceData, TopicProduceData},
};

use super::{
    TransactionalProducer,
    wire::{Most, Wire, before},
};
use crate::{
    api::Api,
    batch::{Producing, encode_batch, record_size},
    error::{Error, ErrorKind},
    offsets::topic_name,
    producer::{ACKS_ALL, now_ms},
    types::{Delivered, OutRecord, TopicPartition},
};

const NAME: &str = ProduceRequest::NAME;
/// The offset of a batch that a broker knows to have, but no longer where.
const SOMEWHERE: i64 = -1;

/// Records of one batch, with their places in the answer.
type Records = Vec<(usize, OutRecord)>;

/// A batch on its way. It is the same bytes in every try, so that a broker knows it again.
struct Outgoing {
    tp: TopicPartition,
    bytes: Bytes,
    places: Vec<usize>,
}

/// What is to be sent, in batches by partition.
#[derive(Default)]
pub(super) struct Parcels {
    batches: BTreeMap<TopicPartition, VecDeque<(usize, Records)>>,
    /// How many records there were.
    records: usize,
}

impl Parcels {
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Where it goes.
    pub(super) fn partitions(&self) -> Vec<TopicPartition> {
        self.batches.keys().cloned().collect()
    }

    fn add(&mut self, tp: TopicPartition, place: usize, record: OutRecord, max_batch_bytes: usize) {
        let bytes = record_size(&record);
        let batches = self.batches.entry(tp).or_default();
        match batches.back_mut().filter(|(size, _)| size + bytes <= max_batch_bytes) {
            Some((size, records)) => {
                *size += bytes;
                records.push((place, record));
            }
            None => batches.push_back((bytes, vec![(place, record)])),
        }
    }

    /// The next batch of each partition, as many as fit.
    fn round(&mut self, max_bytes: usize) -> Vec<(TopicPartition, Records)> {
        let mut round = Vec::new();
        let mut room = max_bytes;
        for (tp, batches) in &mut self.batches {
            match batches.pop_front() {
                Some((size, records)) if round.is_empty() || size <= room => {
                    room = room.saturating_sub(size);
                    round.push((tp.clone(), records));
                }
                Some(later) => batches.push_front(later),
                None => {}
            }
        }
        self.batches.retain(|_, batches| !batches.is_empty());
        round
    }
}

impl TransactionalProducer {
    /// Sends all parcels and waits until all in-sync replicas have them.
    pub(super) async fn send(
        &mut self,
        deadline: Instant,
        producer: Producer,
        mut parcels: Parcels,
    ) -> Result<Vec<Delivered>, Error> {
        let mut delivered = vec![Delivered { partition: -1, offset: SOMEWHERE }; parcels.records];
        loop {
            let round = parcels.round(self.wire.config.max_round_bytes);
            if round.is_empty() {
                return Ok(delivered);
            }
            let outgoing = round.into_iter().map(|(tp, records)| self.seal(producer, tp, records)).collect();
            self.deliver(deadline, outgoing, &mut delivered).await?;
        }
    }

    /// Sorts records into batches by partition.
    pub(super) async fn pack(&self, deadline: Instant, records: Vec<OutRecord>) -> Result<Parcels, Error> {
        before(deadline, NAME, self.pack_up(records)).await
    }

    async fn pack_up(&self, records: Vec<OutRecord>) -> Result<Parcels, Error> {
        let config = &self.wire.config;
        let mut parcels = Parcels { records: records.len(), ..Parcels::default() };
        for (place, record) in records.into_iter().enumerate() {
            let (bytes, limit) = (record_size(&record), config.max_record_bytes);
            if bytes > limit {
                let kind = ErrorKind::RecordTooLarge { bytes, limit_bytes: Some(limit) };
                return Err(Error::new(NAME, kind).on_topic(record.topic));
            }
            let partition = self.placer.place(&record).await?;
            parcels.add(TopicPartition::new(record.topic.as_str(), partition), place, record, config.max_batch_bytes);
        }
        Ok(parcels)
    }

    fn seal(&mut self, producer: Producer, tp: TopicPartition, records: Records) -> Outgoing {
        let (places, records): (Vec<usize>, Vec<OutRecord>) = records.into_iter().unzip();
        let sequence = self.machine.sequence(&tp, i32::try_from(records.len()).unwrap_or(i32::MAX));
        let producing = Producing::transactional(producer.id, producer.epoch, sequence);
        Outgoing { tp, bytes: encode_batch(&records, producing, now_ms()), places }
    }

    /// Tries until all batches are in. The first that cannot be, ends it.
    async fn deliver(
        &mut self,
        deadline: Instant,
        mut pending: Vec<Outgoing>,
        delivered: &mut [Delivered],
    ) -> Result<(), Error> {
        let mut tries = self.tries(deadline);
        let wire = self.wire.clone();
        while !pending.is_empty() {
            let answers = before(deadline, NAME, async { Ok(wire.produce(self.machine.version(), &pending).await) });
            let answers = match answers.await {
                Ok(answers) => answers,
                Err(error) => vec![Err(error); pending.len()],
            };
            let mut again: Option<(Verdict, Error)> = None;
            let mut failed = Vec::new();
            for (batch, answer) in pending.into_iter().zip(answers) {
                let base = match answer {
                    Ok(base) => base,
                    Err(error) => match self.weigh(Asked::Produce, &error) {
                        Verdict::Duplicate => SOMEWHERE,
                        verdict @ (Verdict::Again | Verdict::FindCoordinator | Verdict::Missing) => {
                            wire.cluster.forget(&batch.tp.topic);
                            failed.push(batch);
                            again = Some((verdict, error));
                            continue;
                        }
                        _ => return Err(error),
                    },
                };
                self.machine.delivered(&batch.tp, base);
                for (place, index) in batch.places.iter().zip(0_i64..) {
                    let offset = if base < 0 { SOMEWHERE } else { base + index };
                    if let Some(slot) = delivered.get_mut(*place) {
                        *slot = Delivered { partition: batch.tp.partition, offset };
                    }
                }
            }
            pending = failed;
            if let Some((verdict, error)) = again {
                tries.wait(verdict, error).await?;
            }
        }
        Ok(())
    }
}

impl Wire {
    /// One try of each batch, all leaders at the same time. An answer for each, in order.
    async fn produce(&self, version: Version, batches: &[Outgoing]) -> Vec<Result<i64, Error>> {
        let mut answers: Vec<Result<i64, Error>> = Vec::with_capacity(batches.len());
        let mut leaders: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, batch) in batches.iter().enumerate() {
            let left_out = || Error::malformed(NAME, "the answer leaves out the partition");
            match self.cluster.leader(&batch.tp.topic, batch.tp.partition).await {
                Ok(leader) => {
                    leaders.entry(leader.address).or_default().push(index);
                    answers.push(Err(left_out().on_partition(&*batch.tp.topic, batch.tp.partition)));
                }
                Err(error) => answers.push(Err(error)),
            }
        }
        let mut requests = Vec::with_capacity(leaders.len());
        for (address, indexes) in &leaders {
            let mine: Vec<&Outgoing> = indexes.iter().filter_map(|i| batches.get(*i)).collect();
            requests.push(self.produce_at(version, address, mine));
        }
        for (indexes, result) in leaders.values().zip(join_all(requests).await) {
            match result {
                Ok(found) => {
                    for (index, answer) in indexes.iter().zip(found).filter_map(|(i, a)| Some((i, a?))) {
                        answers[*index] = answer;
                    }
                }
                Err(error) => indexes.iter().for_each(|index| answers[*index] = Err(error.clone())),
            }
        }
        answers
    }

    /// One request to one leader. What it says of each batch, in order; `None`: nothing.
    async fn produce_at(
        &self,
        version: Version,
        address: &str,
        batches: Vec<&Outgoing>,
    ) -> Result<Vec<Option<Result<i64, Error>>>, Error> {
        let connection = self.links.connection(&self.cluster, address).await?;
        let mut topics: Vec<TopicProduceData> = Vec::new();
        for batch in &batches {
            let data =
                PartitionProduceData::default().with_index(batch.tp.partition).with_records(Some(batch.bytes.clone()));
            match topics.iter_mut().find(|t| **t.name == *batch.tp.topic) {
                Some(topic) => topic.partition_data.push(data),
                None => topics.push(
                    TopicProduceData::default().with_name(topic_name(&batch.tp.topic)).with_partition_data(vec![data]),
                ),
            }
        }
        let timeout_ms = i32::try_from(self.limit().as_millis()).unwrap_or(i32::MAX);
        let answer = connection
            .call_up_to(Most::of(version).produce, self.limit(), |_| {
                ProduceRequest::default()
                    .with_transactional_id(Some(self.id()))
                    .with_acks(ACKS_ALL)
                    .with_timeout_ms(timeout_ms)
                    .with_topic_data(topics)
            })
            .await?;
        Ok(batches.iter().map(|batch| find(&answer, &batch.tp, address)).collect())
    }
}

fn find(answer: &ProduceResponse, tp: &TopicPartition, address: &str) -> Option<Result<i64, Error>> {
    let topic = answer.responses.iter().find(|t| **t.name == *tp.topic)?;
    let p = topic.partition_responses.iter().find(|p| p.index == tp.partition)?;
    Some(match p.error_code {
        0 => Ok(p.base_offset),
        code => {
            let message = p.error_message.as_ref().map(ToString::to_string);
            Err(Error::broker_code(NAME, code, message).at_broker(address).on_partition(&*tp.topic, tp.partition))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(bytes: usize) -> OutRecord {
        OutRecord { topic: "t".into(), value: Some(vec![0; bytes].into()), ..OutRecord::default() }
    }

    #[test]
    fn a_round_has_one_batch_of_each_partition_and_no_more_than_fits() {
        let mut parcels = Parcels::default();
        let tp = |partition| TopicPartition::new("t", partition);
        for (place, (partition, bytes)) in
            [(0, 400), (0, 400), (0, 400), (1, 900), (2, 900), (0, 2_000)].into_iter().enumerate()
        {
            parcels.add(tp(partition), place, record(bytes), 1_000);
        }
        let mut rounds = Vec::new();
        loop {
            let round = parcels.round(1_900);
            if round.is_empty() {
                break;
            }
            let places = |records: &Records| records.iter().map(|(place, _)| *place).collect::<Vec<_>>();
            rounds.push(round.iter().map(|(tp, records)| (tp.partition, places(records))).collect::<Vec<_>>());
        }
        let expected: Vec<Vec<(i32, Vec<usize>)>> =
            vec![vec![(0, vec![0, 1]), (1, vec![3])], vec![(0, vec![2]), (2, vec![4])], vec![(0, vec![5])]];
        assert_eq!(rounds, expected, "a batch larger than a round goes alone");
    }
}

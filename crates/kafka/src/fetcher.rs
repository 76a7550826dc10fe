//! Group-less reading.
use crate::{Error, Fetched, Position, TopicPartition};
/// Reads chosen partitions.
#[derive(Debug)]
pub struct Fetcher;
impl Fetcher {
    /// Starts reading a partition.
    pub fn add(&mut self, tp: TopicPartition, position: Position) { unimplemented!() }
    /// Stops reading a partition and forgets what was fetched of it.
    pub fn remove(&mut self, tp: &TopicPartition) { unimplemented!() }
    /// Stops handing out a partition until resumed.
    pub fn pause(&mut self, tp: &TopicPartition) { unimplemented!() }
    /// Goes on with a paused partition.
    pub fn resume(&mut self, tp: &TopicPartition) { unimplemented!() }
    /// The next batch. Cancel-safe.
    pub async fn next(&mut self) -> Result<Fetched, Error> { unimplemented!() }
}

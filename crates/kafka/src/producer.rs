//! Producing.
use crate::{Delivered, Error, OutRecord};
/// Writes records.
#[derive(Debug, Clone)]
pub struct Producer;
impl Producer {
    /// Resolves when all in-sync replicas have the record.
    pub async fn send(&self, record: OutRecord) -> Result<Delivered, Error> { unimplemented!() }
    /// Resolves when all in-sync replicas have all the records.
    pub async fn send_all(&self, records: Vec<OutRecord>) -> Result<Vec<Delivered>, Error> { unimplemented!() }
    /// Resolves when everything sent before is acknowledged or has failed.
    pub async fn flush(&self) -> Result<(), Error> { unimplemented!() }
}

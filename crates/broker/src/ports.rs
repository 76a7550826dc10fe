//! Where the broker's two halves meet: the log (partitions, produce, fetch) and the coordinators (groups,
//! transactions). Neither knows more of the other than this.

/// A Kafka error code; 0 is success.
pub(crate) type Code = i16;

/// What the transaction coordinator asks of the log.
pub(crate) trait Log: Send + Sync + 'static {
    /// Whether the partition exists.
    fn exists(&self, topic: &str, partition: i32) -> bool;

    /// Appends the marker that ends a producer's transaction on a partition, and moves the last stable offset. Does
    /// nothing, and succeeds, where the partition is gone.
    fn append_marker(&self, topic: &str, partition: i32, marker: Marker) -> std::io::Result<()>;
}

/// What the log asks of the transaction coordinator.
pub(crate) trait Transactions: Send + Sync + 'static {
    /// A transactional batch is about to be appended. Returns 0, or the code to refuse it with: an unknown or fenced
    /// producer, or (transaction version 1) a partition that was not added. Under version 2 (KIP-890) this adds it.
    fn before_append(
        &self,
        transactional_id: &str,
        producer: Producer,
        topic: &str,
        partition: i32,
        version: i16,
    ) -> Code;
}

/// A producer's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

/// The end of a transaction on one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) producer: Producer,
    pub(crate) commit: bool,
    pub(crate) coordinator_epoch: i32,
}

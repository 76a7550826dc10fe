//! Where reading a partition starts, or goes on when the log has lost its place.

use crate::{
    cluster::Cluster,
    config::{Isolation, StartOffset},
    error::Error,
    offsets::{EARLIEST, LATEST},
    types::TopicPartition,
};

/// Where a partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seek {
    At(i64),
    Earliest,
    Latest,
    /// The log does not have this offset.
    OutOfRange(i64),
}

/// The offset to go on at.
pub(super) async fn find_offset(
    cluster: &Cluster,
    tp: &TopicPartition,
    seek: Seek,
    reset: StartOffset,
    isolation: Isolation,
) -> Result<i64, Error> {
    let list = async |timestamp| {
        let found = cluster.list_offsets(std::slice::from_ref(tp), timestamp, isolation).await?;
        Ok(found.get(tp).copied().unwrap_or(0).max(0))
    };
    match (seek, reset) {
        (Seek::At(offset), _) => Ok(offset),
        (Seek::Earliest, _) => list(EARLIEST).await,
        (Seek::Latest, _) => list(LATEST).await,
        // Retention took what was to be read: go on with the first record there is. Past the end: as configured.
        (Seek::OutOfRange(offset), reset) => match list(EARLIEST).await? {
            earliest if offset < earliest || reset == StartOffset::Earliest => Ok(earliest),
            _ => list(LATEST).await,
        },
    }
}

//! The layouts, in the order of the fields on the wire. A range after a field names the versions that have it.
//!
//! They follow Apache Kafka's own message definitions, as kafka-protocol was generated from them. A message that is not
//! here cannot be read by client or broker: it does not compile.

mod admin;
mod cluster;
mod groups;
mod records;
mod transactions;

/// Message: first flexible version => fields.
macro_rules! shapes {
    ($($message:ident: $flexible_from:expr => [$($field:expr),* $(,)?],)*) => {
        $(impl crate::Shaped for $message {
            const SHAPE: crate::Shape = crate::Shape { flexible_from: $flexible_from, fields: &[$($field),*] };
        })*

        #[cfg(test)]
        pub(crate) const ENTRIES: &[crate::tests::Entry] =
            &[$(crate::tests::Entry::of::<$message>(stringify!($message))),*];
    };
}

use shapes;

#[cfg(test)]
pub(crate) fn entries() -> impl Iterator<Item = &'static crate::tests::Entry> {
    [records::ENTRIES, cluster::ENTRIES, groups::ENTRIES, admin::ENTRIES, transactions::ENTRIES].into_iter().flatten()
}

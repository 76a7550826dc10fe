//! What is wrong with a message.

/// Why a message cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It ends within a field of fixed size or a length.
    #[error("cut off: {wanted} bytes are wanted where {left} are left")]
    CutOff {
        /// What the field takes.
        wanted: usize,
        /// What there is.
        left: usize,
    },
    /// A length below -1, which stands for nothing.
    #[error("the length of `{field}` is negative: {length}")]
    Negative {
        /// The field.
        field: &'static str,
        /// What is written.
        length: i32,
    },
    /// A length that cannot be true.
    #[error("`{field}` claims a length of {claimed} where {left} bytes are left")]
    DoesNotFit {
        /// The field.
        field: &'static str,
        /// Items of an array, bytes of anything else.
        claimed: usize,
        /// Bytes left.
        left: usize,
    },
    /// More items than any honest message has.
    #[error("more than {limit} items", limit = crate::MAX_ITEMS)]
    TooManyItems,
    /// The codec's own words: text that is not UTF-8, nothing where something must be.
    #[error("{0}")]
    Codec(String),
}

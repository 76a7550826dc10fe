//! The model an agent asks, or none.

mod endpoint;

pub(crate) use endpoint::from_env;

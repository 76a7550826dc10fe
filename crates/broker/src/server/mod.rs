//! The network side: connections, frames, and which API has which versions.

pub(crate) mod api;
pub(crate) mod connection;
pub(crate) mod dispatch;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod untrusted;

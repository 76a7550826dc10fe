//! What the schema cannot say.
use crate::diagnostic::Report;
use crate::model::Topology;
use crate::raw;

pub(crate) fn check(_: &raw::File, _: &Topology, _: &[String], _: bool, _: &mut Report<'_>) {}

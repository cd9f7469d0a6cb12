//! Tests of the log.

use super::{RetentionPolicy, Sync};
use crate::model::tests::*;
use crate::model::{Outcome, Record, Verified};

mod blob_store;
mod bounds;
mod crash;
mod figures;
mod journal;
mod log;
mod maintenance;
mod read;
mod retention;
mod sequence_range;
mod write_buffer;
mod writer;

pub(crate) fn policy() -> RetentionPolicy {
    RetentionPolicy::default()
}

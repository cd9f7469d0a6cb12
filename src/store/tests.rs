//! The tests of the log.

use super::{Keep, Sync};
use crate::model::tests::*;
use crate::model::{Outcome, Record, Verified};

mod bounds;
mod care;
mod crash;
mod figures;
mod front;
mod log;
mod numbered;
mod room_made;
mod shelf;
mod tail;

pub(crate) fn keep() -> Keep {
    Keep::default()
}

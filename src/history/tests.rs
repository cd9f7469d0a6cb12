//! A vocabulary for the tests of the log and of data checking: batches that are nobody's.

use super::{Keep, Sync};
use crate::model::tests::*;
use crate::model::{Item, Outcome, Record, Verified};

mod bounds;
mod care;
mod checks;
mod confirm;
mod crash;
mod faults;
mod figures;
mod front;
mod items;
mod log;
mod numbered;
mod offers;
mod order;
mod played;
mod reconcile;
mod removed;
mod room_made;
mod shelf;
mod slow;
mod tail;
mod vectors;

pub(crate) fn keep() -> Keep {
    Keep::default()
}

//! The tests of data checking.

use crate::model::Item;
use crate::model::tests::*;

mod checks;
mod confirm;
mod faults;
mod items;
mod offers;
mod played;
mod reconcile;
mod removed;
mod slow;
mod vectors;

//! Tests of anti-entropy ("data checking").

use crate::model::Item;
use crate::model::tests::*;

mod announce;
mod anti_entropy;
mod confirm;
mod faults;
mod items;
mod played;
mod reconcile;
mod removed;
mod slow;
mod vectors;

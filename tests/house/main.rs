//! Rules of the source tree itself: the direction of imports, purity of rules, and how public items are documented.

mod direction;
mod docs;
mod imports;
mod purity;
mod source;

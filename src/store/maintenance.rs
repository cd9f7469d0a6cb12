//! Maintenance of a log that no node has open: check, export and import.
//!
//! Entry points: [`check`], [`export`], [`import`]. The rule they keep: an imported batch is verified again.

mod check;
mod export;
mod import;
mod line;

pub use check::{Report, check};
pub use export::export;
pub use import::{Imported, Refused, import};

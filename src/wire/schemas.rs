//! What the messages of `proto/*.proto` may hold, for [`super::strict::check`]: one module for each file.
//! Generated and committed; a test in `tests/it/` compares them with the files and, asked to, writes them anew.

include!("generated/schemas.rs");

//! Schemas of the messages of `proto/*.proto` for [`super::strict::check`], one module for each file. They are generated and
//! committed: a test in `tests/it/` compares them with the files, and rewrites them on request.

include!("generated/schemas.rs");

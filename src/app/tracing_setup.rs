//! Sets up tracing: log lines on stderr.
//!
//! Entry function: [`start`]. The rule it keeps: unless RUST_LOG asks for more, only warnings for the operator are
//! written.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::args::LogFormat;
use super::{output, stderr};

/// Default filter: this program's warnings, and nothing from libraries.
const DEFAULT: &str = "off,diatribe=warn";

/// Starts to write logs, once for the process.
pub(crate) fn start(format: LogFormat) {
    let asked = std::env::var("RUST_LOG")
        .ok()
        .filter(|text| !text.is_empty());
    let (filter, refused) = match asked.as_deref().map(EnvFilter::try_new) {
        None => (EnvFilter::new(DEFAULT), None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(DEFAULT), Some(error)),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr::writer())
        // The library would say so with `eprintln!`, which panics when stderr is gone.
        .log_internal_errors(false)
        .with_ansi(output::colours() && std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    if let Some(error) = refused {
        tracing::warn!("RUST_LOG is not understood and not used: {error}");
    }
}

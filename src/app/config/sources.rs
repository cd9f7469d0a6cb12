//! Tells options on the command line from those of the environment.
//!
//! Entry type: [`ArgSources`].

use clap::ArgMatches;
use clap::parser::ValueSource;

/// The source of each option: the command line or the environment.
#[derive(Debug)]
pub(crate) struct ArgSources(ArgMatches);

impl ArgSources {
    pub(crate) fn new(matches: ArgMatches) -> ArgSources {
        ArgSources(matches)
    }

    fn source(&self, id: &str) -> Option<ValueSource> {
        match self.0.try_contains_id(id) {
            Ok(true) => self.0.value_source(id),
            _ => None,
        }
    }

    /// Returns whether the option is on the command line.
    pub(super) fn typed(&self, id: &str) -> bool {
        self.source(id) == Some(ValueSource::CommandLine)
    }

    /// Returns the values of a repeatable option: in the environment, one text with commas.
    pub(super) fn list(&self, id: &str, values: Vec<String>) -> Vec<String> {
        if self.source(id) != Some(ValueSource::EnvVariable) {
            return values;
        }
        values
            .iter()
            .flat_map(|v| v.split(','))
            .map(str::trim)
            .filter(|v| !v.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

//! Finds environment variables that look like options and are none.
//!
//! Entry function: [`warn_of_unknown_variables`].

use std::collections::BTreeSet;

use clap::CommandFactory;

use super::Args;
use crate::app::config::PASSPHRASE_VARIABLE;

/// Prefix of the environment variables of all options.
const PREFIX: &str = "DIATRIBE_";
/// Maximum number of letters added, lost, changed or swapped in a misspelt variable.
const MAX_MISSPELT: usize = 3;

/// Warns of each environment variable that looks like an option and is none: a misspelt one would be ignored in silence.
/// It is no error, because systems that run containers set variables of their own with the name of the program.
pub(crate) fn warn_of_unknown_variables() {
    let known = variables(&Args::command());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if !name.starts_with(PREFIX) || known.contains(&*name) || is_of_tests(&name) {
            continue;
        }
        let nearest = known
            .iter()
            .map(|known| (strsim::damerau_levenshtein(known, &name), known))
            .min()
            .filter(|(distance, _)| *distance <= MAX_MISSPELT);
        match nearest {
            Some((_, known)) => {
                tracing::warn!(
                    "the environment variable {name} is not known and not used: is it {known}?"
                );
            }
            None => tracing::warn!(
                "the environment variable {name} is not known and not used; --help names those that are"
            ),
        }
    }
}

/// Returns the environment variables of `command` and its subcommands.
fn variables(command: &clap::Command) -> BTreeSet<String> {
    let own = command
        .get_arguments()
        .filter_map(|arg| arg.get_env())
        .map(|name| name.to_string_lossy().into_owned());
    let below = command.get_subcommands().flat_map(variables);
    let passphrase = PASSPHRASE_VARIABLE.to_owned();
    own.chain(below).chain([passphrase]).collect()
}

/// Returns whether a variable is one that the tests and the runs with other languages read.
fn is_of_tests(name: &str) -> bool {
    [
        "DIATRIBE_TEST_",
        "DIATRIBE_BIN",
        "DIATRIBE_CHROMIUM",
        "DIATRIBE_CRASH_",
    ]
    .iter()
    .any(|known| name.starts_with(known))
}

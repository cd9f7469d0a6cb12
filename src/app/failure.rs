//! Why a command did not do as asked.
//!
//! Entry type: [`Failure`]. The rule it keeps: the message stands alone, in one line, and says what
//! to do when that is known.

use std::fmt;
use std::process::ExitCode;

use super::{output, stderr};
use crate::node::NodeFailure;

/// A message and an exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: u8,
    /// Programs have read it on stdout already.
    is_told: bool,
}

impl Failure {
    /// Something went wrong: exit code 1.
    pub(crate) fn new(message: impl fmt::Display) -> Failure {
        Failure {
            message: message.to_string(),
            code: 1,
            is_told: false,
        }
    }

    /// A failure that the node has told as an event already: it is said on stderr alone.
    pub(crate) fn of_node(failure: &NodeFailure) -> Failure {
        Failure {
            is_told: true,
            ..Failure::new(failure)
        }
    }

    /// The command line makes no sense: exit code 2.
    pub(crate) fn usage(message: impl fmt::Display) -> Failure {
        Failure {
            message: message.to_string(),
            code: 2,
            is_told: false,
        }
    }

    /// Says it on stderr, and to programs on stdout too.
    pub(crate) fn tell(&self, json: bool) {
        stderr::say(&format!("error: {}", self.message));
        if json && !self.is_told {
            output::print_error(&self.message);
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

//! The error with which a command ends.
//!
//! Entry type: [`Failure`]. The rule it keeps: the message is complete in one line, and names the remedy when it is
//! known.

use std::fmt;
use std::process::ExitCode;

use super::{output, stderr};
use crate::node::NodeFailure;

/// A message and an exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: u8,
    /// A JSON line has reported it already.
    is_told: bool,
}

impl Failure {
    /// Creates a failure with exit code 1.
    pub(crate) fn new(message: impl fmt::Display) -> Failure {
        Failure {
            message: message.to_string(),
            code: 1,
            is_told: false,
        }
    }

    /// Creates a failure that the node has already reported as an event: it is printed on stderr only.
    pub(crate) fn of_node(failure: &NodeFailure) -> Failure {
        Failure {
            is_told: true,
            ..Failure::new(failure)
        }
    }

    /// Creates a failure for wrong usage, with exit code 2.
    pub(crate) fn usage(message: impl fmt::Display) -> Failure {
        Failure {
            message: message.to_string(),
            code: 2,
            is_told: false,
        }
    }

    /// Prints the message on stderr, and for programs on stdout too.
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

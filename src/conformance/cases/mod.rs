//! All cases, in the order in which they are listed.
//!
//! Entry: [`all`]. The rule it keeps: a name occurs once.

mod addresses;
mod anti_entropy;
mod before_the_pass;
mod encoding;
pub(crate) mod forwarding;
mod good;
mod gossip;
mod handshake;
mod links;
mod messages;
mod offences;
mod optional;
mod timeouts;

use crate::conformance::case::Case;

/// The paragraph of the cases that wait for timeouts, which begin first.
pub(crate) const SLOW: &str = "5 Time";

/// Returns every case of the kit.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    [
        good::CASES,
        optional::CASES,
        addresses::CASES,
        anti_entropy::CASES,
        messages::CASES,
        gossip::CASES,
        timeouts::CASES,
    ]
    .into_iter()
    .chain(handshake::CASES)
    .chain([offences::CASES, encoding::CASES])
    .flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_name_is_there_once_and_every_case_names_its_chapter() {
        let mut names = HashSet::new();
        for case in all() {
            assert!(names.insert(case.name), "{} is there twice", case.name);
            let chapter = case
                .spec
                .split(' ')
                .next()
                .and_then(|n| n.parse::<u8>().ok());
            assert!(
                chapter.is_some_and(|n| (1..=16).contains(&n)),
                "{}",
                case.name
            );
        }
    }
}

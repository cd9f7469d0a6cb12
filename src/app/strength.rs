//! Strength of a passphrase: the number of guesses that find it, as zxcvbn estimates it.
//!
//! Entry function: [`check_passphrase`]. The rule it keeps: a passphrase that is easily guessed is refused unless the user
//! insists, because PeerIds are public and anyone can guess offline.

use std::fmt;

/// A passphrase that takes fewer guesses is refused: at 0.6 s a guess, 10^10 guesses are 200 years of one core, and an
/// attacker has many.
const REFUSED_BELOW_GUESSES: u64 = 10_000_000_000;

/// A passphrase that takes fewer guesses is accepted with a warning.
const WARNED_BELOW_GUESSES: u64 = 100_000_000_000_000;

/// Estimated resistance of a passphrase to guessing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strength {
    /// Fewer guesses than [`REFUSED_BELOW_GUESSES`].
    Refused { guesses: u64 },
    /// Fewer guesses than [`WARNED_BELOW_GUESSES`]: usable, with a warning.
    Weak { guesses: u64 },
    /// At least [`WARNED_BELOW_GUESSES`] guesses.
    Strong,
}

impl Strength {
    /// Estimates the strength of `passphrase`.
    pub(crate) fn of(passphrase: &str) -> Strength {
        match zxcvbn::zxcvbn(passphrase, &["diatribe"]).guesses() {
            guesses if guesses < REFUSED_BELOW_GUESSES => Strength::Refused { guesses },
            guesses if guesses < WARNED_BELOW_GUESSES => Strength::Weak { guesses },
            _ => Strength::Strong,
        }
    }
}

/// Error for a passphrase that is refused because about this many guesses find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooWeak {
    guesses: u64,
}

impl fmt::Display for TooWeak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the passphrase is too weak: about {} guesses find it, {REFUSED_BELOW_GUESSES} are the least; take a longer one, \
             have one made with `diatribe key passphrase`, or insist with `--allow-weak-passphrase`",
            self.guesses
        )
    }
}

/// Returns the strength of `passphrase`.
///
/// # Errors
///
/// Fails when the passphrase is below the minimum and `allow_weak` is not set.
pub(crate) fn check_passphrase(passphrase: &str, allow_weak: bool) -> Result<Strength, TooWeak> {
    match Strength::of(passphrase) {
        Strength::Refused { guesses } if !allow_weak => Err(TooWeak { guesses }),
        strength => Ok(strength),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::generate_passphrase;

    #[test]
    fn weak_passphrases_are_refused_unless_asked_for() {
        assert!(matches!(
            Strength::of("password1"),
            Strength::Refused { .. }
        ));
        assert!(matches!(
            Strength::of("tr0ub4dor&3 x"),
            Strength::Weak { .. }
        ));
        let refused = check_passphrase("diatribe2024", false).unwrap_err();
        assert!(refused.guesses > 0, "{refused}");
        assert!(matches!(
            check_passphrase("diatribe2024", true),
            Ok(Strength::Refused { .. })
        ));
    }

    #[test]
    fn generated_passphrases_are_strong() {
        for _ in 0..20 {
            let passphrase = generate_passphrase();
            assert_eq!(
                Strength::of(&passphrase),
                Strength::Strong,
                "{}",
                passphrase.as_str()
            );
        }
    }
}

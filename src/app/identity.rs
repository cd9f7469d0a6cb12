//! Opens the identity that the options name: from the key file, or from a passphrase.
//!
//! Entry function: [`open`]. The rule it keeps: the strength of a passphrase is checked before it is used, and no
//! message contains it.

use std::io::{BufRead, IsTerminal, Read};
use std::path::Path;

use zeroize::Zeroizing;

use super::config::{IdentityConfig, Source};
use super::failure::Failure;
use super::stderr;
use super::strength::{Strength, check_passphrase};
use crate::identity::{self, Identity, NetworkKey};

/// Maximum size of a passphrase's line in bytes: the longest passphrase before it is composed, and its newline.
const MAX_LINE: u64 = 4 * identity::MAX_PASSPHRASE_BYTES as u64 + 2;

/// Opens the identity of these options. Blocks: for most of a second to derive it from a passphrase, and for as long as
/// a person takes to type.
pub(crate) fn open(config: &IdentityConfig) -> Result<Identity, Failure> {
    let passphrase = match &config.source {
        Source::Kept => return identity::load_or_create(&config.folder).map_err(Failure::new),
        Source::File(path) => {
            warn_of_readers(path, "passphrase");
            identity::read_passphrase_file(path).map_err(Failure::new)?
        }
        Source::Environment(value) => parse(&value.0)?,
        Source::Stdin => parse(&first_line()?)?,
        Source::Prompt => prompt()?,
    };
    let strength = check_passphrase(&passphrase, config.allow_weak).map_err(Failure::new)?;
    if let Strength::Weak { guesses } | Strength::Refused { guesses } = strength {
        tracing::warn!(
            "the passphrase is weak: about {guesses} guesses find it, and whoever finds it is this \
             node; `diatribe key passphrase` makes a strong one"
        );
    }
    if std::io::stderr().is_terminal() {
        stderr::say("making the key from the passphrase, which takes a moment …");
    }
    Identity::from_passphrase(&passphrase, &config.salt).map_err(Failure::new)
}

/// Opens the identity where no key file can be written: an existing one is read, and without one the identity is
/// temporary.
pub(crate) fn open_unkept(config: &IdentityConfig) -> Result<Identity, Failure> {
    let path = identity::key_file_path(&config.folder);
    if !matches!(config.source, Source::Kept) || path.exists() {
        return match config.source {
            Source::Kept => identity::load(&path).map_err(Failure::new),
            _ => open(config),
        };
    }
    tracing::warn!(
        "{} cannot be written: this node has a new identity, which ends with it; make it writable, or give a passphrase, to \
         be the same node again",
        config.folder.display()
    );
    Ok(Identity::generate())
}

/// Reads a network key, and warns of one that can be guessed.
pub(crate) fn network_key(path: &Path) -> Result<NetworkKey, Failure> {
    warn_of_readers(path, "network key");
    let key = NetworkKey::read(path).map_err(|e| {
        let text = e.to_string();
        match text.contains(&*path.to_string_lossy()) {
            true => Failure::new(text),
            false => Failure::new(format!("{}: {text}", path.display())),
        }
    })?;
    if let Some(weakness) = key.weakness() {
        tracing::warn!(
            "the network key in {} does not look random: {weakness}. Whoever guesses it is in your network, and guesses \
             can be tried without asking any node. Make a random one with `diatribe key network FILE`, and give all \
             members that file",
            path.display()
        );
    }
    Ok(key)
}

fn warn_of_readers(path: &Path, what: &str) {
    if identity::exposed_to_others(path) {
        tracing::warn!(
            "the {what} file {} can be read by other users: run `chmod 600` on it",
            path.display()
        );
    }
}

fn parse(bytes: &[u8]) -> Result<Zeroizing<String>, Failure> {
    identity::passphrase_from_bytes(bytes).map_err(Failure::new)
}

/// Reads only the first line: the rest is the node's input.
fn first_line() -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE as usize));
    std::io::stdin()
        .lock()
        .take(MAX_LINE)
        .read_until(b'\n', &mut line)
        .map_err(|e| Failure::new(format!("the passphrase cannot be read from stdin: {e}")))?;
    Ok(line)
}

fn prompt() -> Result<Zeroizing<String>, Failure> {
    let typed = rpassword::prompt_password("passphrase: ")
        .map(Zeroizing::new)
        .map_err(|e| {
            Failure::new(format!(
                "there is no terminal to ask for the passphrase ({e}): use --passphrase-file, \
             --passphrase-stdin or the environment variable DIATRIBE_PASSPHRASE"
            ))
        })?;
    parse(typed.as_bytes())
}

//! `diatribe id` and `diatribe key`: identities and keys, without a node.
//!
//! Entry functions: [`id`], [`run`]. The rule they keep: no key is overwritten unasked, and none is
//! printed.

use std::path::Path;
use std::process::ExitCode;

use super::args::{IdArgs, KeyCommand};
use super::config::{ArgSources, IdentityConfig, Source};
use super::failure::Failure;
use super::folder::{self, Lock};
use super::{identity, output};
use crate::identity::{self as keys, IfExists, NetworkKey};

/// Prints the PeerId.
pub(crate) fn id(args: &IdArgs, given: &ArgSources) -> Result<ExitCode, Failure> {
    let (id, json) = describe(args, given)?;
    match json {
        true => print_json(&id),
        false => print(&id.peer_id),
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the command.
pub(crate) fn run(command: KeyCommand, given: &ArgSources) -> Result<ExitCode, Failure> {
    match command {
        KeyCommand::Passphrase => print(&keys::generate_passphrase()),
        KeyCommand::Network { file, force } => {
            NetworkKey::generate()
                .write(&file, if_exists(force))
                .map_err(|e| or_force(&e))?;
            print(&format!(
                "{} holds a new network key: give it to every node of the network, and to nobody else",
                file.display()
            ));
        }
        KeyCommand::Show(args) => show(&args, given)?,
        KeyCommand::Import {
            file,
            data_dir,
            force,
        } => import(&file, &folder::resolve(data_dir)?, force)?,
        KeyCommand::Export {
            file,
            identity,
            force,
        } => {
            let identity = identity::open(&IdentityConfig::read(identity, given)?)?;
            keys::export(&identity, &file, if_exists(force)).map_err(|e| or_force(&e))?;
            print(&format!(
                "{} holds the secret key of {}: whoever has it is this node",
                file.display(),
                identity.peer_id()
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(args: &IdArgs, given: &ArgSources) -> Result<(), Failure> {
    let (id, json) = describe(args, given)?;
    match json {
        true => print_json(&id),
        false => print(&format!(
            "PeerId       {}\npublic key   {} (Ed25519)\nsealing key  {} (X25519)\nmade from    {}",
            id.peer_id, id.public_key, id.sealing_key, id.source
        )),
    }
    Ok(())
}

fn import(file: &Path, folder: &Path, force: bool) -> Result<(), Failure> {
    // A running node has read its key already, and would keep another identity than the file.
    let _lock = Lock::take(folder)?;
    let identity = keys::import(file, folder, if_exists(force)).map_err(|e| or_force(&e))?;
    print(&format!("this node is {} now", identity.peer_id()));
    Ok(())
}

fn describe(args: &IdArgs, given: &ArgSources) -> Result<(output::Id, bool), Failure> {
    let config = IdentityConfig::read(args.identity.clone(), given)?;
    let identity = identity::open(&config)?;
    let id = output::Id {
        peer_id: identity.peer_id().to_string(),
        public_key: hex::encode(identity.signing_key().verifying_key().as_bytes()),
        sealing_key: hex::encode(identity.sealing_public()),
        source: match config.source {
            Source::Kept => "key file",
            _ => "passphrase",
        },
    };
    Ok((id, args.json))
}

fn if_exists(force: bool) -> IfExists {
    match force {
        true => IfExists::Replace,
        false => IfExists::Refuse,
    }
}

/// Adds the hint about `--force` to a refusal to overwrite.
fn or_force(error: &dyn std::fmt::Display) -> Failure {
    let text = error.to_string();
    match text.contains("exists already") {
        true => Failure::new(format!("{text}; --force writes over it")),
        false => Failure::new(text),
    }
}

fn print_json(id: &output::Id) {
    let mut line = Vec::new();
    output::JsonLines::default().id(id, &mut line);
    output::print(&line);
}

fn print(text: &str) {
    output::print(format!("{text}\n").as_bytes());
}

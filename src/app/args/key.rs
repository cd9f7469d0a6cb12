//! Options of `diatribe key`.

use std::path::PathBuf;

use clap::Subcommand;

use super::{IdArgs, IdentityArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Generate a passphrase of seven words and print it
    Passphrase,
    /// Write a new network key to a file, to be given to every node of the network
    Network {
        /// File to write
        file: PathBuf,
        /// Overwrite an existing file
        #[arg(long)]
        force: bool,
    },
    /// Show the public parts of this node's key
    Show(IdArgs),
    /// Use a key file (libp2p's PrivateKey, Ed25519) as this node's identity
    Import {
        /// File to read
        file: PathBuf,
        /// Directory of the node's key [default: the platform's data directory]
        #[arg(long, env = "DIATRIBE_DATA_DIR", value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// Replace the existing identity
        #[arg(long)]
        force: bool,
    },
    /// Write this node's secret key to a file
    Export {
        /// File to write
        file: PathBuf,
        #[command(flatten)]
        identity: IdentityArgs,
        /// Overwrite an existing file
        #[arg(long)]
        force: bool,
    },
}

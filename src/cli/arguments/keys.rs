//! `tollgate key`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::base::algorithm::Algorithm;
use crate::config;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeyVerb {
    /// Write a new private key to a file and print its lines for the configuration
    Generate(NewKey),
    /// List the keys: which one signs, which verify and until when, which are published
    List,
    /// Make the next key in the store: published now, signing after a delay, on every gateway
    Rotate(KeyRotation),
    /// End a key of the store now: what it has signed is refused
    Retire(KeyRetirement),
    /// Encrypt the keys in the store with another key-encryption key, before the gateways are given it
    Rewrap {
        /// A file that holds the new one
        #[arg(long = "with", value_name = "FILE")]
        with: PathBuf,
    },
    /// Print the public keys as a JSON Web Key Set
    ExportJwks,
}

/// A key to be made.
#[derive(Args, Debug)]
pub struct NewKey {
    /// EdDSA, ES256, ES384, RS256, …, PS256, …, HS256, …
    #[arg(long = "alg", value_name = "ALG", default_value = "EdDSA", value_parser = crate::cli::key::parse_algorithm)]
    pub algorithm: Algorithm,
    /// The file, which must not exist; its name becomes the key id [default: KID.pem]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// The next key of the store.
#[derive(Args, Debug)]
pub struct KeyRotation {
    /// EdDSA, ES256, …; without it, that of the key that signs
    #[arg(long = "alg", value_name = "ALG", value_parser = crate::cli::key::parse_algorithm)]
    pub algorithm: Option<Algorithm>,
    /// Sign at once: who keeps the published keys refuses new tokens until they are read again
    #[arg(long)]
    pub now: bool,
    /// How long the key before verifies after the next one signs [default: as long as tokens live]
    #[arg(long, value_name = "D", value_parser = config::lifetime)]
    pub keep: Option<Duration>,
}

/// A key of the store that ends.
#[derive(Args, Debug)]
pub struct KeyRetirement {
    /// The key id
    #[arg(value_name = "KID")]
    pub kid: String,
    /// Needed, because whoever has tokens of this key has to log in again
    #[arg(long, required = true)]
    pub now: bool,
}

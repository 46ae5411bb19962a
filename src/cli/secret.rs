//! `walhook secret`: a new signing secret.

use clap::Args;
use secrecy::ExposeSecret;

use super::Failure;
use super::input;
use crate::delivery::signature::{Scheme, generate_key_pair, generate_secret};

/// What can be said after `walhook secret`.
#[derive(Args, Debug)]
#[command(
    after_help = "Of ed25519 two lines are printed: the private key (whsk_…), which walhook \
                        signs with under the\nscheme standard, and the public one (whpk_…) for \
                        receivers."
)]
pub struct SecretArgs {
    /// What it is for: standard, ed25519, twenty, stripe or github
    #[arg(long, value_name = "SCHEME", default_value = "standard", value_parser = kind)]
    pub scheme: Kind,
}

/// A secret both sides know, or a pair of keys.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// For this scheme.
    Shared(Scheme),
    /// For the scheme `standard`.
    Ed25519,
}

fn kind(text: &str) -> Result<Kind, String> {
    match text {
        "ed25519" => Ok(Kind::Ed25519),
        _ => input::scheme(text).map(Kind::Shared).map_err(|error| format!("{error}, ed25519")),
    }
}

impl SecretArgs {
    /// Prints it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.scheme {
            Kind::Shared(scheme) => {
                super::print(format_args!("{}\n", generate_secret(scheme).expose_secret()))
            }
            Kind::Ed25519 => {
                let pair = generate_key_pair().map_err(Failure::failed)?;
                let private = pair.signing.expose_secret();
                super::print(format_args!("{private}\n{}\n", pair.verifying))
            }
        }
    }
}

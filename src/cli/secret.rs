//! `walhook secret`: a new signing secret.

use clap::Args;
use secrecy::ExposeSecret;

use super::Failure;
use super::input::scheme;
use crate::delivery::signature::{Scheme, generate_secret};

/// What can be said after `walhook secret`.
#[derive(Args, Debug)]
pub struct SecretArgs {
    /// What it is for: standard or twenty
    #[arg(long, value_name = "SCHEME", default_value_t = Scheme::Standard, value_parser = scheme)]
    pub scheme: Scheme,
}

impl SecretArgs {
    /// Prints it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        super::print(format_args!("{}\n", generate_secret(self.scheme).expose_secret()))
    }
}

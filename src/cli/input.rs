//! What several commands read: secrets, durations, sizes, bodies.

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Failure;
use crate::config;
use crate::delivery::signature::Scheme;

/// The variable a secret may come from, so that it is on no command line.
pub(crate) const SECRET_VARIABLE: &str = "WALHOOK_SECRET";

/// A secret: given, in a file, or in the environment.
#[derive(Args, Clone, Default)]
pub struct SecretArg {
    /// The secret. Other users of this machine can see it in the list of processes: prefer
    /// --secret-file, or the variable WALHOOK_SECRET
    #[arg(long, value_name = "SECRET", conflicts_with = "secret_file")]
    pub secret: Option<String>,

    /// A file that holds the secret
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
}

impl std::fmt::Debug for SecretArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretArg").field("secret_file", &self.secret_file).finish_non_exhaustive()
    }
}

impl SecretArg {
    /// The secret, if there is one anywhere.
    pub(crate) fn get(&self) -> Result<Option<String>, Failure> {
        if let Some(secret) = &self.secret {
            return Ok(Some(secret.clone()));
        }
        if let Some(path) = &self.secret_file {
            return config::read_secret_file(path)
                .map(Some)
                .map_err(|predicate| Failure::usage(format_args!("`--secret-file` {predicate}")));
        }
        Ok(std::env::var(SECRET_VARIABLE).ok().filter(|secret| !secret.is_empty()))
    }

    /// The secret, which has to be somewhere.
    pub(crate) fn require(&self) -> Result<String, Failure> {
        self.get()?.ok_or_else(|| {
            Failure::usage(format_args!(
                "there is no secret: give --secret, --secret-file, or the variable {SECRET_VARIABLE} (`walhook secret` generates one)"
            ))
        })
    }
}

/// Reads a duration for clap.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text).map_err(|predicate| format!("it {predicate}"))
}

/// Reads a size for clap.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    config::parse_size(text).map_err(|predicate| format!("it {predicate}"))
}

/// The body on stdin, byte for byte.
pub(crate) fn body() -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    io::stdin().lock().read_to_end(&mut body).map_err(|error| {
        Failure::failed(format_args!("cannot read the body from stdin: {error}"))
    })?;
    Ok(body)
}

/// Reads a signature scheme for clap.
pub(crate) fn scheme(text: &str) -> Result<Scheme, String> {
    text.parse::<Scheme>().map_err(|error| error.to_string())
}

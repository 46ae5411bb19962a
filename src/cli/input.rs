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

/// Secrets: given, in a file, or in the environment.
#[derive(Args, Clone, Default)]
pub struct SecretArg {
    /// The secret. Other users of this machine can see it in the list of processes: prefer
    /// --secret-file, or the variable WALHOOK_SECRET. Several while one is being replaced, the
    /// current one first
    #[arg(long, value_name = "SECRET", conflicts_with = "secret_file")]
    pub secret: Vec<String>,

    /// A file that holds the secret, or several, one a line
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
}

impl std::fmt::Debug for SecretArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretArg").field("secret_file", &self.secret_file).finish_non_exhaustive()
    }
}

impl SecretArg {
    /// The secrets, if there are any anywhere.
    pub(crate) fn get(&self) -> Result<Vec<String>, Failure> {
        if !self.secret.is_empty() {
            return Ok(self.secret.clone());
        }
        if let Some(path) = &self.secret_file {
            return config::read_secrets_file(path)
                .map_err(|predicate| Failure::usage(format_args!("`--secret-file` {predicate}")));
        }
        let variable = std::env::var(SECRET_VARIABLE).ok().filter(|secret| !secret.is_empty());
        Ok(variable.into_iter().collect())
    }

    /// The secrets, of which one has to be somewhere.
    pub(crate) fn require(&self) -> Result<Vec<String>, Failure> {
        let secrets = self.get()?;
        if secrets.is_empty() {
            return Err(Failure::usage(format_args!(
                "there is no secret: give --secret, --secret-file, or the variable {SECRET_VARIABLE} (`walhook secret` generates one)"
            )));
        }
        Ok(secrets)
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

//! Signature schemes and secrets.

use std::path::Path;

use secrecy::SecretString;

use super::{Holds, Result};
use crate::config::error::{ConfigError, Located, Place};
use crate::config::secret_file::read_secret_file;
use crate::config::suggest::hint;
use crate::delivery::signature::{Scheme, Signer};

/// A list and its items, each with its place.
type List = Located<Vec<Located<String>>>;

/// The schemes, each once; empty for `none`.
fn schemes(raw: Option<List>) -> Result<Vec<Scheme>> {
    let Some(raw) = raw else { return Ok(vec![Scheme::Standard]) };
    let mut words: Vec<&str> = Scheme::ALL.iter().map(|scheme| scheme.name()).collect();
    words.push("none");
    let mut schemes = Vec::new();
    for word in &raw.value {
        if word.value == "none" {
            if raw.value.len() > 1 {
                let message = "names \"none\" beside a scheme: keep one or the other";
                return Err(ConfigError::at(&raw.place, message));
            }
            return Ok(Vec::new());
        }
        if matches!(word.value.as_str(), "stripe" | "github") {
            return Err(ConfigError::at(
                &word.place,
                format_args!(
                    "names {:?}, which is not supported by this version of walhook: write \"standard\", \"twenty\" or \"none\"",
                    word.value
                ),
            ));
        }
        let Ok(scheme) = word.value.parse::<Scheme>() else {
            return Err(ConfigError::at(
                &word.place,
                format_args!("names {:?}: {}", word.value, hint(&word.value, &words)),
            ));
        };
        if !schemes.contains(&scheme) {
            schemes.push(scheme);
        }
    }
    if schemes.is_empty() {
        let message = "is empty: write [\"standard\"], or [\"none\"] to send without a signature";
        return Err(ConfigError::at(&raw.place, message));
    }
    Ok(schemes)
}

/// The secrets, from whichever of the three keys is there, the current one first.
pub(super) fn secrets(
    secret: Option<Located<String>>,
    secrets: Option<List>,
    secret_file: Option<Located<String>>,
    directory: &Path,
) -> Result<Vec<Located<String>>> {
    let secrets = match (secret, secrets, secret_file) {
        (Some(secret), None, None) => vec![secret],
        (None, Some(secrets), None) => secrets.value,
        (None, None, Some(file)) => {
            vec![file.try_map(|file| read_secret_file(&directory.join(file)))?]
        }
        (None, None, None) => Vec::new(),
        (_, Some(List { place, .. }), _) | (_, None, Some(Located { place, .. })) => {
            let message =
                "says what another key says too: keep one of `secret`, `secrets` and `secret_file`";
            return Err(ConfigError::at(&place, message));
        }
    };
    for secret in &secrets {
        if secret.value.trim().is_empty() {
            let message = "is empty: `walhook secret` generates a secret";
            return Err(ConfigError::at(&secret.place, message));
        }
    }
    Ok(secrets)
}

/// What signs for the endpoint `name` at `place`: one signer for each scheme, none for `none`.
pub(super) fn signers(
    name: &str,
    place: &Place,
    signature: Option<List>,
    secrets: Vec<Located<String>>,
    prefix: Option<&Located<String>>,
) -> Result<Vec<Signer>> {
    let schemes = schemes(signature)?;
    if let (Some(prefix), false) = (prefix, schemes.contains(&Scheme::Twenty)) {
        let message =
            "has no effect without signature = [\"twenty\"]: remove it, or add the scheme";
        return Err(ConfigError::at(&prefix.place, message));
    }
    if schemes.is_empty() {
        return match secrets.first() {
            Some(secret) => {
                let message = "has no effect with signature = [\"none\"]: remove one of the two";
                Err(ConfigError::at(&secret.place, message))
            }
            None => Ok(Vec::new()),
        };
    }
    let Some(first) = secrets.first().map(|secret| secret.place.clone()) else {
        return Err(ConfigError::at(
            place,
            format_args!(
                "{name:?} has no secret to sign with: run `walhook secret` and write secret = \"…\" (or signature = [\"none\"] to send without a signature)"
            ),
        ));
    };
    let secrets: Vec<SecretString> =
        secrets.into_iter().map(|secret| SecretString::from(secret.value)).collect();
    let mut signers = Vec::with_capacity(schemes.len());
    for scheme in schemes {
        let mut signer =
            Signer::new(scheme, &secrets).map_err(|error| ConfigError::at(&first, Holds(error)))?;
        if let (Some(prefix), Scheme::Twenty) = (prefix, scheme) {
            signer = signer
                .with_header_prefix(&prefix.value)
                .map_err(|error| ConfigError::at(&prefix.place, Holds(error)))?;
        }
        signers.push(signer);
    }
    Ok(signers)
}

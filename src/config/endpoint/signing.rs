//! Signature schemes and secrets.

use std::path::Path;

use reqwest::header::HeaderName;
use secrecy::SecretString;

use super::{Holds, OWN_HEADERS, Result};
use crate::config::error::{ConfigError, Located, Place};
use crate::config::secret_file::read_secrets_file;
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
            let place = file.place.clone();
            let secrets = file.try_map(|file| read_secrets_file(&directory.join(file)))?;
            let located = |value| Located { value, place: place.clone() };
            secrets.value.into_iter().map(located).collect()
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

/// What is said of signing for an endpoint.
pub(super) struct Signing<'a> {
    pub(super) name: &'a str,
    pub(super) place: &'a Place,
    pub(super) secrets: Vec<Located<String>>,
    /// Of the scheme `stripe`.
    pub(super) header: Option<Located<String>>,
    /// Of the scheme `twenty`.
    pub(super) prefix: Option<Located<String>>,
}

impl Signing<'_> {
    /// One signer for each scheme, none for `none`.
    pub(super) fn signers(self, signature: Option<List>) -> Result<Vec<Signer>> {
        let schemes = schemes(signature)?;
        for (key, scheme) in [(&self.prefix, Scheme::Twenty), (&self.header, Scheme::Stripe)] {
            if let Some(key) = key
                && !schemes.contains(&scheme)
            {
                return Err(ConfigError::at(
                    &key.place,
                    format_args!(
                        "has no effect without signature = [\"{scheme}\"]: remove it, or add the scheme"
                    ),
                ));
            }
        }
        if schemes.is_empty() {
            return match self.secrets.first() {
                Some(secret) => {
                    let message =
                        "has no effect with signature = [\"none\"]: remove one of the two";
                    Err(ConfigError::at(&secret.place, message))
                }
                None => Ok(Vec::new()),
            };
        }
        if self.secrets.is_empty() {
            return Err(ConfigError::at(
                self.place,
                format_args!(
                    "{:?} has no secret to sign with: run `walhook secret` and write secret = \"…\" (or signature = [\"none\"] to send without a signature)",
                    self.name
                ),
            ));
        }
        let (header, prefix) = (self.header, self.prefix);
        let secrets: Vec<Located<SecretString>> = self
            .secrets
            .into_iter()
            .map(|secret| Located { place: secret.place, value: secret.value.into() })
            .collect();
        let mut signers = Vec::with_capacity(schemes.len());
        for &scheme in &schemes {
            let mut signer = signer(scheme, schemes.len(), &secrets)?;
            if let (Some(prefix), Scheme::Twenty) = (&prefix, scheme) {
                signer = signer
                    .with_header_prefix(&prefix.value)
                    .map_err(|error| ConfigError::at(&prefix.place, Holds(error)))?;
            }
            if let (Some(header), Scheme::Stripe) = (&header, scheme) {
                signer = signer
                    .with_header(&header.value)
                    .map_err(|error| ConfigError::at(&header.place, Holds(error)))?;
            }
            signers.push(signer);
        }
        for key in [&header, &prefix].into_iter().flatten() {
            check_names(&signers, key)?;
        }
        unused(&schemes, &secrets)?;
        Ok(signers)
    }
}

/// A signer with all of the secrets, or, beside other schemes, with those that are fit for this one.
fn signer(scheme: Scheme, schemes: usize, secrets: &[Located<SecretString>]) -> Result<Signer> {
    let mut usable = Vec::with_capacity(secrets.len());
    for secret in secrets {
        match Signer::new(scheme, std::slice::from_ref(&secret.value)) {
            Ok(_) => usable.push(secret.value.clone()),
            Err(_) if schemes > 1 => {}
            Err(_) => {
                // Once more with all of them, for the place in the list that the error names.
                let all: Vec<SecretString> = secrets.iter().map(|s| s.value.clone()).collect();
                return Signer::new(scheme, &all)
                    .map_err(|error| ConfigError::at(&secret.place, Holds(error)));
            }
        }
    }
    let Some(first) = secrets.first().filter(|_| usable.is_empty()) else {
        return Signer::new(scheme, &usable).map_err(|error| match secrets.first() {
            Some(first) => ConfigError::at(&first.place, Holds(error)),
            None => ConfigError::general(error),
        });
    };
    Err(ConfigError::at(
        &first.place,
        format_args!(
            "holds nothing that the scheme {scheme} can sign with: add {} (`walhook secret --scheme {scheme}` generates one), or take {scheme:?} out of `signature`",
            match scheme {
                Scheme::Standard => "a whsec_… or whsk_… secret",
                _ => "a secret that is no ed25519 key",
            },
            scheme = scheme.name(),
        ),
    ))
}

/// A secret that no scheme signs with is a mistake: receivers would wait for it in vain.
fn unused(schemes: &[Scheme], secrets: &[Located<SecretString>]) -> Result<()> {
    for (place, secret) in secrets.iter().enumerate() {
        if !schemes.iter().any(|scheme| scheme.takes(&secret.value)) {
            let names: Vec<&str> = schemes.iter().map(|scheme| scheme.name()).collect();
            return Err(ConfigError::at(
                &secret.place,
                format_args!(
                    "cannot be used: secret {} is fit for none of the schemes {}; remove or replace it",
                    place + 1,
                    names.join(", ")
                ),
            ));
        }
    }
    Ok(())
}

/// Refuses names, made by `key`, that something else of the request goes by.
fn check_names(signers: &[Signer], key: &Located<String>) -> Result<()> {
    let mut seen: Vec<HeaderName> = Vec::new();
    for signer in signers {
        let standard = signer.scheme() == Scheme::Standard;
        for name in signer.header_names() {
            let own = !standard
                && (OWN_HEADERS.contains(&name.as_str())
                    || matches!(name.as_str(), "content-type" | "content-encoding" | "user-agent"));
            if own || seen.contains(&name) {
                return Err(ConfigError::at(
                    &key.place,
                    format_args!(
                        "names the header {name}, which walhook writes for something else: choose another name"
                    ),
                ));
            }
            seen.push(name);
        }
    }
    Ok(())
}

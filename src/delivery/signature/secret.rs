//! Secrets: their text forms, keys, and new ones.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rand::RngCore as _;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};

use super::{Scheme, SignatureError};

const STANDARD_PREFIX: &str = "whsec_";
const STANDARD_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const GENERATED_BYTES: usize = 32;

/// A new random secret, in the text form that both sides configure.
pub fn generate_secret(scheme: Scheme) -> SecretString {
    let mut key = [0; GENERATED_BYTES];
    // The thread's generator is a cryptographic one, seeded by the operating system.
    rand::rng().fill_bytes(&mut key);
    SecretString::from(match scheme {
        Scheme::Standard => format!("{STANDARD_PREFIX}{}", BASE64.encode(key)),
        Scheme::Twenty => hex::encode(key),
    })
}

/// What may be shown of a secret, to tell two apart: its kind and a few bits of its hash.
pub fn redact(secret: &SecretString) -> String {
    use sha2::Digest as _;
    let text = secret.expose_secret();
    let prefix = if text.starts_with(STANDARD_PREFIX) { STANDARD_PREFIX } else { "" };
    let hash = sha2::Sha256::digest(text.as_bytes());
    format!("{prefix}…({})", hex::encode(&hash[..2]))
}

/// The key's bytes. `place` is the secret's place in its list, for the error.
pub(super) fn key(
    scheme: Scheme,
    secret: &SecretString,
    place: usize,
) -> Result<SecretSlice<u8>, SignatureError> {
    let text = secret.expose_secret();
    if text.is_empty() {
        return Err(SignatureError::empty_secret(place));
    }
    match scheme {
        Scheme::Standard => {
            let Some(encoded) = text.strip_prefix(STANDARD_PREFIX) else {
                return Err(SignatureError::standard_secret(place, "does not begin with whsec_"));
            };
            let key = BASE64
                .decode(encoded)
                .map_err(|_| SignatureError::standard_secret(place, "is not base64"))?;
            if !STANDARD_BYTES.contains(&key.len()) {
                let what = format!("holds {} bytes", key.len());
                return Err(SignatureError::standard_secret(place, &what));
            }
            Ok(SecretSlice::from(key))
        }
        Scheme::Twenty => Ok(SecretSlice::from(text.as_bytes().to_vec())),
    }
}

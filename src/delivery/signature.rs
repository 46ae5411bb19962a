//! Signatures over webhook requests: making them, and checking them as a receiver would.
//!
//! The signed bytes of each scheme, with their test vectors, are those of
//! [Standard Webhooks 1.0](https://github.com/standard-webhooks/standard-webhooks) and of Twenty's
//! webhooks (<https://twenty.com/developers>).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{BufMut, Bytes, BytesMut};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

mod error;
mod secret;

pub use error::{SignatureError, VerifyError};
pub use secret::{generate_secret, redact};

use error::VerifyKind;

/// How far a receiver lets a request's timestamp be from its own clock, either way, unless told
/// otherwise: what the verifiers of Standard Webhooks use.
pub const DEFAULT_TOLERANCE: Duration = Duration::from_secs(300);

/// The header that names the event; the same on every attempt.
pub const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// What the names of the scheme `twenty` begin with unless something else is said.
pub(crate) const TWENTY_PREFIX: &str = "X-Twenty-Webhook";

type HmacSha256 = Hmac<Sha256>;

/// How requests are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// Standard Webhooks 1.0 with a symmetric key: `webhook-id`, `webhook-timestamp` (Unix
    /// seconds), `webhook-signature` (`v1,<base64>`, one for each secret).
    Standard,
    /// Twenty's: `X-Twenty-Webhook-Signature` (lower-case hexadecimal) and
    /// `X-Twenty-Webhook-Timestamp` (Unix milliseconds).
    Twenty,
}

impl Scheme {
    /// All schemes, in the order in which they are listed to people.
    pub const ALL: [Scheme; 2] = [Scheme::Standard, Scheme::Twenty];

    /// Its name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Standard => "standard",
            Scheme::Twenty => "twenty",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scheme {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Scheme, SignatureError> {
        Scheme::ALL
            .into_iter()
            .find(|scheme| scheme.name() == text)
            .ok_or_else(|| SignatureError::unknown_scheme(text))
    }
}

/// Signs requests, and checks signed ones, under one scheme.
///
/// It may hold several secrets, the current one first: while a secret is being replaced, receivers
/// with either must be content. `standard` sends one signature for each. `twenty` has room for one
/// and signs with the first. Checking accepts any.
#[derive(Clone)]
pub struct Signer {
    scheme: Scheme,
    /// Keyed and ready: signing clones the state instead of hashing the key again.
    keys: Vec<HmacSha256>,
    signature_name: HeaderName,
    timestamp_name: HeaderName,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("scheme", &self.scheme)
            .field("secrets", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl Signer {
    /// A signer with these secrets, the current one first. An error names what is wrong with a
    /// secret by its place in the list, never its text.
    pub fn new(scheme: Scheme, secrets: &[SecretString]) -> Result<Signer, SignatureError> {
        if secrets.is_empty() {
            return Err(SignatureError::no_secret(scheme));
        }
        let mut keys = Vec::with_capacity(secrets.len());
        for (place, secret) in secrets.iter().enumerate() {
            let key = secret::key(scheme, secret, place)?;
            // An HMAC key may have any length (RFC 2104), so this cannot fail.
            let keyed = HmacSha256::new_from_slice(key.expose_secret())
                .map_err(|_| SignatureError::empty_secret(place))?;
            keys.push(keyed);
        }
        let (signature_name, timestamp_name) = match scheme {
            Scheme::Standard => (WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP),
            Scheme::Twenty => prefixed_names(TWENTY_PREFIX)?,
        };
        Ok(Signer { scheme, keys, signature_name, timestamp_name })
    }

    /// The same signer with other header names: `<prefix>-Signature` and `<prefix>-Timestamp`.
    /// Only `twenty` has configurable ones.
    pub fn with_header_prefix(mut self, prefix: &str) -> Result<Signer, SignatureError> {
        if self.scheme != Scheme::Twenty {
            return Err(SignatureError::fixed_headers(self.scheme));
        }
        let names = prefixed_names(prefix)?;
        if names.0 == WEBHOOK_SIGNATURE {
            return Err(SignatureError::taken_prefix(prefix));
        }
        (self.signature_name, self.timestamp_name) = names;
        Ok(self)
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// All headers of the scheme for the event `id`, sent at `at_ms` (Unix milliseconds) with
    /// exactly these bytes as body.
    pub fn sign(&self, id: &str, at_ms: i64, body: &[u8]) -> Result<HeaderMap, SignatureError> {
        let mut headers = HeaderMap::with_capacity(4);
        if self.scheme == Scheme::Standard {
            let id = HeaderValue::from_str(id).map_err(|_| SignatureError::invalid_id())?;
            headers.insert(WEBHOOK_ID, id);
        }
        self.sign_into(id, at_ms, body, &mut headers);
        Ok(headers)
    }

    /// Adds the timestamp and the signature, but not the id, which every request carries anyway.
    pub(super) fn sign_into(&self, id: &str, at_ms: i64, body: &[u8], headers: &mut HeaderMap) {
        let mut digits = itoa::Buffer::new();
        let timestamp = digits.format(match self.scheme {
            Scheme::Standard => at_ms.div_euclid(1_000),
            Scheme::Twenty => at_ms,
        });
        let signature = match self.scheme {
            Scheme::Standard => {
                // `v1,` and 44 characters each, a space between.
                let mut text = BytesMut::with_capacity(self.keys.len() * 48);
                for key in &self.keys {
                    if !text.is_empty() {
                        text.put_u8(b' ');
                    }
                    text.put_slice(b"v1,");
                    let mac = standard_mac(key, id, timestamp, body).finalize().into_bytes();
                    let mut encoded = [0; 44];
                    // 32 bytes are 44 characters with padding, so it fits.
                    let length = BASE64.encode_slice(mac, &mut encoded).unwrap_or_default();
                    text.put_slice(&encoded[..length]);
                }
                text.freeze()
            }
            Scheme::Twenty => {
                let mac = twenty_mac(&self.keys[0], timestamp, body).finalize().into_bytes();
                Bytes::from(hex::encode(mac))
            }
        };
        // Digits, base 64 and hexadecimal are fit for a header, so neither is ever left out.
        if let Ok(value) = HeaderValue::from_str(timestamp) {
            headers.insert(self.timestamp_name.clone(), value);
        }
        if let Ok(value) = HeaderValue::from_maybe_shared(signature) {
            headers.insert(self.signature_name.clone(), value);
        }
    }

    /// Checks a request as a receiver would: the signature against every secret, in constant time,
    /// and the timestamp against `now_ms` (Unix milliseconds), which may differ by `tolerance`
    /// either way; `None` accepts any time.
    pub fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now_ms: i64,
        tolerance: Option<Duration>,
    ) -> Result<(), VerifyError> {
        let timestamp = header(headers, &self.timestamp_name)?;
        let sent_at: i64 = timestamp
            .parse()
            .map_err(|_| VerifyError::new(VerifyKind::Timestamp(self.timestamp_name.clone())))?;
        let signature = header(headers, &self.signature_name)?;
        let genuine = match self.scheme {
            Scheme::Standard => {
                let id = header(headers, &WEBHOOK_ID)?;
                // Every pair is compared: how long it takes tells nothing about which matched.
                let mut genuine = subtle::Choice::from(0);
                for key in &self.keys {
                    let mac = standard_mac(key, id, timestamp, body).finalize().into_bytes();
                    for entry in signature.split(' ') {
                        let entry = entry.strip_prefix("v1,").unwrap_or_default();
                        let given = BASE64.decode(entry).unwrap_or_default();
                        genuine |= mac.as_slice().ct_eq(&given);
                    }
                }
                genuine
            }
            Scheme::Twenty => {
                let given = hex::decode(signature).unwrap_or_default();
                let mut genuine = subtle::Choice::from(0);
                for key in &self.keys {
                    let mac = twenty_mac(key, timestamp, body).finalize().into_bytes();
                    genuine |= mac.as_slice().ct_eq(&given);
                }
                genuine
            }
        };
        if !bool::from(genuine) {
            return Err(VerifyError::new(VerifyKind::Mismatch(self.signature_name.clone())));
        }
        let sent_at_ms = match self.scheme {
            Scheme::Standard => sent_at.saturating_mul(1_000),
            Scheme::Twenty => sent_at,
        };
        let age_ms = i128::from(now_ms) - i128::from(sent_at_ms);
        match tolerance {
            Some(tolerance) if age_ms.unsigned_abs() > tolerance.as_millis() => {
                Err(VerifyError::new(VerifyKind::Stale { age_ms, tolerance }))
            }
            _ => Ok(()),
        }
    }
}

fn prefixed_names(prefix: &str) -> Result<(HeaderName, HeaderName), SignatureError> {
    let name = |end: &str| {
        format!("{prefix}{end}")
            .parse::<HeaderName>()
            .map_err(|_| SignatureError::header_prefix(prefix))
    };
    Ok((name("-Signature")?, name("-Timestamp")?))
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, VerifyError> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| VerifyError::new(VerifyKind::Missing(name.clone())))
}

fn standard_mac(key: &HmacSha256, id: &str, timestamp: &str, body: &[u8]) -> HmacSha256 {
    let mut mac = key.clone();
    mac.update(id.as_bytes());
    mac.update(b".");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac
}

fn twenty_mac(key: &HmacSha256, timestamp: &str, body: &[u8]) -> HmacSha256 {
    let mut mac = key.clone();
    mac.update(timestamp.as_bytes());
    mac.update(b":");
    mac.update(body);
    mac
}

#[cfg(test)]
mod tests;

//! Signatures over webhook requests: making them, and checking them as a receiver would.
//!
//! The signed bytes of each scheme, with their test vectors, are those of
//! [Standard Webhooks 1.0](https://github.com/standard-webhooks/standard-webhooks), of Twenty's
//! webhooks (<https://twenty.com/developers>), of Stripe's (<https://docs.stripe.com/webhooks>) and
//! of GitHub's (<https://docs.github.com/webhooks>).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;

mod error;
mod names;
mod secret;
mod verifier;

pub use error::{SignatureError, VerifyError};
pub use secret::{KeyPair, generate_key_pair, generate_secret, redact};
pub use verifier::Verifier;

use names::Names;
pub(crate) use names::documented;
use secret::{SigningKey, mac};

/// How far a receiver lets a request's timestamp be from its own clock, either way, unless told
/// otherwise: what the verifiers of Standard Webhooks use.
pub const DEFAULT_TOLERANCE: Duration = Duration::from_secs(300);

/// The header that names the event; the same on every attempt.
pub const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const STRIPE_SIGNATURE: HeaderName = HeaderName::from_static("stripe-signature");
const GITHUB_SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");
const GITHUB_DELIVERY: HeaderName = HeaderName::from_static("x-github-delivery");
const GITHUB_EVENT: HeaderName = HeaderName::from_static("x-github-event");
/// What the names of the scheme `twenty` begin with unless something else is said.
pub(crate) const TWENTY_PREFIX: &str = "X-Twenty-Webhook";
/// The header of the scheme `stripe` unless something else is said.
pub(crate) const STRIPE_HEADER: &str = "Stripe-Signature";

/// How requests are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// Standard Webhooks 1.0: `webhook-id`, `webhook-timestamp` (Unix seconds),
    /// `webhook-signature` with an entry for each secret: `v1,<base64>` of a symmetric one
    /// (`whsec_`), `v1a,<base64>` of an ed25519 key (`whsk_`).
    Standard,
    /// Twenty's: `X-Twenty-Webhook-Signature` (lower-case hexadecimal) and
    /// `X-Twenty-Webhook-Timestamp` (Unix milliseconds).
    Twenty,
    /// Stripe's: `Stripe-Signature: t=<Unix seconds>,v1=<hexadecimal>`, one `v1` for each secret.
    Stripe,
    /// GitHub's: `X-Hub-Signature-256: sha256=<hexadecimal>`, beside `X-GitHub-Delivery` (the id)
    /// and `X-GitHub-Event` (the event's name). Neither is signed, and there is no timestamp.
    Github,
}

impl Scheme {
    /// All schemes, in the order in which they are listed to people.
    pub const ALL: [Scheme; 4] = [Scheme::Standard, Scheme::Twenty, Scheme::Stripe, Scheme::Github];

    /// Its name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Standard => "standard",
            Scheme::Twenty => "twenty",
            Scheme::Stripe => "stripe",
            Scheme::Github => "github",
        }
    }

    /// Whether a secret is one that it can sign with. Where several schemes share a list of
    /// secrets, each takes those.
    pub fn takes(self, secret: &SecretString) -> bool {
        SigningKey::new(self, secret, 0).is_ok()
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

/// Signs requests under one scheme.
///
/// It may hold several secrets, the current one first: while a secret is being replaced, receivers
/// with either must be content. `standard` and `stripe` send one signature for each. `twenty` and
/// `github` have room for one and sign with the first.
#[derive(Clone)]
pub struct Signer {
    scheme: Scheme,
    /// Keyed and ready: signing clones the state instead of hashing the key again. At least one.
    keys: Arc<[SigningKey]>,
    names: Names,
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
        let keys: Vec<SigningKey> = secrets
            .iter()
            .enumerate()
            .map(|(place, secret)| SigningKey::new(scheme, secret, place))
            .collect::<Result<_, _>>()?;
        Ok(Signer { scheme, keys: keys.into(), names: Names::of(scheme) })
    }

    /// The same signer with other header names: `<prefix>-Signature` and `<prefix>-Timestamp`.
    /// Only `twenty` has configurable ones.
    pub fn with_header_prefix(mut self, prefix: &str) -> Result<Signer, SignatureError> {
        self.names = Names::with_prefix(self.scheme, prefix)?;
        Ok(self)
    }

    /// The same signer with its signature in another header. Only `stripe` has a configurable one.
    pub fn with_header(mut self, name: &str) -> Result<Signer, SignatureError> {
        self.names = Names::with_header(self.scheme, name)?;
        Ok(self)
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The names of all headers it writes.
    pub fn header_names(&self) -> Vec<HeaderName> {
        self.names.all(self.scheme)
    }

    /// What checks its signatures.
    pub fn verifier(&self) -> Verifier {
        Verifier::of(self.scheme, &self.keys, self.names.clone())
    }

    /// All headers of the scheme for the event `id`, called `event`, sent at `at_ms` (Unix
    /// milliseconds) with exactly these bytes as body. An empty name is left out.
    pub fn sign(
        &self,
        id: &str,
        event: &str,
        at_ms: i64,
        body: &[u8],
    ) -> Result<HeaderMap, SignatureError> {
        let mut headers = HeaderMap::with_capacity(4);
        let value = HeaderValue::from_str(id).map_err(|_| SignatureError::invalid_id())?;
        self.sign_into(id, event, at_ms, body, &mut headers);
        match self.scheme {
            Scheme::Standard => {
                headers.insert(WEBHOOK_ID, value);
            }
            Scheme::Github => {
                if id.is_empty() {
                    headers.remove(GITHUB_DELIVERY);
                }
                if event.is_empty() {
                    headers.remove(GITHUB_EVENT);
                }
            }
            Scheme::Twenty | Scheme::Stripe => {}
        }
        Ok(headers)
    }

    /// Adds what the scheme adds to a request, but not `webhook-id`, which every request carries
    /// anyway.
    pub(super) fn sign_into(
        &self,
        id: &str,
        event: &str,
        at_ms: i64,
        body: &[u8],
        headers: &mut HeaderMap,
    ) {
        let mut digits = itoa::Buffer::new();
        let timestamp = digits.format(match self.scheme {
            Scheme::Twenty => at_ms,
            _ => at_ms.div_euclid(1_000),
        });
        let signature = match self.scheme {
            Scheme::Standard => self.standard(id, timestamp, body),
            Scheme::Twenty => self.hexadecimal(&[timestamp.as_bytes(), b":", body]),
            Scheme::Stripe => {
                let mut text = format!("t={timestamp}");
                for key in self.keys.iter().filter_map(SigningKey::symmetric) {
                    text.push_str(",v1=");
                    text.push_str(&hex::encode(mac(key, &[timestamp.as_bytes(), b".", body])));
                }
                text
            }
            Scheme::Github => {
                let mut put = |name, value: String| {
                    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) {
                        headers.insert(name, value);
                    }
                };
                put(GITHUB_DELIVERY, id.to_owned());
                put(GITHUB_EVENT, visible_ascii(event));
                format!("sha256={}", self.hexadecimal(&[body]))
            }
        };
        // Digits, base 64 and hexadecimal are fit for a header, so neither is ever left out.
        if let Some(name) = &self.names.timestamp
            && let Ok(value) = HeaderValue::from_str(timestamp)
        {
            headers.insert(name.clone(), value);
        }
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(signature)) {
            headers.insert(self.names.signature.clone(), value);
        }
    }

    fn standard(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let parts = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
        // `v1,` and 44 characters, or `v1a,` and 88, a space between: exactly that, since what is left
        // over would cost an allocation more.
        let lengths = self.keys.iter().map(|key| if key.symmetric().is_some() { 48 } else { 93 });
        let mut text = String::with_capacity(lengths.sum::<usize>().saturating_sub(1));
        for key in self.keys.iter() {
            if !text.is_empty() {
                text.push(' ');
            }
            match key {
                SigningKey::Symmetric(key) => {
                    text.push_str("v1,");
                    BASE64.encode_string(mac(key, &parts), &mut text);
                }
                SigningKey::Ed25519(pair, _) => {
                    text.push_str("v1a,");
                    BASE64.encode_string(pair.sign(&parts.concat()), &mut text);
                }
            }
        }
        text
    }

    /// The current secret's alone.
    fn hexadecimal(&self, parts: &[&[u8]]) -> String {
        let first = self.keys.iter().find_map(SigningKey::symmetric);
        first.map(|key| hex::encode(mac(key, parts))).unwrap_or_default()
    }

    /// Checks a request as a receiver with the same secrets would; see [`Verifier::verify`].
    pub fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now_ms: i64,
        tolerance: Option<Duration>,
    ) -> Result<(), VerifyError> {
        self.verifier().verify(headers, body, now_ms, tolerance)
    }
}

/// Text as a header's value: what is no visible ASCII is percent-encoded, as CloudEvents does.
fn visible_ascii(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!'..=b'~' if byte != b'%' => value.push(char::from(byte)),
            _ => value.push_str(&format!("%{byte:02X}")),
        }
    }
    value
}

#[cfg(test)]
mod tests;

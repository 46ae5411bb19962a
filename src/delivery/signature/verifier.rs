//! Checking signatures as a receiver would.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::{HeaderMap, HeaderName};
use secrecy::SecretString;
use subtle::{Choice, ConstantTimeEq as _};

use super::error::VerifyKind;
use super::names::Names;
use super::secret::{SigningKey, VerifyingKey, mac};
use super::{Scheme, SignatureError, VerifyError, WEBHOOK_ID};

/// Checks requests that are signed under one scheme, and accepts what any of its secrets signed.
#[derive(Clone)]
pub struct Verifier {
    scheme: Scheme,
    keys: Vec<VerifyingKey>,
    names: Names,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("scheme", &self.scheme)
            .field("secrets", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl Verifier {
    /// A verifier with these secrets: those a signer takes, and of an ed25519 key the public half
    /// too (`whpk_`).
    pub fn new(scheme: Scheme, secrets: &[SecretString]) -> Result<Verifier, SignatureError> {
        if secrets.is_empty() {
            return Err(SignatureError::no_secret(scheme));
        }
        let keys = secrets
            .iter()
            .enumerate()
            .map(|(place, secret)| VerifyingKey::new(scheme, secret, place))
            .collect::<Result<_, _>>()?;
        Ok(Verifier { scheme, keys, names: Names::of(scheme) })
    }

    pub(super) fn of(scheme: Scheme, keys: &[SigningKey], names: Names) -> Verifier {
        Verifier { scheme, keys: keys.iter().map(SigningKey::verifying).collect(), names }
    }

    /// Like [`Signer::with_header_prefix`](super::Signer::with_header_prefix).
    pub fn with_header_prefix(mut self, prefix: &str) -> Result<Verifier, SignatureError> {
        self.names = Names::with_prefix(self.scheme, prefix)?;
        Ok(self)
    }

    /// Like [`Signer::with_header`](super::Signer::with_header).
    pub fn with_header(mut self, name: &str) -> Result<Verifier, SignatureError> {
        self.names = Names::with_header(self.scheme, name)?;
        Ok(self)
    }

    /// Checks a request: the signature against every secret, in constant time, and the timestamp
    /// against `now_ms` (Unix milliseconds), which may differ by `tolerance` either way; `None`
    /// accepts any time. `github` has no timestamp, so there an old request is as good as a new
    /// one.
    pub fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now_ms: i64,
        tolerance: Option<Duration>,
    ) -> Result<(), VerifyError> {
        let name = &self.names.signature;
        let timestamp = match &self.names.timestamp {
            Some(timestamp) => Some((timestamp, header(headers, timestamp)?)),
            None => None,
        };
        let signature = header(headers, name)?;
        let (genuine, sent_at) = match (self.scheme, timestamp) {
            (Scheme::Standard, Some((place, timestamp))) => {
                let id = header(headers, &WEBHOOK_ID)?;
                let genuine = self.standard(&[id, ".", timestamp, "."], body, signature);
                (genuine, Some((place, timestamp)))
            }
            (Scheme::Twenty, Some((place, timestamp))) => {
                let genuine = self.symmetric(&[timestamp.as_bytes(), b":", body], &[signature]);
                (genuine, Some((place, timestamp)))
            }
            (Scheme::Stripe, _) => {
                let (timestamp, given) = stripe_parts(signature)
                    .ok_or_else(|| VerifyError::new(VerifyKind::Stripe(name.clone())))?;
                let genuine = self.symmetric(&[timestamp.as_bytes(), b".", body], &given);
                (genuine, Some((name, timestamp)))
            }
            (Scheme::Github, _) => {
                let given = signature.strip_prefix("sha256=").unwrap_or_default();
                (self.symmetric(&[body], &[given]), None)
            }
            // These two have a header for the time, always.
            (Scheme::Standard | Scheme::Twenty, None) => (Choice::from(0), None),
        };
        let sent_at = match sent_at {
            Some((place, text)) => Some(
                text.parse::<i64>()
                    .map_err(|_| VerifyError::new(VerifyKind::Timestamp(place.clone())))?,
            ),
            None => None,
        };
        if !bool::from(genuine) {
            return Err(VerifyError::new(VerifyKind::Mismatch(name.clone())));
        }
        match (sent_at, tolerance) {
            (Some(sent_at), Some(tolerance)) => self.is_fresh(sent_at, now_ms, tolerance),
            _ => Ok(()),
        }
    }

    fn is_fresh(&self, sent_at: i64, now_ms: i64, tolerance: Duration) -> Result<(), VerifyError> {
        let sent_at_ms = match self.scheme {
            Scheme::Twenty => sent_at,
            _ => sent_at.saturating_mul(1_000),
        };
        let age_ms = i128::from(now_ms) - i128::from(sent_at_ms);
        if age_ms.unsigned_abs() > tolerance.as_millis() {
            return Err(VerifyError::new(VerifyKind::Stale { age_ms, tolerance }));
        }
        Ok(())
    }

    /// Every pair is compared: how long it takes tells nothing about which matched.
    fn standard(&self, head: &[&str], body: &[u8], signatures: &str) -> Choice {
        let head = head.concat();
        let mut genuine = Choice::from(0);
        for key in &self.keys {
            match key {
                VerifyingKey::Symmetric(key) => {
                    let expected = mac(key, &[head.as_bytes(), body]);
                    for entry in signatures.split(' ') {
                        let entry = entry.strip_prefix("v1,").unwrap_or_default();
                        let given = BASE64.decode(entry).unwrap_or_default();
                        genuine |= expected.as_slice().ct_eq(&given);
                    }
                }
                VerifyingKey::Ed25519(public) => {
                    let signed = [head.as_bytes(), body].concat();
                    for entry in signatures.split(' ') {
                        let Some(entry) = entry.strip_prefix("v1a,") else { continue };
                        let given = BASE64.decode(entry).unwrap_or_default();
                        genuine |= Choice::from(u8::from(public.verify(&signed, &given).is_ok()));
                    }
                }
            }
        }
        genuine
    }

    /// The same for signatures in hexadecimal.
    fn symmetric(&self, parts: &[&[u8]], signatures: &[&str]) -> Choice {
        let mut genuine = Choice::from(0);
        for key in &self.keys {
            let VerifyingKey::Symmetric(key) = key else { continue };
            let expected = mac(key, parts);
            for signature in signatures {
                let given = hex::decode(signature).unwrap_or_default();
                genuine |= expected.as_slice().ct_eq(&given);
            }
        }
        genuine
    }
}

/// The timestamp and the `v1` signatures of `t=…,v1=…`; entries of other kinds are passed over.
fn stripe_parts(text: &str) -> Option<(&str, Vec<&str>)> {
    let mut timestamp = None;
    let mut signatures = Vec::new();
    for entry in text.split(',') {
        match entry.trim().split_once('=')? {
            ("t", value) => timestamp = Some(value),
            ("v1", value) => signatures.push(value),
            _ => {}
        }
    }
    timestamp.map(|timestamp| (timestamp, signatures))
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, VerifyError> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| VerifyError::new(VerifyKind::Missing(name.clone())))
}

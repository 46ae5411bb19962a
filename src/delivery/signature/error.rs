//! Why a signature cannot be made, or is refused.

use std::fmt;
use std::time::Duration;

use reqwest::header::HeaderName;

use super::Scheme;

/// A signer cannot be built from what it was given. Never shows a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureError(String);

impl SignatureError {
    pub(super) fn unknown_scheme(text: &str) -> SignatureError {
        let known: Vec<&str> = Scheme::ALL.iter().map(|scheme| scheme.name()).collect();
        SignatureError(format!(
            "{text:?} is not a signature scheme of this version; it knows {}",
            known.join(", ")
        ))
    }

    pub(super) fn no_secret(scheme: Scheme) -> SignatureError {
        SignatureError(format!(
            "signature scheme `{scheme}` needs a secret; `walhook secret --scheme {scheme}` makes one"
        ))
    }

    pub(super) fn empty_secret(place: usize) -> SignatureError {
        SignatureError(format!("secret {} is empty", place + 1))
    }

    pub(super) fn standard_secret(place: usize, what: &str) -> SignatureError {
        SignatureError(format!(
            "secret {} {what}; for the scheme `standard` it is `whsec_` and the base64 of 24 to 64 \
             bytes, as `walhook secret` prints it, or an ed25519 key (whsk_)",
            place + 1
        ))
    }

    pub(super) fn public_key(place: usize) -> SignatureError {
        SignatureError(format!(
            "secret {} is a public key (whpk_), which receivers verify with; sign with the private \
             one that belongs to it (whsk_)",
            place + 1
        ))
    }

    pub(super) fn private_key(place: usize, what: &str) -> SignatureError {
        SignatureError(format!(
            "secret {} {what}; an ed25519 key is `whsk_` and the base64 of 64 bytes, as `walhook \
             secret --scheme ed25519` prints it",
            place + 1
        ))
    }

    pub(super) fn verifying_key(place: usize, what: &str) -> SignatureError {
        SignatureError(format!(
            "secret {} {what}; a public ed25519 key is `whpk_` and the base64 of 32 bytes, as \
             `walhook secret --scheme ed25519` prints it",
            place + 1
        ))
    }

    pub(super) fn asymmetric(scheme: Scheme, place: usize) -> SignatureError {
        SignatureError(format!(
            "secret {} is an ed25519 key, which only the scheme `standard` signs with; give \
             `{scheme}` a text that both sides know",
            place + 1
        ))
    }

    pub(super) fn no_prefix(scheme: Scheme) -> SignatureError {
        SignatureError(format!(
            "signature scheme `{scheme}` has no header prefix, only `twenty` has; remove \
             `signature_header_prefix`"
        ))
    }

    pub(super) fn no_header(scheme: Scheme) -> SignatureError {
        SignatureError(format!(
            "the headers of signature scheme `{scheme}` have fixed names, only `stripe` has another; \
             remove `signature_header`"
        ))
    }

    pub(super) fn header_prefix(prefix: &str) -> SignatureError {
        SignatureError(format!(
            "{prefix:?} cannot begin a header name; use letters, digits and hyphens"
        ))
    }

    pub(super) fn header_name(name: &str) -> SignatureError {
        SignatureError(format!("{name:?} is no header's name; use letters, digits and hyphens"))
    }

    pub(super) fn taken_prefix(prefix: &str, scheme: Scheme) -> SignatureError {
        SignatureError(format!(
            "{prefix:?} makes the headers of the scheme `{scheme}`, whose signature is another one; \
             choose another prefix"
        ))
    }

    pub(super) fn taken_header(name: &str, scheme: Scheme) -> SignatureError {
        SignatureError(format!(
            "{name:?} is a header of the scheme `{scheme}`; choose another name"
        ))
    }

    pub(super) fn invalid_id() -> SignatureError {
        SignatureError("the event id holds characters that no header may carry".to_owned())
    }
}

impl fmt::Display for SignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SignatureError {}

/// A request is not what it claims to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyError(VerifyKind);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum VerifyKind {
    Missing(HeaderName),
    Timestamp(HeaderName),
    Stripe(HeaderName),
    Mismatch(HeaderName),
    Stale { age_ms: i128, tolerance: Duration },
}

impl VerifyError {
    pub(super) fn new(kind: VerifyKind) -> VerifyError {
        VerifyError(kind)
    }

    /// A header of the scheme is not there: the request is not signed under it.
    pub fn is_unsigned(&self) -> bool {
        matches!(self.0, VerifyKind::Missing(_))
    }

    /// The signature was made with another secret or over other bytes.
    pub fn is_mismatch(&self) -> bool {
        matches!(self.0, VerifyKind::Mismatch(_))
    }

    /// The signature is right but its timestamp is too far from the clock.
    pub fn is_stale(&self) -> bool {
        matches!(self.0, VerifyKind::Stale { .. })
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            VerifyKind::Missing(name) => write!(f, "the header `{name}` is missing"),
            VerifyKind::Timestamp(name) => write!(f, "the header `{name}` is not a Unix time"),
            VerifyKind::Stripe(name) => {
                write!(f, "the header `{name}` does not read t=<Unix seconds>,v1=<signature>")
            }
            VerifyKind::Mismatch(name) => write!(
                f,
                "no signature in `{name}` matches: another secret was used, or the body was \
                 changed on the way"
            ),
            VerifyKind::Stale { age_ms, tolerance } => {
                let seconds = age_ms.unsigned_abs() / 1_000;
                let side = if *age_ms < 0 { "ahead of" } else { "behind" };
                let allowed = tolerance.as_secs();
                write!(f, "the timestamp is {seconds} s {side} the clock, {allowed} s are allowed")
            }
        }
    }
}

impl std::error::Error for VerifyError {}

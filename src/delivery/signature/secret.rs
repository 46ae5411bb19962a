//! Secrets: their text forms, keys, and new ones.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::RngCore as _;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use sha2::Sha256;

use super::{Scheme, SignatureError};

pub(super) type HmacSha256 = Hmac<Sha256>;

const SYMMETRIC_PREFIX: &str = "whsec_";
const PRIVATE_PREFIX: &str = "whsk_";
const PUBLIC_PREFIX: &str = "whpk_";
const SYMMETRIC_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const GENERATED_BYTES: usize = 32;
/// Of a seed, and of a public key.
const ED25519_BYTES: usize = 32;

/// What signs.
pub(super) enum SigningKey {
    Symmetric(HmacSha256),
    /// With its public half.
    Ed25519(Arc<Ed25519KeyPair>, [u8; ED25519_BYTES]),
}

/// What checks.
#[derive(Clone)]
pub(super) enum VerifyingKey {
    Symmetric(HmacSha256),
    Ed25519(UnparsedPublicKey<[u8; ED25519_BYTES]>),
}

/// An ed25519 key for the scheme `standard`, in the text forms that both sides configure.
#[derive(Debug)]
pub struct KeyPair {
    /// For the sender: `whsk_…`.
    pub signing: SecretString,
    /// For receivers, and no secret: `whpk_…`.
    pub verifying: String,
}

/// A new random secret, in the text form that both sides configure.
pub fn generate_secret(scheme: Scheme) -> SecretString {
    let key = random();
    SecretString::from(match scheme {
        Scheme::Standard | Scheme::Stripe => format!("{SYMMETRIC_PREFIX}{}", BASE64.encode(key)),
        Scheme::Twenty | Scheme::Github => hex::encode(key),
    })
}

/// A new random ed25519 key.
pub fn generate_key_pair() -> Result<KeyPair, SignatureError> {
    let seed = random();
    // Any 32 bytes are a seed (RFC 8032, 5.1.5).
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
        .map_err(|_| SignatureError::private_key(0, "cannot be made"))?;
    let public = pair.public_key().as_ref();
    Ok(KeyPair {
        signing: SecretString::from(format!(
            "{PRIVATE_PREFIX}{}",
            BASE64.encode([&seed[..], public].concat())
        )),
        verifying: format!("{PUBLIC_PREFIX}{}", BASE64.encode(public)),
    })
}

fn random() -> [u8; GENERATED_BYTES] {
    let mut key = [0; GENERATED_BYTES];
    // The thread's generator is a cryptographic one, seeded by the operating system.
    rand::rng().fill_bytes(&mut key);
    key
}

/// What may be shown of a secret, to tell two apart: its kind and a few bits of its hash.
pub fn redact(secret: &SecretString) -> String {
    use sha2::Digest as _;
    let text = secret.expose_secret();
    let prefixes = [SYMMETRIC_PREFIX, PRIVATE_PREFIX, PUBLIC_PREFIX];
    let prefix = prefixes.into_iter().find(|prefix| text.starts_with(prefix)).unwrap_or_default();
    let hash = sha2::Sha256::digest(text.as_bytes());
    format!("{prefix}…({})", hex::encode(&hash[..2]))
}

/// The code of `parts`, one after the other.
pub(super) fn mac(key: &HmacSha256, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = key.clone();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

impl SigningKey {
    /// `place` is the secret's place in its list, for the error.
    pub(super) fn new(
        scheme: Scheme,
        secret: &SecretString,
        place: usize,
    ) -> Result<SigningKey, SignatureError> {
        let text = secret.expose_secret();
        if scheme == Scheme::Standard && text.starts_with(PUBLIC_PREFIX) {
            return Err(SignatureError::public_key(place));
        }
        if scheme == Scheme::Standard
            && let Some(encoded) = text.strip_prefix(PRIVATE_PREFIX)
        {
            return key_pair(encoded, place);
        }
        symmetric(scheme, text, place).map(SigningKey::Symmetric)
    }

    pub(super) fn symmetric(&self) -> Option<&HmacSha256> {
        match self {
            SigningKey::Symmetric(key) => Some(key),
            SigningKey::Ed25519(..) => None,
        }
    }

    pub(super) fn verifying(&self) -> VerifyingKey {
        match self {
            SigningKey::Symmetric(key) => VerifyingKey::Symmetric(key.clone()),
            SigningKey::Ed25519(_, public) => VerifyingKey::ed25519(*public),
        }
    }
}

impl VerifyingKey {
    pub(super) fn new(
        scheme: Scheme,
        secret: &SecretString,
        place: usize,
    ) -> Result<VerifyingKey, SignatureError> {
        match secret.expose_secret().strip_prefix(PUBLIC_PREFIX) {
            Some(encoded) if scheme == Scheme::Standard => {
                let wrong = |what: &str| SignatureError::verifying_key(place, what);
                let bytes = BASE64.decode(encoded).map_err(|_| wrong("is not base64"))?;
                let held = bytes.len();
                let public = bytes.try_into().map_err(|_| wrong(&format!("holds {held} bytes")))?;
                Ok(VerifyingKey::ed25519(public))
            }
            _ => SigningKey::new(scheme, secret, place).map(|key| key.verifying()),
        }
    }

    fn ed25519(public: [u8; ED25519_BYTES]) -> VerifyingKey {
        VerifyingKey::Ed25519(UnparsedPublicKey::new(&ED25519, public))
    }
}

/// The seed and, behind it, the public key, which has to be the seed's own: else receivers would
/// refuse everything.
fn key_pair(encoded: &str, place: usize) -> Result<SigningKey, SignatureError> {
    let wrong = |what: &str| SignatureError::private_key(place, what);
    let bytes = SecretSlice::from(BASE64.decode(encoded).map_err(|_| wrong("is not base64"))?);
    let bytes = bytes.expose_secret();
    let size = || wrong(&format!("holds {} bytes", bytes.len()));
    let (seed, public) = bytes.split_at_checked(ED25519_BYTES).ok_or_else(size)?;
    let public: [u8; ED25519_BYTES] = public.try_into().map_err(|_| size())?;
    let pair = Ed25519KeyPair::from_seed_and_public_key(seed, &public)
        .map_err(|_| wrong("has a public half that is not its own"))?;
    Ok(SigningKey::Ed25519(Arc::new(pair), public))
}

fn symmetric(scheme: Scheme, text: &str, place: usize) -> Result<HmacSha256, SignatureError> {
    if text.is_empty() {
        return Err(SignatureError::empty_secret(place));
    }
    let key = match scheme {
        Scheme::Standard => {
            let wrong = |what: &str| SignatureError::standard_secret(place, what);
            let Some(encoded) = text.strip_prefix(SYMMETRIC_PREFIX) else {
                return Err(wrong("does not begin with whsec_"));
            };
            let key = BASE64.decode(encoded).map_err(|_| wrong("is not base64"))?;
            if !SYMMETRIC_BYTES.contains(&key.len()) {
                return Err(wrong(&format!("holds {} bytes", key.len())));
            }
            SecretSlice::from(key)
        }
        // A private key shared with receivers would not be private, and a public one no secret.
        _ if text.starts_with(PRIVATE_PREFIX) || text.starts_with(PUBLIC_PREFIX) => {
            return Err(SignatureError::asymmetric(scheme, place));
        }
        _ => SecretSlice::from(text.as_bytes().to_vec()),
    };
    // An HMAC key may have any length (RFC 2104), so this cannot fail.
    HmacSha256::new_from_slice(key.expose_secret()).map_err(|_| SignatureError::empty_secret(place))
}

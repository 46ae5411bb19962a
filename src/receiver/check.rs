//! Verifying requests of any scheme, told apart by their headers.

use std::time::{Duration, SystemTime};

use hyper::header::HeaderMap;
use secrecy::SecretString;

use crate::clock::unix_ms;
use crate::delivery::signature::{
    DEFAULT_TOLERANCE, STRIPE_HEADER, Scheme, SignatureError, TWENTY_PREFIX, Verifier,
};

/// Verifies with some secrets, each of which may be one of any scheme.
#[derive(Debug)]
pub struct SignatureChecker {
    schemes: Vec<Checked>,
    /// Whether a request has to be signed under all of them, and not just under one.
    all: bool,
    tolerance: Option<Duration>,
}

/// What is checked.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// The schemes that a request has to be signed under, each of them; if there are none, it may
    /// be any.
    pub schemes: Vec<Scheme>,
    /// Replaces `X-Twenty-Webhook` in the names of the scheme `twenty`.
    pub header_prefix: Option<String>,
    /// Replaces `Stripe-Signature`, the header of the scheme `stripe`.
    pub header: Option<String>,
}

#[derive(Debug)]
struct Checked {
    scheme: Scheme,
    /// The header that tells that a request is signed under the scheme.
    signature_header: String,
    /// None of the secrets is fit for the scheme if there is no verifier.
    verifier: Option<Verifier>,
}

/// What became of a request's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is no secret to check it with, or the request never got that far.
    NotChecked,
    /// It is signed under these schemes, rightly.
    Genuine(Vec<Scheme>),
    /// It is not signed, or wrongly: a sentence that says why.
    Wrong(String),
}

impl SignatureChecker {
    /// Checks nothing.
    pub fn none() -> SignatureChecker {
        SignatureChecker { schemes: Vec::new(), all: false, tolerance: None }
    }

    /// Checks with these secrets and accepts any of them; with no secret it checks nothing.
    pub fn new(
        secrets: &[SecretString],
        checks: &Checks,
    ) -> Result<SignatureChecker, SignatureError> {
        if secrets.is_empty() {
            return Ok(SignatureChecker::none());
        }
        let all = !checks.schemes.is_empty();
        let wanted = if all { &checks.schemes[..] } else { &Scheme::ALL[..] };
        let mut schemes = Vec::with_capacity(wanted.len());
        for &scheme in wanted {
            schemes.push(Checked {
                scheme,
                signature_header: match scheme {
                    Scheme::Standard => "webhook-signature".into(),
                    Scheme::Twenty => {
                        let prefix = checks.header_prefix.as_deref().unwrap_or(TWENTY_PREFIX);
                        format!("{prefix}-Signature")
                    }
                    Scheme::Stripe => checks.header.as_deref().unwrap_or(STRIPE_HEADER).into(),
                    Scheme::Github => "X-Hub-Signature-256".into(),
                },
                verifier: verifier(scheme, secrets, checks, all)?,
            });
        }
        Ok(SignatureChecker { schemes, all, tolerance: Some(DEFAULT_TOLERANCE) })
    }

    /// Whether there is anything to check with.
    pub fn is_none(&self) -> bool {
        self.schemes.is_empty()
    }

    /// Checks a request that arrived at `at`. Every scheme it is signed under has to be right, as
    /// far as it is one of those that count.
    pub fn check(&self, headers: &HeaderMap, body: &[u8], at: SystemTime) -> Verdict {
        if self.is_none() {
            return Verdict::NotChecked;
        }
        let now_ms = unix_ms(at);
        let mut genuine = Vec::new();
        for checked in &self.schemes {
            if !headers.contains_key(&checked.signature_header) && !self.all {
                continue;
            }
            let scheme = checked.scheme;
            let Some(verifier) = &checked.verifier else {
                let kind = match scheme {
                    Scheme::Standard => "whsec_… or whpk_…",
                    _ => "a text that is no ed25519 key",
                };
                return Verdict::Wrong(format!(
                    "it is signed as {scheme}, and none of the secrets is one for that ({kind})"
                ));
            };
            match verifier.verify(headers, body, now_ms, self.tolerance) {
                Ok(()) => genuine.push(scheme),
                Err(error) if error.is_unsigned() && self.all => {
                    return Verdict::Wrong(format!("it is not signed as {scheme}: {error}"));
                }
                Err(error) => return Verdict::Wrong(error.to_string()),
            }
        }
        if genuine.is_empty() {
            let names: Vec<&str> =
                self.schemes.iter().map(|checked| checked.signature_header.as_str()).collect();
            return Verdict::Wrong(format!(
                "it is not signed: there is no header {}",
                names.join(" or ")
            ));
        }
        Verdict::Genuine(genuine)
    }
}

/// None if no secret is fit. Where it is only to show which scheme a sender uses, a secret of
/// another one is no mistake.
fn verifier(
    scheme: Scheme,
    secrets: &[SecretString],
    checks: &Checks,
    wanted: bool,
) -> Result<Option<Verifier>, SignatureError> {
    let fit: Vec<SecretString> = secrets
        .iter()
        .filter(|&secret| Verifier::new(scheme, std::slice::from_ref(secret)).is_ok())
        .cloned()
        .collect();
    if fit.is_empty() {
        return if wanted { Verifier::new(scheme, secrets).map(Some) } else { Ok(None) };
    }
    let verifier = Verifier::new(scheme, &fit)?;
    match (scheme, &checks.header_prefix, &checks.header) {
        (Scheme::Twenty, Some(prefix), _) => verifier.with_header_prefix(prefix).map(Some),
        (Scheme::Stripe, _, Some(name)) => verifier.with_header(name).map(Some),
        _ => Ok(Some(verifier)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::delivery::signature::{Signer, generate_key_pair};

    const STANDARD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn checker(secrets: &[&str]) -> SignatureChecker {
        let secrets: Vec<_> = secrets.iter().map(|&secret| SecretString::from(secret)).collect();
        SignatureChecker::new(&secrets, &Checks::default()).unwrap()
    }

    fn signed(scheme: Scheme, secret: &str, at_ms: i64) -> HeaderMap {
        let signer = Signer::new(scheme, &[SecretString::from(secret)]).unwrap();
        signer.sign("evt_1", "a.b", at_ms, b"{}").unwrap()
    }

    fn at(ms: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(ms)
    }

    #[test]
    fn tells_the_schemes_apart() {
        let checker = checker(&["other", STANDARD]);
        let mut both = signed(Scheme::Standard, STANDARD, 1_000_000);
        assert_eq!(
            checker.check(&both, b"{}", at(1_000_000)),
            Verdict::Genuine(vec![Scheme::Standard])
        );
        let twenty = signed(Scheme::Twenty, "other", 1_000_000);
        assert_eq!(
            checker.check(&twenty, b"{}", at(1_000_000)),
            Verdict::Genuine(vec![Scheme::Twenty])
        );
        both.extend(twenty);
        assert_eq!(
            checker.check(&both, b"{}", at(1_000_000)),
            Verdict::Genuine(vec![Scheme::Standard, Scheme::Twenty])
        );
    }

    #[test]
    fn says_why_a_signature_is_wrong() {
        let wrong = |checker: &SignatureChecker, headers: &HeaderMap, body: &[u8], ms| match checker
            .check(headers, body, at(ms))
        {
            Verdict::Wrong(why) => why,
            other => panic!("{other:?}"),
        };
        let headers = signed(Scheme::Standard, STANDARD, 1_000_000);
        let good = checker(&[STANDARD]);
        assert!(wrong(&good, &headers, b"{} ", 1_000_000).contains("changed on the way"));
        assert!(wrong(&good, &headers, b"{}", 1_400_000).contains("behind the clock"));
        assert!(wrong(&good, &HeaderMap::new(), b"{}", 0).contains("not signed"));
        assert!(wrong(&checker(&["secret"]), &headers, b"{}", 1_000_000).contains("whsec_"));
        // One wrong signature is not mended by a right one beside it.
        let mut both = headers.clone();
        both.extend(signed(Scheme::Twenty, "another", 1_000_000));
        assert!(wrong(&good, &both, b"{}", 1_000_000).contains("signature"));
    }

    #[test]
    fn every_scheme_is_told_by_its_header() {
        let pair = generate_key_pair().unwrap();
        let checks = Checks { header: Some("X-Pay".into()), ..Checks::default() };
        let secrets = ["text", STANDARD, &pair.verifying].map(SecretString::from);
        let checker = SignatureChecker::new(&secrets, &checks).unwrap();
        for (scheme, secret) in [
            (Scheme::Standard, &pair.signing),
            (Scheme::Standard, &secrets[1]),
            (Scheme::Twenty, &secrets[0]),
            (Scheme::Stripe, &secrets[0]),
            (Scheme::Github, &secrets[1]),
        ] {
            let mut signer = Signer::new(scheme, std::slice::from_ref(secret)).unwrap();
            if scheme == Scheme::Stripe {
                signer = signer.with_header("X-Pay").unwrap();
            }
            let headers = signer.sign("evt_1", "a.b", 1_000_000, b"{}").unwrap();
            let verdict = checker.check(&headers, b"{}", at(1_000_000));
            assert_eq!(verdict, Verdict::Genuine(vec![scheme]));
            assert!(matches!(checker.check(&headers, b"[]", at(1_000_000)), Verdict::Wrong(_)));
        }
    }

    #[test]
    fn only_the_scheme_it_is_told_counts() {
        let checks = Checks { schemes: vec![Scheme::Github], ..Checks::default() };
        let secrets = [SecretString::from("text")];
        let checker = SignatureChecker::new(&secrets, &checks).unwrap();
        let mut headers = signed(Scheme::Twenty, "another", 1_000_000);
        match checker.check(&headers, b"{}", at(1_000_000)) {
            Verdict::Wrong(why) => assert!(why.contains("not signed as github"), "{why}"),
            other => panic!("{other:?}"),
        }
        headers.extend(signed(Scheme::Github, "text", 0));
        let verdict = checker.check(&headers, b"{}", at(1_000_000));
        assert_eq!(verdict, Verdict::Genuine(vec![Scheme::Github]));
        let checks = Checks { schemes: vec![Scheme::Standard], ..Checks::default() };
        assert!(SignatureChecker::new(&secrets, &checks).is_err());
    }

    #[test]
    fn without_a_secret_nothing_is_checked() {
        let none = SignatureChecker::new(&[], &Checks::default()).unwrap();
        assert_eq!(none.check(&HeaderMap::new(), b"{}", at(0)), Verdict::NotChecked);
    }
}

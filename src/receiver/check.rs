//! Verifying requests of any scheme, told apart by their headers.

use std::time::{Duration, SystemTime};

use hyper::header::HeaderMap;
use secrecy::SecretString;

use crate::clock::unix_ms;
use crate::delivery::signature::{
    DEFAULT_TOLERANCE, Scheme, SignatureError, Signer, TWENTY_PREFIX,
};

/// Verifies with some secrets, each of which may be one of any scheme.
#[derive(Debug)]
pub struct SignatureChecker {
    schemes: Vec<Checked>,
    tolerance: Option<Duration>,
}

#[derive(Debug)]
struct Checked {
    scheme: Scheme,
    /// The header that tells that a request is signed under the scheme.
    signature_header: String,
    /// None of the secrets is fit for the scheme if there is no signer.
    signer: Option<Signer>,
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
        SignatureChecker { schemes: Vec::new(), tolerance: None }
    }

    /// Checks with these secrets and accepts any of them. A prefix replaces `X-Twenty-Webhook` in
    /// the names of the scheme `twenty`.
    pub fn new(
        secrets: &[SecretString],
        header_prefix: Option<&str>,
    ) -> Result<SignatureChecker, SignatureError> {
        if secrets.is_empty() {
            return Ok(SignatureChecker::none());
        }
        // A secret of another scheme is no mistake here: which scheme a sender uses shows later.
        let fit: Vec<SecretString> = secrets
            .iter()
            .filter(|&secret| Signer::new(Scheme::Standard, std::slice::from_ref(secret)).is_ok())
            .cloned()
            .collect();
        let standard =
            (!fit.is_empty()).then(|| Signer::new(Scheme::Standard, &fit)).transpose()?;
        let mut twenty = Signer::new(Scheme::Twenty, secrets)?;
        if let Some(prefix) = header_prefix {
            twenty = twenty.with_header_prefix(prefix)?;
        }
        let prefix = header_prefix.unwrap_or(TWENTY_PREFIX);
        Ok(SignatureChecker {
            schemes: vec![
                Checked {
                    scheme: Scheme::Standard,
                    signature_header: "webhook-signature".into(),
                    signer: standard,
                },
                Checked {
                    scheme: Scheme::Twenty,
                    signature_header: format!("{prefix}-Signature"),
                    signer: Some(twenty),
                },
            ],
            tolerance: Some(DEFAULT_TOLERANCE),
        })
    }

    /// Whether there is anything to check with.
    pub fn is_none(&self) -> bool {
        self.schemes.is_empty()
    }

    /// Checks a request that arrived at `at`. Every scheme it is signed under has to be right.
    pub fn check(&self, headers: &HeaderMap, body: &[u8], at: SystemTime) -> Verdict {
        if self.is_none() {
            return Verdict::NotChecked;
        }
        let now_ms = unix_ms(at);
        let mut genuine = Vec::new();
        for checked in &self.schemes {
            if !headers.contains_key(&checked.signature_header) {
                continue;
            }
            let scheme = checked.scheme;
            let Some(signer) = &checked.signer else {
                return Verdict::Wrong(format!(
                    "it is signed as {scheme}, and none of the secrets is one for that (whsec_…)"
                ));
            };
            match signer.verify(headers, body, now_ms, self.tolerance) {
                Ok(()) => genuine.push(scheme),
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

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const STANDARD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn checker(secrets: &[&str]) -> SignatureChecker {
        let secrets: Vec<_> = secrets.iter().map(|&secret| SecretString::from(secret)).collect();
        SignatureChecker::new(&secrets, None).unwrap()
    }

    fn signed(scheme: Scheme, secret: &str, at_ms: i64) -> HeaderMap {
        let signer = Signer::new(scheme, &[SecretString::from(secret)]).unwrap();
        signer.sign("evt_1", at_ms, b"{}").unwrap()
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
    fn without_a_secret_nothing_is_checked() {
        let none = SignatureChecker::new(&[], None).unwrap();
        assert_eq!(none.check(&HeaderMap::new(), b"{}", at(0)), Verdict::NotChecked);
    }
}

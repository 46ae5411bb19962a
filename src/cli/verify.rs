//! `walhook verify`: is this signature right, and if not, why.

use std::time::Duration;

use clap::Args;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::Failure;
use super::input;
use super::sign::SignedArgs;
use crate::clock::now_ms;
use crate::delivery::signature::{Scheme, SignatureError, Verifier, VerifyError};

/// What can be said after `walhook verify`.
#[derive(Args, Debug)]
#[command(after_help = "Exit code 0 if the signature is right, 1 if it is not.\n\
                  Example: walhook verify --id evt_1 --timestamp 1614265330 --signature v1,… < body.json")]
pub struct VerifyArgs {
    /// What is signed, except for the body.
    #[command(flatten)]
    pub signed: SignedArgs,

    /// The signature to check: the whole value of the header
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    pub signature: String,

    /// How far the timestamp may be from now, as a receiver would ask [default: any time]
    #[arg(long, value_name = "DURATION", value_parser = input::duration)]
    pub tolerance: Option<Duration>,
}

impl VerifyArgs {
    /// Checks it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let (verifier, headers) = (self.verifier()?, self.headers()?);
        let body = input::body()?;
        match verifier.verify(&headers, &body, now_ms(), self.tolerance) {
            Ok(()) => super::print("the signature is right\n"),
            Err(error) => {
                let hint = self.hint(&verifier, &headers, &body, &error);
                Err(Failure::failed(format_args!("the signature is wrong: {error}{hint}")))
            }
        }
    }

    fn verifier(&self) -> Result<Verifier, Failure> {
        let names = &self.signed.names;
        let named = |verifier: Verifier| -> Result<Verifier, SignatureError> {
            let verifier = match &names.signature_header_prefix {
                Some(prefix) => verifier.with_header_prefix(prefix)?,
                None => verifier,
            };
            match &names.signature_header {
                Some(name) => verifier.with_header(name),
                None => Ok(verifier),
            }
        };
        let secrets = self.signed.secrets()?;
        Verifier::new(self.signed.scheme, &secrets).and_then(named).map_err(Failure::usage)
    }

    /// The headers that the request came with, as far as the scheme has them.
    fn headers(&self) -> Result<HeaderMap, Failure> {
        let scheme = self.signed.scheme;
        let id = self.signed.id()?;
        // Stripe's stands with the signature, and GitHub's is not there at all.
        let apart = matches!(scheme, Scheme::Standard | Scheme::Twenty);
        if apart && self.signed.timestamp.is_none() {
            return Err(Failure::usage(
                "the timestamp is part of what is signed: give the header's value with --timestamp",
            ));
        }
        let mut headers = HeaderMap::new();
        for name in self.signed.header_names() {
            let lower = name.to_ascii_lowercase();
            let value = if lower == "webhook-id" {
                id.to_owned()
            } else if lower.starts_with("x-github-") {
                continue;
            } else if apart && lower.ends_with("-timestamp") {
                self.signed.timestamp.unwrap_or_default().to_string()
            } else {
                self.signature.trim().to_owned()
            };
            let (Ok(header), Ok(value)) =
                (name.parse::<HeaderName>(), HeaderValue::from_str(&value))
            else {
                return Err(Failure::usage(format_args!(
                    "no header {name} can hold what was given for it: give it as it was received"
                )));
            };
            headers.insert(header, value);
        }
        Ok(headers)
    }

    /// What usually is the matter, if it is.
    fn hint(
        &self,
        verifier: &Verifier,
        headers: &HeaderMap,
        body: &[u8],
        error: &VerifyError,
    ) -> String {
        if !error.is_mismatch() {
            return String::new();
        }
        let matches = |body: &[u8]| verifier.verify(headers, body, 0, None).is_ok();
        let trimmed = body.strip_suffix(b"\n").map(|body| body.strip_suffix(b"\r").unwrap_or(body));
        if trimmed.is_some_and(matches) {
            return "; it is right without the line break at the body's end, so that was added on the way here".into();
        }
        if body.is_empty() {
            return "; the body on stdin was empty".into();
        }
        let mut with_break = body.to_vec();
        with_break.push(b'\n');
        if matches(&with_break) {
            return "; it is right with a line break at the body's end, so that was lost on the way here".into();
        }
        format!("; {} bytes of body were checked", body.len())
    }
}

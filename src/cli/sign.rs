//! `walhook sign`: the headers for a body, as the daemon would send them.

use clap::Args;
use secrecy::SecretString;

use super::Failure;
use super::input::{self, SecretArg, scheme};
use crate::clock::now_ms;
use crate::delivery::signature::{Scheme, Signer, TWENTY_PREFIX};

/// What can be said after `walhook sign`.
#[derive(Args, Debug)]
#[command(after_help = "Example: walhook sign --id evt_1 --secret-file hook.secret < body.json")]
pub struct SignArgs {
    /// What is signed, except for the body.
    #[command(flatten)]
    pub signed: SignedArgs,
}

/// What `sign` and `verify` take alike.
#[derive(Args, Debug)]
pub struct SignedArgs {
    /// How the body is signed: standard or twenty
    #[arg(long, value_name = "SCHEME", default_value_t = Scheme::Standard, value_parser = scheme)]
    pub scheme: Scheme,

    /// What it is signed with.
    #[command(flatten)]
    pub secret: SecretArg,

    /// The event's id (`webhook-id`); the scheme twenty has none
    #[arg(long)]
    pub id: Option<String>,

    /// When it is sent: Unix seconds for standard, Unix milliseconds for twenty [default: now]
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub timestamp: Option<i64>,

    /// What the headers of the scheme twenty begin with [default: X-Twenty-Webhook]
    #[arg(long, value_name = "PREFIX")]
    pub signature_header_prefix: Option<String>,
}

impl SignedArgs {
    /// A signer, and the event's id.
    pub(crate) fn signer(&self) -> Result<(Signer, &str), Failure> {
        let secret = SecretString::from(self.secret.require()?);
        let mut signer = Signer::new(self.scheme, &[secret]).map_err(Failure::usage)?;
        if let Some(prefix) = &self.signature_header_prefix {
            signer = signer.with_header_prefix(prefix).map_err(Failure::usage)?;
        }
        match (&self.id, self.scheme) {
            (Some(id), _) => Ok((signer, id)),
            (None, Scheme::Standard) => Err(Failure::usage(
                "the scheme standard signs the event's id too: give it with --id",
            )),
            (None, _) => Ok((signer, "")),
        }
    }

    /// The time in Unix milliseconds.
    pub(crate) fn at_ms(&self) -> Result<i64, Failure> {
        let Some(timestamp) = self.timestamp else { return Ok(now_ms()) };
        let unit_ms = if self.scheme == Scheme::Standard { 1_000 } else { 1 };
        timestamp
            .checked_mul(unit_ms)
            .ok_or_else(|| Failure::usage(format_args!("the timestamp {timestamp} is too far off")))
    }

    /// The names of the scheme's headers, as its documentation writes them.
    pub(crate) fn header_names(&self) -> Vec<String> {
        match self.scheme {
            Scheme::Standard => {
                ["webhook-id", "webhook-timestamp", "webhook-signature"].map(String::from).into()
            }
            _ => {
                let prefix = self.signature_header_prefix.as_deref().unwrap_or(TWENTY_PREFIX);
                vec![format!("{prefix}-Timestamp"), format!("{prefix}-Signature")]
            }
        }
    }
}

impl SignArgs {
    /// Prints the headers, one `name: value` a line.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let (signer, id) = self.signed.signer()?;
        let at_ms = self.signed.at_ms()?;
        let headers = signer.sign(id, at_ms, &input::body()?).map_err(Failure::usage)?;
        let mut lines = String::new();
        for name in self.signed.header_names() {
            if let Some(value) = headers.get(&name).and_then(|value| value.to_str().ok()) {
                lines.push_str(&format!("{name}: {value}\n"));
            }
        }
        super::print(lines)
    }
}

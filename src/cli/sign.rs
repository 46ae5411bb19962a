//! `walhook sign`: the headers for a body, as the daemon would send them.

use clap::Args;
use secrecy::SecretString;

use super::Failure;
use super::input::{self, SecretArg, scheme};
use crate::clock::now_ms;
use crate::delivery::signature::{self, Scheme, SignatureError, Signer};

/// What can be said after `walhook sign`.
#[derive(Args, Debug)]
#[command(after_help = "Example: walhook sign --id evt_1 --secret-file hook.secret < body.json")]
pub struct SignArgs {
    /// What is signed, except for the body.
    #[command(flatten)]
    pub signed: SignedArgs,

    /// The event's name, which the scheme github sends along
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub event: String,
}

/// What `sign` and `verify` take alike.
#[derive(Args, Debug)]
pub struct SignedArgs {
    /// How the body is signed: standard, twenty, stripe or github
    #[arg(long, value_name = "SCHEME", default_value_t = Scheme::Standard, value_parser = scheme)]
    pub scheme: Scheme,

    /// What it is signed with.
    #[command(flatten)]
    pub secret: SecretArg,

    /// The event's id (`webhook-id`), which standard signs too; github sends it along
    #[arg(long)]
    pub id: Option<String>,

    /// When it is sent: Unix seconds for standard and stripe, Unix milliseconds for twenty
    /// [default: now]
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub timestamp: Option<i64>,

    /// How the headers are called.
    #[command(flatten)]
    pub names: NameArgs,
}

/// Names of headers that can be chosen.
#[derive(Args, Clone, Debug)]
pub struct NameArgs {
    /// What the headers of the scheme twenty begin with [default: X-Twenty-Webhook]
    #[arg(long, value_name = "PREFIX")]
    pub signature_header_prefix: Option<String>,

    /// The header of the scheme stripe [default: Stripe-Signature]
    #[arg(long, value_name = "NAME")]
    pub signature_header: Option<String>,
}

impl SignedArgs {
    /// The secrets, of which there is one at least.
    pub(crate) fn secrets(&self) -> Result<Vec<SecretString>, Failure> {
        Ok(self.secret.require()?.into_iter().map(SecretString::from).collect())
    }

    /// The event's id; empty where there is none, and need not be.
    pub(crate) fn id(&self) -> Result<&str, Failure> {
        match (&self.id, self.scheme) {
            (Some(id), _) => Ok(id),
            (None, Scheme::Standard) => Err(Failure::usage(
                "the scheme standard signs the event's id too: give it with --id",
            )),
            (None, _) => Ok(""),
        }
    }

    /// The names of the scheme's headers, as its documentation writes them.
    pub(crate) fn header_names(&self) -> Vec<String> {
        let prefix = self.names.signature_header_prefix.as_deref();
        signature::documented(self.scheme, prefix, self.names.signature_header.as_deref())
    }

    /// The time in Unix milliseconds.
    fn at_ms(&self) -> Result<i64, Failure> {
        let Some(timestamp) = self.timestamp else { return Ok(now_ms()) };
        let unit_ms = if self.scheme == Scheme::Twenty { 1 } else { 1_000 };
        timestamp
            .checked_mul(unit_ms)
            .ok_or_else(|| Failure::usage(format_args!("the timestamp {timestamp} is too far off")))
    }

    fn signer(&self) -> Result<Signer, Failure> {
        let named = |signer: Signer| -> Result<Signer, SignatureError> {
            let signer = match &self.names.signature_header_prefix {
                Some(prefix) => signer.with_header_prefix(prefix)?,
                None => signer,
            };
            match &self.names.signature_header {
                Some(name) => signer.with_header(name),
                None => Ok(signer),
            }
        };
        Signer::new(self.scheme, &self.secrets()?).and_then(named).map_err(Failure::usage)
    }
}

impl SignArgs {
    /// Prints the headers, one `name: value` a line.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let (signer, id) = (self.signed.signer()?, self.signed.id()?);
        let at_ms = self.signed.at_ms()?;
        let headers =
            signer.sign(id, &self.event, at_ms, &input::body()?).map_err(Failure::usage)?;
        let mut lines = String::new();
        for name in self.signed.header_names() {
            if let Some(value) = headers.get(&name).and_then(|value| value.to_str().ok()) {
                lines.push_str(&format!("{name}: {value}\n"));
            }
        }
        super::print(lines)
    }
}

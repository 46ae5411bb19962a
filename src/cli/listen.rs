//! `walhook listen`: a local receiver.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use hyper::StatusCode;
use secrecy::SecretString;
use url::Url;

use super::input::{self, SECRET_VARIABLE, SecretArg};
use super::sign::NameArgs;
use super::{Failure, StopSignals};
use crate::delivery::signature::Scheme;
use crate::receiver::pretty::{self, Printer};
use crate::receiver::{
    Answers, Checks, Received, Receiver, ReceiverOptions, SignatureChecker, Tally,
};

/// What can be said after `walhook listen`.
#[derive(Args, Debug)]
#[command(
    after_help = "With a secret, requests that are unsigned or wrongly signed are answered with 401.\n\
                  Schemes are told apart by their headers unless --scheme says which one it has to be.\n\
                  For ed25519 the secret is the public key: whpk_…"
)]
pub struct ListenArgs {
    /// The port; 0 takes a free one, which is printed
    #[arg(short, long, default_value_t = 8401)]
    pub port: u16,

    /// The address to listen on; 0.0.0.0 is all of this machine's
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub bind: IpAddr,

    /// What signatures are verified with.
    #[command(flatten)]
    pub secret: SecretArg,

    /// Which scheme requests have to be signed under: standard, twenty, stripe or github; of
    /// several, each [default: any of them]
    #[arg(long, value_name = "SCHEME", value_parser = input::scheme, value_delimiter = ',')]
    pub scheme: Vec<Scheme>,

    /// How the headers are called.
    #[command(flatten)]
    pub names: NameArgs,

    /// Pass verified requests on to this URL, and answer what comes back
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub forward_to: Option<Url>,

    /// Answer with this status
    #[arg(long, value_name = "STATUS", value_parser = status, conflicts_with_all = ["status_sequence", "forward_to"])]
    pub status: Option<StatusCode>,

    /// Answer with these statuses one after the other, and with the last one from then on, such
    /// as 500,503,200
    #[arg(long, value_name = "STATUSES", value_parser = status, value_delimiter = ',', conflicts_with = "forward_to")]
    pub status_sequence: Vec<StatusCode>,

    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,

    /// The largest body to accept
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = input::size)]
    pub max_body: u64,
}

impl ListenArgs {
    /// Receives until Ctrl-C or SIGTERM.
    pub(crate) fn run(self) -> Result<(), Failure> {
        super::block_on(self.listen())
    }

    async fn listen(self) -> Result<(), Failure> {
        let secrets: Vec<SecretString> =
            self.secret.get()?.into_iter().map(SecretString::from).collect();
        if secrets.is_empty() && !self.scheme.is_empty() {
            return Err(Failure::usage(format_args!(
                "--scheme checks nothing without a secret: give --secret, --secret-file, or the variable {SECRET_VARIABLE}"
            )));
        }
        let checks = Checks {
            schemes: self.scheme,
            header_prefix: self.names.signature_header_prefix,
            header: self.names.signature_header,
        };
        let checker = SignatureChecker::new(&secrets, &checks).map_err(Failure::usage)?;
        let unchecked = checker.is_none();
        let mut signals = StopSignals::new()?;
        let statuses = match self.status {
            Some(status) => vec![status],
            None => self.status_sequence,
        };
        let receiver = Receiver::bind(ReceiverOptions {
            bind: SocketAddr::new(self.bind, self.port),
            checker,
            max_body_bytes: usize::try_from(self.max_body).unwrap_or(usize::MAX),
            answers: Answers::new(statuses),
            forward_to: self.forward_to,
        })
        .await
        .map_err(Failure::failed)?;
        announce(receiver.address(), unchecked, self.json)?;

        let tally = Arc::new(Mutex::new(Tally::default()));
        let seen = Arc::clone(&tally);
        let printer = Printer { colour: !self.json && super::colour(&io::stdout()) };
        let show = move |received: &Received| {
            let again = seen.lock().unwrap_or_else(PoisonError::into_inner).add(received);
            let text =
                if self.json { pretty::json_line(received) } else { printer.text(received, again) };
            // Whoever read this has gone away; requests are still to be answered.
            let mut out = io::stdout().lock();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        };
        receiver.run(signals.next(), show).await;
        let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(io::stderr(), "{tally}");
        Ok(())
    }
}

/// Says where it listens: in words on stderr, and with `--json` as the first line of stdout.
fn announce(address: SocketAddr, unchecked: bool, json: bool) -> Result<(), Failure> {
    let how = if unchecked {
        format!("; signatures are not checked (no --secret and no {SECRET_VARIABLE})")
    } else {
        String::new()
    };
    let _ = writeln!(io::stderr(), "listening on http://{address}{how}; Ctrl-C ends it");
    if json {
        super::print(format_args!("{{\"listening\":\"http://{address}\"}}\n"))?;
    }
    Ok(())
}

fn status(text: &str) -> Result<StatusCode, String> {
    match text.trim().parse::<u16>() {
        Ok(code @ 200..=599) => StatusCode::from_u16(code).map_err(|error| error.to_string()),
        _ => Err("a status is a number from 200 to 599".into()),
    }
}

fn http_url(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
        Ok(_) => Err("write an http:// or https:// URL".into()),
        Err(error) => {
            Err(format!("it is no URL ({error}): write one such as http://127.0.0.1:3000/hooks"))
        }
    }
}

//! Why no answer came.

use std::error::Error as StdError;
use std::io;

use super::super::client::Trouble;
use super::super::guard::Unresolved;
use super::HostAnswer;

const CONNECT_LATE: &str = "could not connect within `connect_timeout`: is the host up, and does a \
                            firewall let walhook through?";
const LONGEST_ERROR_BYTES: usize = 400;

/// What it says of the host, and why in a sentence, without the URL, which may hold a token.
pub(super) fn describe(trouble: &Trouble) -> (HostAnswer, String) {
    let error: &(dyn StdError + 'static) = match trouble {
        Trouble::Unresolved(error) => error,
        Trouble::Connect(error) => error,
        Trouble::Http(error) => error,
        Trouble::Proxied(error) => error,
        Trouble::ConnectLate => return (HostAnswer::Failing, CONNECT_LATE.to_owned()),
        // Whoever set the deadline or made the request can say more of these.
        Trouble::Late => return (HostAnswer::Failing, "no answer came in time".to_owned()),
        Trouble::Request(why) => return (HostAnswer::None, cut(why.clone())),
    };
    let is_connect = match trouble {
        Trouble::Connect(_) => true,
        Trouble::Proxied(error) => error.is_connect(),
        _ => false,
    };
    let mut cause = error;
    let (mut from_http, mut from_tls) = (None, None);
    loop {
        if let Some(unresolved) = cause.downcast_ref::<Unresolved>() {
            let host = match unresolved {
                Unresolved::Refused(_) => HostAnswer::None,
                Unresolved::Failed { .. } | Unresolved::Empty { .. } => HostAnswer::Failing,
            };
            return (host, cut(unresolved.to_string()));
        }
        from_http = from_http.or_else(|| cause.downcast_ref::<hyper::Error>());
        from_tls = from_tls.or_else(|| tls_error(cause));
        match cause.source() {
            Some(deeper) => cause = deeper,
            None => break,
        }
    }
    let what = if let Some(remedy) = from_tls.and_then(tls_remedy) {
        return (HostAnswer::Failing, cut(format!("the TLS handshake failed: {cause}; {remedy}")));
    } else if is_connect && matches!(trouble, Trouble::Proxied(error) if error.is_timeout()) {
        CONNECT_LATE.to_owned()
    } else if is_connect {
        format!("could not connect: {cause}")
    } else if from_http.is_some_and(hyper::Error::is_parse) {
        format!("the answer is not HTTP: {cause}")
    } else if from_http.is_some_and(hyper::Error::is_incomplete_message) {
        "the connection was closed before an answer came".to_owned()
    } else {
        format!("the request failed: {cause}")
    };
    (HostAnswer::Failing, cut(what))
}

/// An I/O error stands for the one it carries, which therefore is not among its sources.
fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let carrier = error.downcast_ref::<io::Error>();
    error.downcast_ref().or_else(|| tls_error(carrier?.get_ref()?))
}

/// What can be done about a handshake that the configuration can mend.
fn tls_remedy(error: &rustls::Error) -> Option<&'static str> {
    use rustls::{AlertDescription as Alert, CertificateError, Error};
    match error {
        // The signature is bad where another authority has the same name.
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => Some("name the authority that vouches for the receiver as `tls.ca`"),
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Some("correct the host in `url`, or the receiver's certificate"),
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => Some("the receiver's certificate has to be renewed"),
        Error::AlertReceived(
            Alert::CertificateRequired | Alert::BadCertificate | Alert::UnknownCA,
        ) => Some(
            "give walhook a certificate that the receiver trusts, as `tls.client_cert` and \
             `tls.client_key`",
        ),
        _ => None,
    }
}

/// At most as long as the log of attempts wants its errors.
pub(super) fn cut(text: String) -> String {
    cut_to(text, LONGEST_ERROR_BYTES)
}

/// At most that many bytes, and whole characters.
pub(super) fn cut_to(mut text: String, bytes: usize) -> String {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

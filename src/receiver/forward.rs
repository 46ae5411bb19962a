//! Passing requests on.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use url::Url;

use super::{Received, ReceiverError};
use crate::delivery::install_crypto_provider;

/// How long the other side may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What belongs to one connection and is not passed on (RFC 9110, section 7.6.1).
const NOT_PASSED_ON: [HeaderName; 7] =
    [CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

#[derive(Debug)]
pub(super) struct Forwarder {
    client: reqwest::Client,
    url: Url,
}

impl Forwarder {
    pub(super) fn new(url: Url) -> Result<Forwarder, ReceiverError> {
        install_crypto_provider();
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            // What is forwarded to is named by hand and near: a proxy for the outside world
            // would only be in the way.
            .no_proxy()
            .build()
            .map_err(|error| ReceiverError(format!("cannot forward requests: {error}")))?;
        Ok(Forwarder { client, url })
    }

    /// Sends the same request on: same method, query, headers and bytes. The status that comes back,
    /// or why none did.
    pub(super) async fn forward(&self, received: &Received) -> Result<StatusCode, String> {
        let mut headers: HeaderMap = received.headers.clone();
        for name in NOT_PASSED_ON {
            headers.remove(name);
        }
        self.client
            .request(received.method.clone(), self.target(&received.path))
            .headers(headers)
            .body(received.body.clone())
            .send()
            .await
            .map(|response| response.status())
            .map_err(|error| {
                let why = if error.is_timeout() {
                    "it did not answer in time"
                } else if error.is_connect() {
                    "nothing answers there"
                } else {
                    "the request failed"
                };
                format!("cannot forward: {why}")
            })
    }

    /// The URL with what stood in the query, which may be all that a request says.
    fn target(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        let query = path.split_once('?').map_or("", |(_, query)| query);
        match (url.query().filter(|own| !own.is_empty()), query) {
            (_, "") => {}
            (None, query) => url.set_query(Some(query)),
            (Some(own), query) => {
                let both = format!("{own}&{query}");
                url.set_query(Some(&both));
            }
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_passed_on() {
        for (to, path, expected) in [
            ("http://host.example/a", "/hooks", "http://host.example/a"),
            ("http://host.example/a", "/hooks?x=1&y=%20", "http://host.example/a?x=1&y=%20"),
            ("http://host.example/a?", "/hooks?x=1", "http://host.example/a?x=1"),
            ("http://host.example/a?b=c", "/hooks?x=?", "http://host.example/a?b=c&x=?"),
            ("http://host.example/a?b=c", "/hooks?", "http://host.example/a?b=c"),
        ] {
            let forwarder = Forwarder::new(to.parse().unwrap()).unwrap();
            assert_eq!(forwarder.target(path).as_str(), expected);
        }
    }
}

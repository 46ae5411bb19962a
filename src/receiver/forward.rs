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

    /// Sends the same request on: same method, headers and bytes. The status that comes back, or
    /// why none did.
    pub(super) async fn forward(&self, received: &Received) -> Result<StatusCode, String> {
        let mut headers: HeaderMap = received.headers.clone();
        for name in NOT_PASSED_ON {
            headers.remove(name);
        }
        self.client
            .request(received.method.clone(), self.url.clone())
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
}

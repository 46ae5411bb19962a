//! Requests through a proxy.

use reqwest::{Proxy, Request, redirect};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::super::error::DeliveryError;
use super::super::guard::{Lookup, Resolver};
use super::pool::IDLE_TIMEOUT;
use super::{
    Answer, CONNECTION_WINDOW, ClientOptions, Content, Outgoing, PING_INTERVAL, PING_TIMEOUT,
    STREAM_WINDOW, Trouble, tls_config,
};

/// A client for requests that go through a proxy.
pub(in crate::delivery) struct Proxied {
    client: reqwest::Client,
    url: Url,
}

impl Proxied {
    pub(super) fn new(
        options: &ClientOptions,
        proxy: &Url,
        lookup: Lookup,
    ) -> Result<Proxied, DeliveryError> {
        let client = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .connect_timeout(options.connect_timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(options.concurrency.max(1))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            // It is the proxy that resolves the endpoint's name.
            .dns_resolver(Resolver::for_proxy(lookup))
            .tls_backend_preconfigured(tls_config(&options.tls)?)
            .no_proxy()
            .proxy(Proxy::all(proxy.clone()).map_err(DeliveryError::client)?)
            .build()
            .map_err(DeliveryError::client)?;
        Ok(Proxied { client, url: options.url.clone() })
    }

    pub(super) async fn send(
        &self,
        outgoing: Outgoing,
        deadline: Instant,
    ) -> Result<Answer, Trouble> {
        let url = outgoing.url.unwrap_or_else(|| self.url.clone());
        let mut request = Request::new(outgoing.method, url);
        *request.headers_mut() = outgoing.headers;
        *request.body_mut() = outgoing.body.map(Into::into);
        match timeout_at(deadline, self.client.execute(request)).await {
            Ok(Ok(answer)) => Ok(Answer::new(answer.into(), Content::Proxied)),
            Ok(Err(error)) => Err(Trouble::Proxied(error.without_url())),
            Err(_) => Err(Trouble::Late),
        }
    }
}

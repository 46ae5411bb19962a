//! The HTTP client of an endpoint.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use reqwest::{Client, Proxy, redirect};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use url::Url;

use super::endpoint::{EndpointTls, Networks};
use super::error::DeliveryError;
use super::guard::{Lookup, Resolver};

/// How long an unused connection is kept. Many servers close theirs after 5 seconds (Node.js does
/// by default); sending on a connection that is being closed at that moment would fail.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);
/// An HTTP/2 connection carries all requests of an endpoint, so one that died unnoticed would fail
/// them all: while requests are open the server is asked for a sign of life that often.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of an answer an HTTP/2 server may send unasked. Answers are not read beyond a few KiB,
/// so all that a larger window would bring is memory.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What an endpoint's client is made of.
#[derive(Clone)]
pub struct ClientOptions {
    /// Connections kept open.
    pub concurrency: usize,
    /// For the name, the TCP connection and the TLS handshake together.
    pub connect_timeout: Duration,
    /// Which addresses host names may lead to.
    pub networks: Networks,
    /// The proxy to go through; never one that the environment names.
    pub proxy: Option<Url>,
    /// Whom to trust, and how to prove oneself.
    pub tls: EndpointTls,
}

impl fmt::Debug for ClientOptions {
    /// Leaves out the proxy's URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("concurrency", &self.concurrency)
            .field("connect_timeout", &self.connect_timeout)
            .field("networks", &self.networks)
            .field("proxy", &self.proxy.is_some())
            .field("tls", &self.tls)
            .finish()
    }
}

/// A client that follows no redirect, tries nothing again, decompresses nothing, and hands answers
/// over as they come.
///
/// It speaks HTTP/2 to servers that offer it over TLS, and HTTP/1.1 to all others. Each new
/// connection resolves the host's name anew.
pub fn http_client(options: &ClientOptions) -> Result<Client, DeliveryError> {
    client_with(options, Lookup::System)
}

pub(super) fn client_with(
    options: &ClientOptions,
    lookup: Lookup,
) -> Result<Client, DeliveryError> {
    install_crypto_provider();
    let resolver = match &options.proxy {
        // Then it is the proxy that resolves the endpoint's name.
        Some(_) => Resolver::for_proxy(lookup),
        None => Resolver::guarded(options.networks.clone(), lookup),
    };
    let mut builder = Client::builder()
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(options.connect_timeout)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(options.concurrency.max(1))
        .tcp_nodelay(true)
        .tcp_keepalive(TCP_KEEPALIVE)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .dns_resolver(resolver)
        .tls_backend_preconfigured(tls_config(&options.tls)?)
        .no_proxy();
    if let Some(proxy) = &options.proxy {
        builder = builder.proxy(Proxy::all(proxy.clone()).map_err(DeliveryError::client)?);
    }
    builder.build().map_err(DeliveryError::client)
}

/// Installs ring as the process's crypto provider, unless there is one already. To be called before
/// anything else uses TLS; harmless when called again.
pub fn install_crypto_provider() {
    // An error means that one is installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// How an endpoint's connections are secured. Those that say nothing of it share one configuration,
/// and with it their sessions.
pub(crate) fn tls_config(tls: &EndpointTls) -> Result<ClientConfig, DeliveryError> {
    static SHARED: OnceLock<ClientConfig> = OnceLock::new();
    if tls.ca.is_some() || tls.identity.is_some() {
        return new_tls_config(tls);
    }
    if let Some(config) = SHARED.get() {
        return Ok(config.clone());
    }
    let config = new_tls_config(tls)?;
    Ok(SHARED.get_or_init(|| config).clone())
}

fn new_tls_config(tls: &EndpointTls) -> Result<ClientConfig, DeliveryError> {
    let roots = match &tls.ca {
        None => system_roots(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in authorities {
                roots.add(authority.clone()).map_err(DeliveryError::tls)?;
            }
            Arc::new(roots)
        }
    };
    let provider = Arc::<CryptoProvider>::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(DeliveryError::tls)?
        .with_root_certificates(roots);
    let mut config = match tls.identity.as_deref() {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(DeliveryError::tls)?,
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Read once: that takes milliseconds.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            let problem = found.errors.first().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(
                problem,
                "no certificate authorities found on this system: no https endpoint can be \
                 verified unless it has a `tls.ca`; install ca-certificates or set SSL_CERT_FILE"
            );
        }
        Arc::new(roots)
    };
    Arc::clone(ROOTS.get_or_init(read))
}

/// What user and password of a URL become as the value of a header (RFC 7617); `None` where it has
/// neither.
pub(crate) fn basic_authorization(url: &Url) -> Option<String> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut pair = percent_decode(url.username());
    pair.push(b':');
    pair.extend(percent_decode(url.password().unwrap_or_default()));
    Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
}

fn percent_decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let mut decoded = [0];
        if *first == b'%'
            && tail.len() >= 2
            && hex::decode_to_slice(&tail[..2], &mut decoded).is_ok()
        {
            bytes.push(decoded[0]);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    bytes
}

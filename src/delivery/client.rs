//! The HTTP client of an endpoint.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::{Client, redirect};
use rustls::{ClientConfig, RootCertStore};
use url::Url;

use super::endpoint::{EndpointTls, Networks};
use super::error::DeliveryError;
use super::guard::Resolver;

/// How long an unused connection is kept. Many servers close theirs after 5 seconds (Node.js does
/// by default); sending on a connection that is being closed at that moment would fail.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);

/// What an endpoint's client is made of.
#[derive(Clone, Debug)]
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

/// A client that speaks HTTP/1.1, follows no redirect, and hands answers over as they come.
///
/// HTTP/1.1 because at this use it costs less than HTTP/2: one small request, one small answer.
pub fn http_client(options: &ClientOptions) -> Result<Client, DeliveryError> {
    install_crypto_provider();
    let builder = Client::builder()
        .http1_only()
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(options.connect_timeout)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(options.concurrency.max(1))
        .tcp_nodelay(true)
        .tcp_keepalive(TCP_KEEPALIVE)
        .dns_resolver(Resolver::new(options.networks.private))
        .tls_backend_preconfigured(tls_config()?.clone())
        .no_proxy();
    builder.build().map_err(DeliveryError::client)
}

/// Installs ring as the process's crypto provider, unless there is one already. To be called before
/// anything else uses TLS; harmless when called again.
pub fn install_crypto_provider() {
    // An error means that one is installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Built once: reading the system's certificates takes milliseconds, and a shared configuration
/// shares its sessions.
pub(crate) fn tls_config() -> Result<&'static ClientConfig, DeliveryError> {
    static CONFIG: OnceLock<ClientConfig> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config);
    }
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let problem = found.errors.first().map(ToString::to_string).unwrap_or_default();
        tracing::warn!(
            problem,
            "no certificate authorities found on this system: no https endpoint can be verified; \
             install ca-certificates or set SSL_CERT_FILE"
        );
    }
    let provider = rustls::crypto::ring::default_provider();
    let mut config = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(DeliveryError::tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(CONFIG.get_or_init(|| config))
}

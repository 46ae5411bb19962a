//! Whom connections trust, and how they prove themselves.

use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};

use super::super::endpoint::EndpointTls;
use super::super::error::DeliveryError;

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

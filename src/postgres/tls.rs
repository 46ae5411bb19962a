//! TLS towards Postgres: one rustls configuration serves the replication stream and the
//! connections for queries.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use rustls::client::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{RootCertStore, version};

use crate::postgres::connection::{RootCert, SslMode, TlsOptions};
use crate::postgres::error::PgError;

mod binding;
mod stream;
#[cfg(test)]
mod tests;
mod verify;

pub(crate) use binding::server_end_point;
pub(crate) use stream::AsyncTls;

/// What a TLS handshake with one host needs.
#[derive(Clone, Debug)]
pub(crate) struct TlsSetup {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

impl TlsSetup {
    /// Reads the certificates and decides whom to trust. Blocks on small files; they are read anew
    /// for each connection, so that renewed certificates are picked up.
    ///
    /// As in libpq, a root certificate given is checked against in every mode, and the host's name
    /// in `verify-full` alone.
    pub(crate) fn load(options: &TlsOptions, host: &str) -> Result<TlsSetup, PgError> {
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let roots = match (&options.root_cert, options.mode) {
            (Some(RootCert::File(path)), _) => Some(read_certificates("sslrootcert", path)?),
            (Some(RootCert::System), _) | (None, SslMode::VerifyFull | SslMode::VerifyCa) => {
                Some(system_certificates()?)
            }
            (None, _) => None,
        };
        let trust = match roots {
            None => verify::Trust::Anybody,
            Some(certificates) => {
                verify::Trust::Roots { store: store(&certificates)?, certificates }
            }
        };
        let check_name = options.mode == SslMode::VerifyFull;
        let verifier = verify::Verifier::new(trust, check_name, algorithms);

        let versions: &[_] = match options.only_tls13 {
            true => &[&version::TLS13],
            false => &[&version::TLS13, &version::TLS12],
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| PgError::invalid(format!("could not set up TLS: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match (&options.cert, &options.key) {
            (Some(cert), Some(key)) => {
                let (chain, key) = (read_certificates("sslcert", cert)?, read_key(key)?);
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    PgError::invalid(format!(
                        "could not use sslcert {} with its sslkey: {error}",
                        cert.display()
                    ))
                })?
            }
            _ => builder.with_no_client_auth(),
        };
        config.enable_sni = !options.without_sni;
        // Required for direct negotiation, ignored by servers before 17.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(TlsSetup { config: Arc::new(config), name: server_name(host, check_name)? })
    }
}

/// The name to send and check. Where it isn't checked, a host whose name isn't a DNS name does
/// too: an address in its place keeps it out of the handshake.
fn server_name(host: &str, check_name: bool) -> Result<ServerName<'static>, PgError> {
    match ServerName::try_from(host.to_owned()) {
        Ok(name) => Ok(name),
        Err(_) if !check_name => Ok(ServerName::from(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED))),
        Err(_) => Err(PgError::invalid(
            "the host in the connection string is not a name that a certificate could be checked \
             against, as sslmode=verify-full asks",
        )),
    }
}

fn read_certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, PgError> {
    let failed = |reason: String| {
        PgError::invalid(format!("could not read {key} {}: {reason}", path.display()))
    };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| failed(pem_problem(error)))?;
    match certificates.is_empty() {
        true => Err(failed("it holds no certificate in PEM form".to_owned())),
        false => Ok(certificates),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, PgError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| {
        PgError::invalid(format!(
            "could not read sslkey {}: {} (it must be an unencrypted PEM file)",
            path.display(),
            pem_problem(error)
        ))
    })
}

fn pem_problem(error: rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error;
    match error {
        Error::Io(error) => error.to_string(),
        Error::NoItemsFound => "nothing of the expected kind is in it".to_owned(),
        // The others may quote the file.
        _ => "it is not a well-formed PEM file".to_owned(),
    }
}

fn system_certificates() -> Result<Vec<CertificateDer<'static>>, PgError> {
    let loaded = rustls_native_certs::load_native_certs();
    if loaded.certs.is_empty() {
        let reason = loaded.errors.first().map(|e| format!(" ({e})")).unwrap_or_default();
        return Err(PgError::invalid(format!(
            "the system has no trusted certificate authorities{reason}: install them \
             (ca-certificates), or set sslrootcert to your authority's certificate"
        )));
    }
    Ok(loaded.certs)
}

fn store(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, PgError> {
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(certificates.iter().cloned());
    match added {
        0 => Err(PgError::invalid("none of the certificates of sslrootcert could be understood")),
        _ => Ok(store),
    }
}

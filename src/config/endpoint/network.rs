//! Where requests may go, through what, and whom they trust.

use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use url::Url;

use super::Result;
use crate::config::error::{ConfigError, Located, Place};
use crate::config::raw::RawTls;
use crate::delivery::{EndpointTls, Networks};

type List = Located<Vec<Located<String>>>;

/// More than the certificates of all public authorities take.
const MAX_PEM_BYTES: u64 = 4 << 20;

pub(super) fn build(private: bool, allow: Option<List>, deny: Option<List>) -> Result<Networks> {
    let places: Vec<Place> =
        allow.iter().flat_map(|list| &list.value).map(|item| item.place.clone()).collect();
    let (allow, deny) = (networks(allow)?, networks(deny)?);
    for (allowed, place) in allow.iter().zip(&places) {
        if let Some(denied) = deny.iter().find(|denied| denied.contains(allowed)) {
            return Err(ConfigError::at(
                place,
                format_args!(
                    "names {allowed}, which `deny_networks` forbids with {denied} and so wins: \
                     remove one of the two"
                ),
            ));
        }
    }
    Ok(Networks { private, allow, deny })
}

fn networks(list: Option<List>) -> Result<Vec<IpNet>> {
    let written = list.map(|list| list.value).unwrap_or_default();
    written.into_iter().map(|item| Ok(item.try_map(|text| network(&text))?.value)).collect()
}

/// The error is a predicate.
fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    // A single address is a network of its own.
    let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    parsed.map(|network| plain(network.trunc())).map_err(|_| {
        format!(
            "names {text:?}, which is no network: write one such as \"10.0.0.0/8\" or \
             \"fd00::/8\", or a single address"
        )
    })
}

/// A network of IPv4 addresses in their IPv6 form (`::ffff:10.0.0.0/104`) as the one that is meant:
/// what connects to them says IPv4.
fn plain(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else { return network };
    let plain = mapped.addr().to_ipv4_mapped().zip(mapped.prefix_len().checked_sub(96));
    plain.and_then(|(addr, length)| Ipv4Net::new(addr, length).ok()).map_or(network, IpNet::V4)
}

/// The error never shows the URL, which may hold a password.
pub(super) fn proxy(raw: Located<String>) -> Result<Url> {
    let parsed = raw.try_map(|text| {
        let example = "write one such as \"http://proxy.example.com:3128\"";
        let url =
            Url::parse(text.trim()).map_err(|error| format!("is no URL ({error}): {example}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("begins with neither http:// nor https://: {example}"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(format!("goes on behind host and port: {example}"));
        }
        Ok(url)
    })?;
    Ok(parsed.value)
}

/// `url` and `proxy` are where the requests of the endpoint go.
pub(super) fn tls(
    raw: RawTls,
    url: &Url,
    proxy: Option<&Url>,
    directory: &Path,
) -> Result<EndpointTls> {
    // Of a proxy that is https, `ca` is the authority, too.
    let serves_proxy = raw.ca.is_some() && proxy.is_some_and(|proxy| proxy.scheme() == "https");
    if url.scheme() != "https" && !serves_proxy {
        let message =
            "has no effect on a `url` that begins with http://: write https://, or remove it";
        return Err(ConfigError::at(&raw.place, message));
    }
    let ca = match raw.ca {
        None => None,
        Some(file) => Some(file.try_map(|file| authorities(&directory.join(file)))?.value),
    };
    let identity = match (raw.client_cert, raw.client_key) {
        (None, None) => None,
        (Some(cert), Some(key)) => {
            let chain = cert.try_map(|file| certificates(&directory.join(file)))?.value;
            let read = |file| {
                let path = directory.join(file);
                let key = private_key(&path)?;
                fits(&chain, &key, &path)?;
                Ok::<_, String>(key)
            };
            let key = key.try_map(read)?.value;
            Some(Arc::new((chain, key)))
        }
        (Some(alone), None) => {
            let message = "stands without `client_key`: name the file with its private key, too";
            return Err(ConfigError::at(&alone.place, message));
        }
        (None, Some(alone)) => {
            let message = "stands without `client_cert`: name the file with its certificate, too";
            return Err(ConfigError::at(&alone.place, message));
        }
    };
    if ca.is_none() && identity.is_none() {
        let message = "says nothing: write ca = \"…\", or client_cert = \"…\" and client_key = \"…\", or remove it";
        return Err(ConfigError::at(&raw.place, message));
    }
    Ok(EndpointTls { ca, identity })
}

fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = certificates(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in &found {
        roots.add(certificate.clone()).map_err(|_| {
            format!("names the file {}, whose certificates cannot be read", path.display())
        })?;
    }
    Ok(found)
}

// What the PEM parser says of a file is not passed on: it may quote it.

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(format!(
            "names the file {}, which holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)",
            path.display()
        )),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        let encrypted = text.windows(9).any(|window| window == b"ENCRYPTED");
        let problem = if encrypted {
            "whose private key is encrypted: write it there without a passphrase"
        } else {
            "which holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)"
        };
        format!("names the file {}, {problem}", path.display())
    })
}

fn fits(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    path: &Path,
) -> Result<(), String> {
    let provider = rustls::crypto::ring::default_provider();
    match CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &provider) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(format!(
            "names the file {}, whose private key does not belong to the first certificate of \
             `client_cert`",
            path.display()
        )),
        Err(_) => Err(format!(
            "names the file {}, whose private key cannot be used with its certificate: use a key of \
             RSA, ECDSA or Ed25519",
            path.display()
        )),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_PEM_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("names the file {shown}, which cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_PEM_BYTES {
        return Err(format!("names the file {shown}, which is too large to hold certificates"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;

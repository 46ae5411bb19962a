//! Whether endpoints can be reached: name, connection and TLS handshake. Nothing is requested, since
//! a receiver could take any request for an event.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::join_all;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use url::Host;

use crate::delivery::{EndpointOptions, is_public, tls_config};
use crate::source::Finding;

/// A finding for every endpoint, and one if there is none.
pub(super) async fn endpoints(endpoints: &[EndpointOptions]) -> Vec<Finding> {
    if endpoints.is_empty() {
        let finding = Finding::warning("endpoints", "there is none, so `run` has nothing to do");
        return vec![finding.fix("add an [[endpoint]] with its url, or --to")];
    }
    join_all(endpoints.iter().map(endpoint)).await
}

async fn endpoint(endpoint: &EndpointOptions) -> Finding {
    let subject = format!("endpoint {}", endpoint.name);
    if endpoint.proxy.is_some() {
        return Finding::note(subject, "goes through its proxy; not tried");
    }
    let attempt = tokio::time::timeout(endpoint.connect_timeout, connect(endpoint)).await;
    match attempt {
        Ok(Ok(reached)) => Finding::ok(subject, reached),
        Ok(Err(problem)) => {
            let (sentence, remedy) = problem.words(endpoint);
            Finding::error(subject, sentence).fix(remedy)
        }
        Err(_) => {
            let limit = endpoint.connect_timeout.as_secs_f32();
            let sentence = format!("{} does not answer within {limit} s", address(endpoint));
            Finding::error(subject, sentence)
                .fix("check the url and the firewalls between, or raise connect_timeout")
        }
    }
}

/// What kept a connection from being made.
enum Problem {
    Unresolved(String),
    Private(SocketAddr),
    Refused(String),
    /// What it answers is nothing of TLS's.
    NoTls,
    Tls(String),
}

impl Problem {
    /// Sentence and remedy.
    fn words(&self, endpoint: &EndpointOptions) -> (String, &'static str) {
        let address = address(endpoint);
        match self {
            Problem::Unresolved(why) => (
                format!("the host of {address} cannot be resolved: {why}"),
                "correct the host in the url, or this machine's name server",
            ),
            Problem::Private(found) => (
                format!(
                    "{address} lies in a private network ({}), which is off limits",
                    found.ip()
                ),
                "allow_private_network = true for this endpoint, if that is meant",
            ),
            Problem::Refused(why) => (
                format!("{address} cannot be reached: {why}"),
                "start the receiver, or correct the url; until then deliveries wait and are retried",
            ),
            Problem::NoTls => (
                format!("{address} takes connections, but does not speak TLS"),
                "write http:// in the url, or let the receiver serve https",
            ),
            Problem::Tls(why) => (
                format!("the TLS handshake with {address} fails: {why}"),
                "give the receiver a certificate for that host from an authority this machine trusts",
            ),
        }
    }
}

/// Host and port: the path may hold a token.
fn address(endpoint: &EndpointOptions) -> String {
    let host = endpoint.url.host_str().unwrap_or("(no host)");
    match endpoint.url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

async fn connect(endpoint: &EndpointOptions) -> Result<String, Problem> {
    let addresses = resolve(endpoint).await?;
    let mut last = String::from("no address");
    let mut connected = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                connected = Some((stream, address));
                break;
            }
            Err(error) => last = error.to_string(),
        }
    }
    let (stream, address) = connected.ok_or(Problem::Refused(last))?;
    if endpoint.url.scheme() != "https" {
        return Ok(format!("{address} takes connections"));
    }
    handshake(endpoint, stream).await?;
    Ok(format!("{address} takes connections, and its certificate is good"))
}

async fn resolve(endpoint: &EndpointOptions) -> Result<Vec<SocketAddr>, Problem> {
    let unresolved = |why: &str| Problem::Unresolved(why.to_owned());
    let port = endpoint.url.port_or_known_default().ok_or_else(|| unresolved("it has no port"))?;
    let found: Vec<SocketAddr> = match endpoint.url.host() {
        None => return Err(unresolved("there is none")),
        Some(Host::Ipv4(ip)) => vec![(ip, port).into()],
        Some(Host::Ipv6(ip)) => vec![(ip, port).into()],
        Some(Host::Domain(name)) => {
            let found = lookup_host((name, port)).await;
            found.map_err(|error| unresolved(&error.to_string()))?.collect()
        }
    };
    let first = *found.first().ok_or_else(|| unresolved("it has no address"))?;
    let mut allowed = found;
    allowed.retain(|address| endpoint.networks.private || is_public(address.ip()));
    if allowed.is_empty() { Err(Problem::Private(first)) } else { Ok(allowed) }
}

async fn handshake(endpoint: &EndpointOptions, stream: TcpStream) -> Result<(), Problem> {
    let failed = |why: String| Problem::Tls(why);
    let config = tls_config().map_err(|error| failed(error.to_string()))?;
    let host = endpoint.url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(error.to_string()))?;
    match TlsConnector::from(Arc::new(config.clone())).connect(name, stream).await {
        Ok(_) => Ok(()),
        Err(error) => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::InvalidMessage(_)) => Err(Problem::NoTls),
            _ => Err(failed(error.to_string())),
        },
    }
}

//! Whether endpoints can be reached: name, connection and TLS handshake. Nothing is requested, since
//! a receiver could take any request for an event.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::join_all;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::delivery::{EndpointOptions, EndpointTls, Refusal, basic_authorization, tls_config};
use crate::source::Finding;

/// The longest answer of a proxy that is read.
const PROXY_ANSWER_BYTES: usize = 4 * 1024;

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
    let attempt = tokio::time::timeout(endpoint.connect_timeout, connect(endpoint)).await;
    match attempt {
        Ok(Ok(reached)) => Finding::ok(subject, reached),
        Ok(Err(problem)) => {
            let (sentence, remedy) = problem.words(endpoint);
            Finding::error(subject, sentence).fix(remedy)
        }
        Err(_) => {
            let limit = endpoint.connect_timeout.as_secs_f32();
            let through = if endpoint.proxy.is_some() { " through its proxy" } else { "" };
            let address = address(&endpoint.url);
            let sentence = format!("{address} does not answer within {limit} s{through}");
            Finding::error(subject, sentence)
                .fix("check the url and the firewalls between, or raise connect_timeout")
        }
    }
}

/// What kept a connection from being made.
enum Problem {
    Unresolved(String),
    Forbidden(Refusal),
    Refused(String),
    /// What it answers is nothing of TLS's.
    NoTls,
    Tls(String),
    /// The proxy could not be reached.
    NoProxy(Box<Problem>),
    /// The proxy does not let the connection through; its answer.
    NoTunnel(String),
}

impl Problem {
    /// Sentence and remedy.
    fn words(&self, endpoint: &EndpointOptions) -> (String, String) {
        self.words_of(&address(&endpoint.url), "url")
    }

    fn words_of(&self, address: &str, key: &str) -> (String, String) {
        match self {
            Problem::Unresolved(why) => (
                format!("the host of {address} cannot be resolved: {why}"),
                format!("correct the host in the {key}, or this machine's name server"),
            ),
            Problem::Forbidden(refusal) => {
                (format!("{address} leads to {refusal}: off limits"), refusal.remedy().to_owned())
            }
            Problem::Refused(why) => (
                format!("{address} cannot be reached: {why}"),
                format!("start it, or correct the {key}; until then deliveries wait and are retried"),
            ),
            Problem::NoTls => (
                format!("{address} takes connections, but does not speak TLS"),
                format!("write http:// in the {key}, or let it serve https"),
            ),
            Problem::Tls(why) => (
                format!("the TLS handshake with {address} fails: {why}"),
                "give it a certificate for that host from an authority this machine trusts, or name \
                 the authority as tls.ca"
                    .to_owned(),
            ),
            Problem::NoProxy(problem) => {
                let (sentence, remedy) = problem.words_of("the proxy", "proxy");
                (format!("{address} goes through a proxy, and {sentence}"), remedy)
            }
            Problem::NoTunnel(answer) => (
                format!("the proxy does not connect to {address}: it answers {answer}"),
                "check user and password in the proxy's URL, and what the proxy allows".to_owned(),
            ),
        }
    }
}

/// Host and port: the path may hold a token.
fn address(url: &Url) -> String {
    let host = url.host_str().unwrap_or("(no host)");
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// A connection, plain or not.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

async fn connect(endpoint: &EndpointOptions) -> Result<String, Problem> {
    let (url, tls) = (&endpoint.url, &endpoint.tls);
    endpoint.networks.check_literal(url).map_err(Problem::Forbidden)?;
    let Some(proxy) = &endpoint.proxy else {
        let found = resolve(url).await?;
        let permitted = endpoint.networks.permitted(found).map_err(Problem::Forbidden)?;
        let (stream, address) = open(permitted).await?;
        if url.scheme() != "https" {
            return Ok(format!("{address} takes connections"));
        }
        handshake(url, tls, stream).await?;
        return Ok(format!("{address} takes connections, and its certificate is good"));
    };
    let stream = to_proxy(proxy, tls).await.map_err(|why| Problem::NoProxy(Box::new(why)))?;
    if url.scheme() != "https" {
        return Ok("its proxy takes connections; what is behind it was not tried".to_owned());
    }
    let tunnel = tunnel(stream, url, proxy).await?;
    handshake(url, tls, tunnel).await?;
    Ok("can be reached through its proxy, and its certificate is good".to_owned())
}

async fn open(addresses: Vec<SocketAddr>) -> Result<(TcpStream, SocketAddr), Problem> {
    let mut last = String::from("no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => last = error.to_string(),
        }
    }
    Err(Problem::Refused(last))
}

async fn to_proxy(proxy: &Url, tls: &EndpointTls) -> Result<Box<dyn Stream>, Problem> {
    let (stream, _) = open(resolve(proxy).await?).await?;
    match proxy.scheme() {
        "https" => Ok(Box::new(handshake(proxy, tls, stream).await?)),
        _ => Ok(Box::new(stream)),
    }
}

/// Has the proxy connect to the endpoint (RFC 9110, 9.3.6): still not a request to it.
async fn tunnel(
    mut stream: Box<dyn Stream>,
    url: &Url,
    proxy: &Url,
) -> Result<Box<dyn Stream>, Problem> {
    let target = address(url);
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(authorization) = basic_authorization(proxy) {
        request.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
    }
    request.push_str("\r\n");
    let broken = |error: std::io::Error| Problem::NoTunnel(format!("nothing: {error}"));
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut answer = Vec::new();
    // Byte by byte, so that nothing of what follows is taken.
    while !answer.ends_with(b"\r\n\r\n") && answer.len() < PROXY_ANSWER_BYTES {
        answer.push(stream.read_u8().await.map_err(broken)?);
    }
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let status = line.split(' ').nth(1).unwrap_or_default();
    if line.starts_with("HTTP/1.") && status.len() == 3 && status.starts_with('2') {
        return Ok(stream);
    }
    let shown: String = line.chars().filter(|c| !c.is_control()).take(80).collect();
    Err(Problem::NoTunnel(format!("{shown:?}")))
}

async fn resolve(url: &Url) -> Result<Vec<SocketAddr>, Problem> {
    let unresolved = |why: &str| Problem::Unresolved(why.to_owned());
    let port = url.port_or_known_default().ok_or_else(|| unresolved("it has no port"))?;
    let found: Vec<SocketAddr> = match url.host() {
        None => return Err(unresolved("there is none")),
        Some(Host::Ipv4(ip)) => vec![(ip, port).into()],
        Some(Host::Ipv6(ip)) => vec![(ip, port).into()],
        Some(Host::Domain(name)) => {
            let found = lookup_host((name, port)).await;
            found.map_err(|error| unresolved(&error.to_string()))?.collect()
        }
    };
    if found.is_empty() { Err(unresolved("it has no address")) } else { Ok(found) }
}

async fn handshake<S: Stream>(
    url: &Url,
    tls: &EndpointTls,
    stream: S,
) -> Result<tokio_rustls::client::TlsStream<S>, Problem> {
    let failed = |why: String| Problem::Tls(why);
    let config = tls_config(tls).map_err(|error| failed(error.to_string()))?;
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(error.to_string()))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected.map_err(|error| match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidMessage(_)) => Problem::NoTls,
        _ => failed(error.to_string()),
    })
}

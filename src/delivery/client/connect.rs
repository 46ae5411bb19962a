//! New connections: from a name to a stream.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::{Host, Url};

use super::super::error::DeliveryError;
use super::super::guard::Resolver;
use super::Trouble;
use super::socket::{Look, Socket};

/// How long an address may take before the next one is tried beside it (RFC 8305, 5).
const HEAD_START: Duration = Duration::from_millis(250);
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);
const TCP_KEEPALIVE_RETRIES: u32 = 3;
/// How long what was sent may stay unacknowledged until the connection counts as dead.
#[cfg(target_os = "linux")]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects to the host of one URL.
pub(super) struct Connector {
    host: Host<String>,
    port: u16,
    resolver: Resolver,
    /// Of an https URL, and the name to be proven; none where no certificate could have it.
    tls: Option<(TlsConnector, Option<ServerName<'static>>)>,
}

/// A connection's bytes.
pub(super) enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl Stream {
    /// That of the socket.
    pub(super) fn look(&self) -> Look {
        match self {
            Stream::Plain(socket) => socket.look(),
            Stream::Tls(stream) => stream.get_ref().0.look(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl Connector {
    pub(super) fn new(
        url: &Url,
        resolver: Resolver,
        tls: ClientConfig,
    ) -> Result<Connector, DeliveryError> {
        let host = url.host().ok_or_else(|| DeliveryError::url("names no host"))?.to_owned();
        let port = url.port_or_known_default().unwrap_or(80);
        let tls = (url.scheme() == "https").then(|| {
            let name = match &host {
                Host::Domain(name) => ServerName::try_from(name.clone()).ok(),
                Host::Ipv4(address) => Some(ServerName::from(IpAddr::V4(*address))),
                Host::Ipv6(address) => Some(ServerName::from(IpAddr::V6(*address))),
            };
            (TlsConnector::from(Arc::new(tls)), name)
        });
        Ok(Connector { host, port, resolver, tls })
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Resolves the name anew, and connects to what it may lead to.
    pub(super) async fn connect(&self) -> Result<Stream, Trouble> {
        let mut addresses = match &self.host {
            Host::Domain(name) => {
                self.resolver.addresses(name).await.map_err(Trouble::Unresolved)?
            }
            Host::Ipv4(address) => self.literal(IpAddr::V4(*address))?,
            Host::Ipv6(address) => self.literal(IpAddr::V6(*address))?,
        };
        for address in &mut addresses {
            address.set_port(self.port);
        }
        let stream = first_of(alternating(addresses)).await.map_err(Trouble::Connect)?;
        set_options(&stream).map_err(Trouble::Connect)?;
        let stream = Socket::new(stream);
        let Some((connector, name)) = &self.tls else { return Ok(Stream::Plain(stream)) };
        let Some(name) = name.clone() else {
            let what = "no certificate can be for a host with the name that `url` has";
            return Err(Trouble::Connect(io::Error::other(what)));
        };
        let stream = connector.connect(name, stream).await.map_err(Trouble::Connect)?;
        Ok(Stream::Tls(Box::new(stream)))
    }

    fn literal(&self, address: IpAddr) -> Result<Vec<SocketAddr>, Trouble> {
        self.resolver.permitted(vec![SocketAddr::new(address, 0)]).map_err(Trouble::Unresolved)
    }
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(TCP_KEEPALIVE)
        .with_interval(TCP_KEEPALIVE)
        .with_retries(TCP_KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
    Ok(())
}

/// The two families in turns, each in the resolver's order, its favourite first (RFC 8305, 4).
fn alternating(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (favourite, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first_is_v4);
    let mut ordered = Vec::with_capacity(favourite.len() + other.len());
    let (mut favourite, mut other) = (favourite.into_iter(), other.into_iter());
    loop {
        let pair = [favourite.next(), other.next()];
        if pair == [None, None] {
            return ordered;
        }
        ordered.extend(pair.into_iter().flatten());
    }
}

/// The first connection that comes about. Each address is tried once the one before failed, or has
/// had its head start.
async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut trying = FuturesUnordered::new();
    let mut failed = None;
    loop {
        trying.extend(waiting.next().map(TcpStream::connect));
        tokio::select! {
            tried = trying.next() => match tried {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => {
                    // What the favourite says.
                    failed.get_or_insert(error);
                }
                None => {
                    return Err(failed.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()));
                }
            },
            () = sleep(HEAD_START), if waiting.len() > 0 => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::{Instant, timeout};

    use super::*;

    #[test]
    fn families_take_turns() {
        let list = |text: &str| -> Vec<SocketAddr> {
            text.split_whitespace().map(|ip| SocketAddr::new(ip.parse().unwrap(), 1)).collect()
        };
        for (found, ordered) in [
            ("", ""),
            ("::1 ::2 10.0.0.1 10.0.0.2 ::3", "::1 10.0.0.1 ::2 10.0.0.2 ::3"),
            ("10.0.0.1 10.0.0.2 ::1", "10.0.0.1 ::1 10.0.0.2"),
            ("10.0.0.2 10.0.0.1", "10.0.0.2 10.0.0.1"),
        ] {
            assert_eq!(alternating(list(found)), list(ordered));
        }
    }

    #[tokio::test]
    async fn addresses_that_fail_or_hang_only_cost_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let alive = listener.local_addr().unwrap();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // Its queue of one is full, so that nobody else gets through.
        let full =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        full.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        full.listen(0).unwrap();
        let hanging = full.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        while let Ok(Ok(stream)) =
            timeout(Duration::from_millis(200), TcpStream::connect(hanging)).await
        {
            queued.push(stream);
        }
        let started = Instant::now();
        let stream = first_of(vec![closed, hanging, alive]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), alive);
        assert!(started.elapsed() >= HEAD_START, "the hanging one had its head start");
        let error = first_of(vec![closed, closed]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(first_of(Vec::new()).await.is_err());
    }
}

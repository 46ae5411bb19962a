//! The HTTP client of an endpoint.
//!
//! Requests that go straight to their receiver are the hot path, so they are built on hyper's
//! connections: `connect` opens them, `socket` is what they read from and write to, `http1` speaks on
//! them (`relay` lets hyper read the answers), `pool` keeps them, `direct` puts it together. What goes through a proxy is left to reqwest (`proxied`).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::{Method, StatusCode, Version};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::endpoint::{EndpointTls, Networks};
use super::error::DeliveryError;
use super::guard::{Lookup, Unresolved};

mod connect;
mod direct;
mod http1;
mod pool;
mod proxied;
mod relay;
mod socket;
mod tls;

pub use tls::install_crypto_provider;
pub(crate) use tls::tls_config;

use direct::Direct;
use http1::Http1;
use pool::{Lease, Pool};
use proxied::Proxied;

/// An HTTP/2 connection carries all requests of an endpoint, so one that died unnoticed would fail
/// them all: while requests are open the server is asked for a sign of life that often.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of an answer an HTTP/2 server may send unasked. Answers are not read beyond a few KiB,
/// so all that a larger window would bring is memory.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// How much of an answer is read that nobody wants, so that its connection can be used again. What
/// is read at once grows with what comes, and a connection keeps the memory for it.
const DRAINED_BYTES: usize = 16 * 1024;

/// What an endpoint's client is made of.
#[derive(Clone)]
pub(super) struct ClientOptions {
    /// Where requests go, without user and password.
    pub(super) url: Url,
    /// Connections kept open.
    pub(super) concurrency: usize,
    /// For the name, the TCP connection and the TLS handshake together.
    pub(super) connect_timeout: Duration,
    /// Which addresses host names may lead to.
    pub(super) networks: Networks,
    /// The proxy to go through; never one that the environment names.
    pub(super) proxy: Option<Url>,
    /// Whom to trust, and how to prove oneself.
    pub(super) tls: EndpointTls,
}

/// A client that follows no redirect, tries nothing again, decompresses nothing, and hands answers
/// over as they come.
///
/// It speaks HTTP/2 to servers that offer it over TLS, and HTTP/1.1 to all others. Each new
/// connection resolves the host's name anew.
pub(super) enum Client {
    Direct(Box<Direct>),
    Proxied(Proxied),
}

/// A request.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    /// Where it is not the endpoint's own: another path or query on the same host.
    pub(super) url: Option<Url>,
    pub(super) headers: HeaderMap,
    /// None where the method has none.
    pub(super) body: Option<Bytes>,
}

impl Client {
    pub(super) fn new(options: ClientOptions, lookup: Lookup) -> Result<Client, DeliveryError> {
        install_crypto_provider();
        Ok(match &options.proxy {
            Some(proxy) => Client::Proxied(Proxied::new(&options, proxy, lookup)?),
            None => Client::Direct(Box::new(Direct::new(options, lookup)?)),
        })
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &self,
        request: Outgoing,
        deadline: Instant,
    ) -> Result<Answer, Trouble> {
        match self {
            Client::Direct(direct) => direct.send(request, deadline).await,
            // What happens seldom must not make the future of every request larger.
            Client::Proxied(proxied) => Box::pin(proxied.send(request, deadline)).await,
        }
    }
}

/// Why no answer came.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The deadline is over.
    Late,
    /// There is no address.
    Unresolved(Unresolved),
    /// Connecting took too long.
    ConnectLate,
    /// No connection, or no TLS on it.
    Connect(io::Error),
    /// What a request can only be made of.
    Request(String),
    Http(hyper::Error),
    /// Through a proxy.
    Proxied(reqwest::Error),
}

/// An answer: its head, and a body that may still be on its way.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    body: Content,
}

/// What is left of a body, and what it comes on.
enum Content {
    Empty,
    /// The connection can be used again once the body is read to its end, and is closed else.
    Http1(Incoming, Http1, Arc<Pool>),
    Http2(Incoming, #[expect(dead_code, reason = "held for its drop")] Lease),
    Proxied(reqwest::Body),
}

/// What comes of a body next.
#[derive(Debug)]
pub(super) enum Chunk {
    Data(Bytes),
    /// Nothing more: that was all.
    End,
    /// Nothing more, though there should be.
    Broken,
    /// Nothing in time.
    Late,
}

impl Chunk {
    /// `None` for frames that are not of interest.
    fn from_frame<E>(frame: Option<Result<Frame<Bytes>, E>>) -> Option<Chunk> {
        match frame {
            Some(Ok(frame)) => frame.into_data().ok().map(Chunk::Data),
            Some(Err(_)) => Some(Chunk::Broken),
            None => Some(Chunk::End),
        }
    }
}

impl Answer {
    fn new<B>(answer: hyper::Response<B>, content: impl FnOnce(B) -> Content) -> Answer {
        let (head, body) = answer.into_parts();
        let (status, version, headers) = (head.status, head.version, head.headers);
        Answer { status, version, headers, body: content(body) }
    }

    /// Whether it is known that nothing will come.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.body, Content::Empty)
    }

    /// Reads what is left of the body, unless that is long, or takes longer, where this makes the
    /// connection usable again.
    pub(super) async fn drain(&mut self, until: Instant) {
        let mut left = match &self.body {
            Content::Http1(body, ..) if body.size_hint().lower() <= DRAINED_BYTES as u64 => {
                DRAINED_BYTES
            }
            _ => return,
        };
        while let Chunk::Data(chunk) = self.chunk(until).await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }

    /// The next piece of the body, as far as it comes until then.
    pub(super) async fn chunk(&mut self, until: Instant) -> Chunk {
        let chunk = match &mut self.body {
            Content::Empty => return Chunk::End,
            Content::Http1(body, connection, _) => connection.chunk(body, until).await,
            Content::Http2(body, _) => next(body, until).await,
            Content::Proxied(body) => next(body, until).await,
        };
        if matches!(chunk, Chunk::End | Chunk::Broken) {
            let over = std::mem::replace(&mut self.body, Content::Empty);
            if let (Chunk::End, Content::Http1(_, connection, pool)) = (&chunk, over)
                && let Some(connection) = connection.freed()
            {
                pool.put(connection);
            }
        }
        chunk
    }
}

async fn next<B: Body<Data = Bytes> + Unpin>(body: &mut B, until: Instant) -> Chunk {
    loop {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
        match timeout_at(until, frame).await {
            Ok(frame) => {
                if let Some(chunk) = Chunk::from_frame(frame) {
                    return chunk;
                }
            }
            Err(_) => return Chunk::Late,
        }
    }
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

//! Requests straight to their receiver.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Body as _;
use hyper::client::conn::http2;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery, Scheme, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use url::{Position, Url};

use super::super::error::DeliveryError;
use super::super::guard::{Lookup, Resolver};
use super::connect::{Connector, Stream};
use super::http1::{Exchange, Http1};
use super::pool::{Connection, Lease, Pool};
use super::{
    Answer, CONNECTION_WINDOW, ClientOptions, Content, Outgoing, PING_INTERVAL, PING_TIMEOUT,
    STREAM_WINDOW, Trouble, tls_config,
};

/// A client of one host.
pub(in crate::delivery) struct Direct {
    connector: Connector,
    connect_timeout: Duration,
    pool: Arc<Pool>,
    /// Whether the last connection was one of HTTP/1.1.
    speaks_http1: AtomicBool,
    /// Held while connecting to what may speak HTTP/2, where one connection is enough for all.
    turn: Mutex<()>,
    scheme: Scheme,
    authority: Authority,
    /// The authority once more, as the header.
    host: HeaderValue,
    /// Path and query of the endpoint's URL, as they stand in a request of HTTP/1.1.
    target: Uri,
}

impl Direct {
    pub(super) fn new(options: ClientOptions, lookup: Lookup) -> Result<Direct, DeliveryError> {
        let ClientOptions { url, concurrency, connect_timeout, networks, tls, .. } = options;
        let unfit = |_| DeliveryError::url("holds something that no HTTP request can carry");
        let authority = &url[Position::BeforeHost..Position::AfterPort];
        let scheme = if url.scheme() == "https" { Scheme::HTTPS } else { Scheme::HTTP };
        Ok(Direct {
            connect_timeout,
            pool: Pool::new(concurrency.max(1)),
            speaks_http1: AtomicBool::new(false),
            turn: Mutex::default(),
            scheme,
            authority: authority.parse().map_err(unfit)?,
            host: HeaderValue::from_str(authority)
                .map_err(|_| DeliveryError::url("has a host that no HTTP request can name"))?,
            target: target(&url).map_err(unfit)?.into(),
            connector: Connector::new(
                &url,
                Resolver::guarded(networks, lookup),
                tls_config(&tls)?,
            )?,
        })
    }

    pub(super) async fn send(
        &self,
        outgoing: Outgoing,
        deadline: Instant,
    ) -> Result<Answer, Trouble> {
        let mut request = self.request(outgoing)?;
        loop {
            let (connection, is_new) = match self.pool.take() {
                Some(connection) => (connection, false),
                None => self.connect(deadline).await?,
            };
            match self.exchange(connection, request, deadline).await? {
                Exchanged::Answered(answer) => return Ok(answer),
                Exchanged::Unsent(_, Some(error)) if is_new => return Err(Trouble::Http(error)),
                // The server closed it while it was idle: the next one is as good.
                Exchanged::Unsent(again, _) => request = again,
            }
        }
    }

    fn request(&self, outgoing: Outgoing) -> Result<Request<Full<Bytes>>, Trouble> {
        let Outgoing { method, url, headers, body } = outgoing;
        let target = match url {
            None => self.target.clone(),
            Some(url) => target(&url)
                .map_err(|error| {
                    Trouble::Request(format!("its URL is none that HTTP can carry: {error}"))
                })?
                .into(),
        };
        let empty = body.as_ref().is_some_and(Bytes::is_empty);
        let mut request = Request::new(Full::new(body.unwrap_or_default()));
        *request.method_mut() = method;
        *request.uri_mut() = target;
        *request.headers_mut() = headers;
        if empty {
            // Of others, hyper says it.
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(0));
        }
        Ok(request)
    }

    async fn exchange(
        &self,
        connection: Connection,
        request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Result<Exchanged, Trouble> {
        match connection {
            Connection::Http1(connection) => self.over_http1(connection, request, deadline).await,
            Connection::Http2(sender, lease) => {
                Box::pin(self.over_http2(sender, lease, request, deadline)).await
            }
        }
    }

    async fn over_http1(
        &self,
        mut connection: Http1,
        mut request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Result<Exchanged, Trouble> {
        // It came back from a connection of HTTP/2.
        if request.uri().authority().is_some() {
            let target = request.uri().path_and_query().cloned();
            *request.uri_mut() = target.map(Uri::from).unwrap_or_default();
        }
        request.headers_mut().entry(HOST).or_insert_with(|| self.host.clone());
        let answer = match connection.send(request, deadline).await {
            Exchange::Answered(answer) => answer,
            Exchange::Unsent(request) => return Ok(Exchanged::Unsent(request, None)),
            Exchange::Failed(trouble) => return Err(trouble),
        };
        let answer = Answer::new(answer, |body| {
            if !body.is_end_stream() {
                return Content::Http1(body, connection, Arc::clone(&self.pool));
            }
            if let Some(connection) = connection.freed() {
                self.pool.put(connection);
            }
            Content::Empty
        });
        Ok(Exchanged::Answered(answer))
    }

    async fn over_http2(
        &self,
        mut sender: http2::SendRequest<Full<Bytes>>,
        lease: Lease,
        mut request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Result<Exchanged, Trouble> {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        *request.uri_mut() = Uri::from_parts(parts)
            .map_err(|error| Trouble::Request(format!("its URL cannot be made: {error}")))?;
        // `:authority` says it already.
        if request.headers().get(HOST) == Some(&self.host) {
            request.headers_mut().remove(HOST);
        }
        match timeout_at(deadline, sender.try_send_request(request)).await {
            Ok(Ok(answer)) => Ok(Exchanged::Answered(Answer::new(answer, |body| {
                if body.is_end_stream() { Content::Empty } else { Content::Http2(body, lease) }
            }))),
            Ok(Err(mut error)) => match error.take_message() {
                Some(request) => {
                    lease.discard();
                    Ok(Exchanged::Unsent(request, Some(error.into_error())))
                }
                None => Err(Trouble::Http(error.into_error())),
            },
            Err(_) => Err(Trouble::Late),
        }
    }

    /// A connection, and whether it is new.
    async fn connect(&self, deadline: Instant) -> Result<(Connection, bool), Trouble> {
        let connected_by = Instant::now() + self.connect_timeout;
        match timeout_at(deadline.min(connected_by), Box::pin(self.connecting())).await {
            Ok(connection) => connection,
            Err(_) if deadline < connected_by => Err(Trouble::Late),
            Err(_) => Err(Trouble::ConnectLate),
        }
    }

    async fn connecting(&self) -> Result<(Connection, bool), Trouble> {
        let may_share = || self.connector.is_tls() && !self.speaks_http1.load(Ordering::Relaxed);
        let mut turn = None;
        if may_share() {
            turn = Some(self.turn.lock().await);
            if let Some(connection) = self.pool.shared() {
                return Ok((connection, false));
            }
        }
        // Whoever was first found out that each needs a connection of its own.
        if !may_share() {
            turn = None;
        }
        let connection = match self.connector.connect().await? {
            stream @ Stream::Plain(_) => Connection::Http1(Http1::new(stream)),
            Stream::Tls(stream) => {
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                self.speaks_http1.store(!http2, Ordering::Relaxed);
                if http2 {
                    self.pool.share(start_http2(*stream).await?)
                } else {
                    Connection::Http1(Http1::new(Stream::Tls(stream)))
                }
            }
        };
        drop(turn);
        Ok((connection, true))
    }
}

/// What became of a request that did not fail.
enum Exchanged {
    Answered(Answer),
    /// None of it was sent.
    Unsent(Request<Full<Bytes>>, Option<hyper::Error>),
}

/// Path and query of a URL.
fn target(url: &Url) -> Result<PathAndQuery, hyper::http::uri::InvalidUri> {
    url[Position::BeforePath..Position::AfterQuery].parse()
}

async fn start_http2<S>(stream: S) -> Result<http2::SendRequest<Full<Bytes>>, Trouble>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(Trouble::Http)?;
    // All requests share it, so it needs somebody of its own. It ends once nobody can send any more.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %error, "an HTTP/2 connection ended");
        }
    });
    Ok(sender)
}

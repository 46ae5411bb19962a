//! A local receiver of webhooks: it verifies what arrives, answers as it is told, and shows it.
//! `walhook listen` and `walhook demo` use it. It knows neither the database nor the journal.

mod answers;
mod check;
mod forward;
pub mod pretty;
mod tally;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use url::Url;

use crate::delivery::signature::WEBHOOK_ID;

pub use answers::Answers;
pub use check::{Checks, SignatureChecker, Verdict};
use forward::Forwarder;
pub use tally::Tally;

/// How many connections are served at once; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;
/// How long a client may take to send a request's head, and then its body.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests may take to end once the receiver is told to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What a receiver does.
#[derive(Debug)]
pub struct ReceiverOptions {
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Verifies signatures.
    pub checker: SignatureChecker,
    /// The largest body that is accepted, in bytes; a larger one is answered with 413.
    pub max_body_bytes: usize,
    /// What verified requests are answered with.
    pub answers: Answers,
    /// Where verified requests are passed on to. The answer from there is the answer given.
    pub forward_to: Option<Url>,
}

/// A request that arrived, and what was answered.
#[derive(Clone)]
pub struct Received {
    /// When all of it was here.
    pub at: SystemTime,
    /// Its method.
    pub method: Method,
    /// Its path, with the query if there was one.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, byte for byte; empty if it was too large.
    pub body: Bytes,
    /// What became of its signature.
    pub verdict: Verdict,
    /// What it was answered with.
    pub status: StatusCode,
    /// Why that is, when it was not simply the chosen answer.
    pub note: Option<String>,
}

impl Received {
    /// The event's id, which is the same on every attempt.
    pub fn id(&self) -> Option<&str> {
        self.header("webhook-id")
    }

    /// Which attempt the sender says this is, counted from 1.
    pub fn attempt(&self) -> Option<u32> {
        self.header("webhook-attempt")?.parse().ok()
    }

    /// A header's value, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("id", &self.id())
            .field("body_bytes", &self.body.len())
            .field("verdict", &self.verdict)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// Listens on its address from the moment it is bound.
#[derive(Debug)]
pub struct Receiver {
    listener: TcpListener,
    address: SocketAddr,
    service: Arc<Service>,
}

impl Receiver {
    /// Takes the address.
    pub async fn bind(options: ReceiverOptions) -> Result<Receiver, ReceiverError> {
        let refused = |error: io::Error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => "; choose another port, or 0 for any free one",
                io::ErrorKind::PermissionDenied => "; choose a port above 1023",
                io::ErrorKind::AddrNotAvailable => "; choose an address of this machine",
                _ => "",
            };
            ReceiverError(format!("cannot listen on {}: {error}{hint}", options.bind))
        };
        let listener = TcpListener::bind(options.bind).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let forwarder = options.forward_to.map(Forwarder::new).transpose()?;
        let service = Service {
            checker: options.checker,
            answers: options.answers,
            max_body_bytes: options.max_body_bytes,
            forwarder,
        };
        Ok(Receiver { listener, address, service: Arc::new(service) })
    }

    /// Where it listens, with the port that was really taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` completes, then lets requests in flight end. `show` is called for each
    /// request before it is answered, so what one sender sends one after another is shown in that
    /// order.
    pub async fn run(
        self,
        stop: impl Future<Output = ()>,
        show: impl Fn(&Received) + Send + Sync + 'static,
    ) {
        let show = Arc::new(show);
        let (stopping, stopped) = watch::channel(());
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let accept = async {
                // The semaphore is never closed, so there always is a permit in the end.
                let permit = Arc::clone(&permits).acquire_owned().await.ok();
                (permit, self.listener.accept().await)
            };
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                (permit, accepted) = accept => match accepted {
                    Ok((stream, _)) => {
                        let service = Arc::clone(&self.service);
                        let show = Arc::clone(&show);
                        let stopped = stopped.clone();
                        connections.spawn(async move {
                            serve(stream, service, show, stopped).await;
                            drop(permit);
                        });
                    }
                    // A client that is gone already, or no file descriptor left: the next one
                    // may do better, a little later.
                    Err(error) => {
                        tracing::debug!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                },
            }
        }
        drop(self.listener);
        drop(stopping);
        let drained = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(STOP_TIMEOUT, drained).await;
    }
}

async fn serve<F: Fn(&Received) + Send + Sync + 'static>(
    stream: TcpStream,
    service: Arc<Service>,
    show: Arc<F>,
    mut stopped: watch::Receiver<()>,
) {
    // Answers are small: waiting to fill a packet would only add to the latency.
    let _ = stream.set_nodelay(true);
    let handler = service_fn(move |request| {
        let (service, show) = (Arc::clone(&service), Arc::clone(&show));
        async move { Ok::<_, std::convert::Infallible>(service.handle(request, &*show).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_TIMEOUT)
        .serve_connection(TokioIo::new(stream), handler);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// What every connection shares.
#[derive(Debug)]
struct Service {
    checker: SignatureChecker,
    answers: Answers,
    max_body_bytes: usize,
    forwarder: Option<Forwarder>,
}

impl Service {
    async fn handle(
        &self,
        request: Request<Incoming>,
        show: &(impl Fn(&Received) + Send + Sync),
    ) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let is_event = head.headers.contains_key(WEBHOOK_ID);
        if matches!(head.method, Method::GET | Method::HEAD) && !is_event {
            // A browser or a health check.
            return answer(StatusCode::OK, "walhook listens here: send it events\n");
        }
        let mut received = Received {
            at: SystemTime::now(),
            method: head.method,
            path: head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            headers: head.headers,
            body: Bytes::new(),
            verdict: Verdict::NotChecked,
            status: StatusCode::OK,
            note: None,
        };
        match read(body, self.max_body_bytes).await {
            Ok(body) => {
                received.at = SystemTime::now();
                received.body = body;
                self.decide(&mut received).await;
            }
            Err((status, why)) => {
                received.status = status;
                received.note = Some(why);
            }
        }
        show(&received);
        let said = received.note.map(|note| format!("{note}\n")).unwrap_or_default();
        answer(received.status, said)
    }

    async fn decide(&self, received: &mut Received) {
        received.verdict = self.checker.check(&received.headers, &received.body, received.at);
        if let Verdict::Wrong(why) = &received.verdict {
            received.status = StatusCode::UNAUTHORIZED;
            received.note = Some(why.clone());
            return;
        }
        received.status = self.answers.next();
        if let Some(forwarder) = &self.forwarder {
            match forwarder.forward(received).await {
                Ok(status) => received.status = status,
                Err(why) => {
                    received.status = StatusCode::BAD_GATEWAY;
                    received.note = Some(why);
                }
            }
        }
    }
}

async fn read(body: Incoming, max_bytes: usize) -> Result<Bytes, (StatusCode, String)> {
    let too_large =
        || (StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {max_bytes} bytes"));
    // What announces itself as too large is not read at all.
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(too_large());
    }
    let collected = tokio::time::timeout(READ_TIMEOUT, Limited::new(body, max_bytes).collect());
    match collected.await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => {
            Err((StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}")))
        }
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time".into())),
    }
}

fn answer(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// A receiver that could not start: one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverError(String);

impl fmt::Display for ReceiverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ReceiverError {}

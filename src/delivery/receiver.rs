//! A small scriptable HTTP receiver for the tests of this room.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use url::Url;

/// What came in.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: Method,
    pub(crate) version: Version,
    /// As the request's first line has it.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

type Script = dyn Fn(&Received) -> Response<Full<Bytes>> + Send + Sync;

/// Answers as its script says, and remembers every request.
pub(crate) struct Receiver {
    url: Url,
    connections: Arc<AtomicUsize>,
    received: Arc<Mutex<Vec<Received>>>,
    /// While it is false, requests are noted but not answered.
    gate: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn answer(status: u16) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::default()).unwrap()
}

/// What every connection of a receiver shares.
#[derive(Clone)]
struct Shared {
    log: Arc<Mutex<Vec<Received>>>,
    script: Arc<Script>,
    opened: watch::Receiver<bool>,
}

impl Receiver {
    pub(crate) async fn start(
        script: impl Fn(&Received) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Receiver {
        Receiver::start_at("127.0.0.1", None, script).await
    }

    /// Under `https://localhost`. HTTP/2 where `tls` offers it.
    pub(crate) async fn start_tls(
        tls: rustls::ServerConfig,
        script: impl Fn(&Received) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Receiver {
        Receiver::start_at("127.0.0.1", Some(tls), script).await
    }

    pub(crate) async fn start_at(
        ip: &str,
        tls: Option<rustls::ServerConfig>,
        script: impl Fn(&Received) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Receiver {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = match tls {
            Some(_) => format!("https://localhost:{port}/hooks"),
            None => format!("http://{ip}:{port}/hooks"),
        };
        let (gate, opened) = watch::channel(true);
        let received = Arc::new(Mutex::new(Vec::new()));
        let shared = Shared { log: Arc::clone(&received), script: Arc::new(script), opened };
        let acceptor = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
        let connections = Arc::new(AtomicUsize::new(0));
        let accepted = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                connections.spawn(accept(stream, acceptor.clone(), shared.clone()));
            }
        });
        Receiver { url: url.parse().unwrap(), connections, received, gate, task }
    }

    /// Holds all answers back, or lets them go.
    pub(crate) fn open(&self, open: bool) {
        self.gate.send_replace(open);
    }

    pub(crate) fn url(&self) -> Url {
        self.url.clone()
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.received.lock().unwrap().len()
    }

    /// How many connections were made so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn accept(stream: TcpStream, acceptor: Option<TlsAcceptor>, shared: Shared) {
    let Some(acceptor) = acceptor else {
        return serve(stream, false, shared).await;
    };
    // A client that does not like the certificate goes.
    if let Ok(stream) = acceptor.accept(stream).await {
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        serve(stream, h2, shared).await;
    }
}

async fn serve<S>(stream: S, h2: bool, shared: Shared)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let Shared { log, script, mut opened } = shared.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let received = Received {
                method: parts.method,
                version: parts.version,
                target: parts.uri.to_string(),
                headers: parts.headers,
                body,
            };
            let answer = script(&received);
            log.lock().unwrap().push(received);
            let _ = opened.wait_for(|open| *open).await;
            Ok::<_, Infallible>(answer)
        }
    });
    let io = TokioIo::new(stream);
    if h2 {
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = connection.serve_connection(io, service).await;
    } else {
        let connection = hyper::server::conn::http1::Builder::new();
        let _ = connection.serve_connection(io, service).await;
    }
}

/// What a raw receiver does with each connection once it has read a request's head.
#[derive(Clone, Copy)]
pub(crate) enum Raw {
    /// Writes these bytes and closes.
    Write(&'static [u8]),
    /// Writes the first, then the second over and over, as fast as it is taken.
    Flood(&'static [u8], &'static [u8]),
    /// Writes the first, then a byte now and then.
    Drip(&'static [u8]),
    /// Closes with a reset.
    Reset,
    /// Says nothing.
    Silence,
}

/// A receiver that need not speak HTTP.
pub(crate) async fn raw_receiver(raw: Raw) -> (Url, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(misbehave(stream, raw));
        }
    });
    (url, task)
}

async fn misbehave(mut stream: TcpStream, raw: Raw) -> std::io::Result<()> {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request).await?;
    match raw {
        Raw::Write(bytes) => stream.write_all(bytes).await,
        Raw::Flood(first, again) => {
            stream.write_all(first).await?;
            loop {
                stream.write_all(again).await?;
            }
        }
        Raw::Drip(first) => {
            stream.write_all(first).await?;
            loop {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                stream.write_all(b"x").await?;
            }
        }
        Raw::Reset => socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)),
        Raw::Silence => std::future::pending().await,
    }
}

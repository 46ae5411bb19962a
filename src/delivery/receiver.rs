//! A small scriptable HTTP receiver for the tests of this room.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

/// What came in.
#[derive(Clone, Debug)]
pub(crate) struct Received {
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
    address: SocketAddr,
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

impl Receiver {
    pub(crate) async fn start(
        script: impl Fn(&Received) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(script);
        let log = Arc::clone(&received);
        let (gate, opened) = watch::channel(true);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(
                    stream,
                    Arc::clone(&log),
                    Arc::clone(&script),
                    opened.clone(),
                ));
            }
        });
        Receiver { address, received, gate, task }
    }

    /// Holds all answers back, or lets them go.
    pub(crate) fn open(&self, open: bool) {
        self.gate.send_replace(open);
    }

    pub(crate) fn url(&self) -> Url {
        format!("http://{}/hooks", self.address).parse().unwrap()
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.received.lock().unwrap().len()
    }
}

async fn serve(
    stream: TcpStream,
    log: Arc<Mutex<Vec<Received>>>,
    script: Arc<Script>,
    opened: watch::Receiver<bool>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (log, script) = (Arc::clone(&log), Arc::clone(&script));
        let mut opened = opened.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let received = Received { headers: parts.headers, body };
            let answer = script(&received);
            log.lock().unwrap().push(received);
            let _ = opened.wait_for(|open| *open).await;
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new();
    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
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

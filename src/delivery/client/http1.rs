//! A connection that speaks HTTP/1.1: one request at a time.
//!
//! Most of its life it waits for an answer, or for the next request. A connection of hyper's holds
//! some 25 KB all the while, and there may be thousands. So requests are written here, and hyper
//! comes in with the first bytes of the answer, to read it: see [`Relay`].

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::header::{CONTENT_LENGTH, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep_until};

use super::connect::Stream;
use super::relay::{Relay, Unsent};
use super::socket::Look;
use super::{Chunk, Trouble};

/// Status line and headers of an answer, at most. What is longer is no answer.
const LONGEST_HEAD_BYTES: usize = 64 * 1024;
/// How much of an answer is read before hyper comes in: most are shorter.
const FIRST_BYTES: usize = 2 * 1024;
/// Of a request's head, about.
const HEAD_BYTES: usize = 768;

/// An open connection.
///
/// Its work is done by whoever waits for the answer, and by nobody while it is idle: a task of its
/// own would have to be woken for every packet, and then wake the other. So what the server does in
/// between is noticed when the connection is used again, before anything is sent.
pub(super) struct Http1 {
    /// None while an answer is read, and once the connection is over.
    stream: Option<Stream>,
    /// Reads the answer.
    reader: Option<Box<Reader>>,
    look: Look,
    /// Whether there was a request already.
    used: bool,
    /// One timer for all requests: moving it further away costs nothing, a new one has to be
    /// registered.
    alarm: Pin<Box<Sleep>>,
}

struct Reader {
    sender: SendRequest<Empty<Bytes>>,
    driver: Driver,
}

/// None once the connection is over.
type Driver = Option<Connection<TokioIo<Relay>, Empty<Bytes>>>;

/// What became of a request.
pub(super) enum Exchange {
    Answered(Response<Incoming>),
    /// None of it was sent: the connection, which is not new, is over.
    Unsent(Request<Full<Bytes>>),
    Failed(Trouble),
}

impl Http1 {
    pub(super) fn new(stream: Stream) -> Http1 {
        let look = stream.look();
        let alarm = Box::pin(sleep_until(Instant::now()));
        Http1 { stream: Some(stream), reader: None, look, used: false, alarm }
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Exchange {
        let Some(mut stream) = self.stream.take() else {
            return Exchange::Failed(Trouble::Connect(io::ErrorKind::NotConnected.into()));
        };
        if self.used {
            self.look.now();
            if std::future::poll_fn(|cx| Poll::Ready(has_news(&mut stream, cx))).await {
                return Exchange::Unsent(request);
            }
        }
        self.used = true;
        let body = take_body(request.body_mut());
        if !body.is_empty() {
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let mut unsent = Unsent::new(head_of(&request), body);
        let method = request.method().clone();
        drop(request);
        let alarm = &mut self.alarm;
        let first = std::future::poll_fn(|cx| {
            unsent.send(&mut stream, cx);
            match first_bytes(&mut stream, cx) {
                Poll::Ready(first) => Poll::Ready(Some(first)),
                Poll::Pending if is_past(alarm, deadline, cx) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        });
        let Some(first) = first.await else { return Exchange::Failed(Trouble::Late) };
        self.answer(Relay::new(stream, unsent, first), method, deadline).await
    }

    /// Reads the head of an answer.
    async fn answer(&mut self, relay: Relay, method: Method, deadline: Instant) -> Exchange {
        let mut builder = Builder::new();
        builder.max_buf_size(LONGEST_HEAD_BYTES);
        let (sender, connection) = match builder.handshake(TokioIo::new(relay)).await {
            Ok(made) => made,
            Err(error) => return Exchange::Failed(Trouble::Http(error)),
        };
        let reader = Box::new(Reader { sender, driver: Some(connection) });
        let Reader { sender, driver } = &mut **self.reader.insert(reader);
        // How an answer is read depends on the method.
        let mut asked = Request::new(Empty::new());
        *asked.method_mut() = method;
        let mut answer = std::pin::pin!(sender.send_request(asked));
        let alarm = &mut self.alarm;
        let mut is_asked = false;
        std::future::poll_fn(|cx| {
            if !is_asked {
                // Before it wrote a request, it takes for unasked what comes.
                drive(driver, cx);
                is_asked = true;
            }
            drive(driver, cx);
            match answer.as_mut().poll(cx) {
                Poll::Ready(Ok(answer)) => Poll::Ready(Exchange::Answered(answer)),
                Poll::Ready(Err(error)) => Poll::Ready(Exchange::Failed(Trouble::Http(error))),
                Poll::Pending if is_past(alarm, deadline, cx) => {
                    Poll::Ready(Exchange::Failed(Trouble::Late))
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// The next piece of an answer's body.
    pub(super) async fn chunk(&mut self, body: &mut Incoming, until: Instant) -> Chunk {
        std::future::poll_fn(|cx| {
            let mut driven = false;
            loop {
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(frame) => {
                        if let Some(chunk) = Chunk::from_frame(frame) {
                            return Poll::Ready(chunk);
                        }
                    }
                    Poll::Pending if driven => break,
                    Poll::Pending => {
                        if let Some(reader) = &mut self.reader {
                            drive(&mut reader.driver, cx);
                        }
                        driven = true;
                    }
                }
            }
            if is_past(&mut self.alarm, until, cx) {
                Poll::Ready(Chunk::Late)
            } else {
                Poll::Pending
            }
        })
        .await
    }

    /// The connection for the next request, if it can take one: the last answer was read to its end,
    /// and nothing speaks against keeping the connection.
    pub(super) fn freed(mut self) -> Option<Http1> {
        let Reader { sender, driver } = *self.reader.take()?;
        let driver = driver.filter(|_| sender.is_ready())?;
        let parts = driver.into_parts();
        let stream = parts.io.into_inner().into_stream().filter(|_| parts.read_buf.is_empty())?;
        self.stream = Some(stream);
        Some(self)
    }
}

/// Whether anything came on an idle connection, if only its end.
fn has_news(stream: &mut Stream, cx: &mut Context<'_>) -> bool {
    let mut room = [MaybeUninit::uninit(); 1];
    Pin::new(stream).poll_read(cx, &mut ReadBuf::uninit(&mut room)).is_ready()
}

/// What comes first; nothing where the connection ends instead.
fn first_bytes(stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    let mut room = [MaybeUninit::uninit(); FIRST_BYTES];
    let mut room = ReadBuf::uninit(&mut room);
    let read = Pin::new(stream).poll_read(cx, &mut room);
    read.map_ok(|()| Bytes::copy_from_slice(room.filled()))
}

fn take_body(body: &mut Full<Bytes>) -> Bytes {
    let frame = body.frame().now_or_never().flatten();
    frame.and_then(Result::ok).and_then(|frame| frame.into_data().ok()).unwrap_or_default()
}

/// Request line and headers.
fn head_of(request: &Request<Full<Bytes>>) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    for part in [request.method().as_str(), " ", target, " HTTP/1.1\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    for (name, value) in request.headers() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Does what can be done. An error is told to whoever waits for the answer, too.
fn drive(driver: &mut Driver, cx: &mut Context<'_>) {
    if driver.as_mut().is_some_and(|driver| Pin::new(driver).poll(cx).is_ready()) {
        *driver = None;
    }
}

fn is_past(alarm: &mut Pin<Box<Sleep>>, deadline: Instant, cx: &mut Context<'_>) -> bool {
    if alarm.deadline() != deadline {
        alarm.as_mut().reset(deadline);
    }
    // Whoever sends without end uses up what a task may do at a time, and timers stand still for a
    // task that did too much.
    let is_late = !has_budget_remaining() && Instant::now() >= deadline;
    is_late || alarm.as_mut().poll(cx).is_ready()
}

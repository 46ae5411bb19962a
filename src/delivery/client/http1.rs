//! A connection that speaks HTTP/1.1: one request at a time.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep_until};

use super::socket::Look;
use super::{Chunk, Trouble};

/// Status line and headers of an answer, at most. What is longer is no answer.
const LONGEST_HEAD_BYTES: usize = 64 * 1024;

/// An open connection.
///
/// Its work is done by whoever waits for the answer, and by nobody while it is idle: a task of its
/// own would have to be woken for every packet, and then wake the other. So what the server does in
/// between is noticed when the connection is used again, before anything is sent.
pub(super) struct Http1 {
    sender: SendRequest<Full<Bytes>>,
    /// Reads and writes. None once the connection is over.
    driver: Option<Driver>,
    look: Look,
    /// Whether there was a request already.
    used: bool,
    /// One timer for all requests: moving it further away costs nothing, a new one has to be
    /// registered.
    alarm: Pin<Box<Sleep>>,
}

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// What became of a request.
pub(super) enum Exchange {
    Answered(Response<Incoming>),
    /// None of it was sent.
    Unsent(Request<Full<Bytes>>, hyper::Error),
    Failed(Trouble),
}

impl Http1 {
    /// `look` is that of the socket below the stream.
    pub(super) async fn new<S>(stream: S, look: Look) -> Result<Http1, Trouble>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut builder = Builder::new();
        builder.max_buf_size(LONGEST_HEAD_BYTES);
        let (sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(Trouble::Http)?;
        let alarm = Box::pin(sleep_until(Instant::now()));
        Ok(Http1 { sender, driver: Some(Box::pin(connection)), look, used: false, alarm })
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Exchange {
        if self.used {
            self.look.now();
        }
        self.used = true;
        let mut answer = std::pin::pin!(self.sender.try_send_request(request));
        let (driver, alarm) = (&mut self.driver, &mut self.alarm);
        std::future::poll_fn(|cx| {
            drive(driver, cx);
            match answer.as_mut().poll(cx) {
                Poll::Ready(Ok(answer)) => Poll::Ready(Exchange::Answered(answer)),
                Poll::Ready(Err(error)) => Poll::Ready(Exchange::from(error)),
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
                        drive(&mut self.driver, cx);
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

    /// Whether it can take another request: the last answer was read to its end, and nothing speaks
    /// against keeping the connection.
    pub(super) fn is_free(&self) -> bool {
        self.driver.is_some() && self.sender.is_ready()
    }
}

impl From<TrySendError<Request<Full<Bytes>>>> for Exchange {
    fn from(mut error: TrySendError<Request<Full<Bytes>>>) -> Exchange {
        match error.take_message() {
            Some(request) => Exchange::Unsent(request, error.into_error()),
            None => Exchange::Failed(Trouble::Http(error.into_error())),
        }
    }
}

/// Does what can be done. An error is told to whoever waits for the answer, too.
fn drive(driver: &mut Option<Driver>, cx: &mut Context<'_>) {
    if driver.as_mut().is_some_and(|driver| driver.as_mut().poll(cx).is_ready()) {
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

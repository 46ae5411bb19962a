//! What stands between a connection and hyper, which only reads the answer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connect::Stream;

/// What is left to be sent of a request.
pub(super) struct Unsent {
    head: Bytes,
    body: Bytes,
    flushed: bool,
    /// Nothing more can be sent.
    broken: bool,
}

/// A connection on which a request was written, or is being written still, and whose answer begins
/// to come. Whatever hyper writes is not sent: it stands for that request. It sees the answer once
/// it has written something.
pub(super) struct Relay {
    stream: Stream,
    unsent: Unsent,
    /// What was read of the answer already, or the error instead.
    first: Bytes,
    error: Option<io::Error>,
    is_asked: bool,
    /// Who wanted to read before that.
    reader: Option<Waker>,
}

impl Unsent {
    pub(super) fn new(head: Vec<u8>, body: Bytes) -> Unsent {
        Unsent { head: Bytes::from(head), body, flushed: false, broken: false }
    }

    /// Sends what can be sent now. That it failed is not the end: the server may have answered
    /// before, and if not, reading tells.
    pub(super) fn send(&mut self, stream: &mut Stream, cx: &mut Context<'_>) {
        if !self.flushed && !self.broken {
            self.broken = matches!(self.poll_send(stream, cx), Poll::Ready(Err(_)));
        }
    }

    fn poll_send(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.head.has_remaining() || self.body.has_remaining() {
            let parts = [IoSlice::new(&self.head), IoSlice::new(&self.body)];
            let sent = if self.head.is_empty() {
                ready!(Pin::new(&mut *stream).poll_write(cx, &self.body))?
            } else {
                ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &parts))?
            };
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_head = sent.min(self.head.len());
            self.head.advance(of_head);
            self.body.advance(sent - of_head);
        }
        ready!(Pin::new(stream).poll_flush(cx))?;
        self.flushed = true;
        // The answer may take its time: nothing is kept for it that is not needed.
        (self.head, self.body) = (Bytes::new(), Bytes::new());
        Poll::Ready(Ok(()))
    }
}

impl Relay {
    pub(super) fn new(stream: Stream, unsent: Unsent, first: io::Result<Bytes>) -> Relay {
        let (first, error) = match first {
            Ok(first) => (first, None),
            Err(error) => (Bytes::new(), Some(error)),
        };
        Relay { stream, unsent, first, error, is_asked: false, reader: None }
    }

    /// The connection, if all was sent and nothing was left unread.
    pub(super) fn into_stream(self) -> Option<Stream> {
        let is_over = self.unsent.flushed && self.first.is_empty() && self.error.is_none();
        is_over.then_some(self.stream)
    }
}

impl AsyncRead for Relay {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_asked {
            // hyper may be held up before it writes, by what a task may do at a time.
            this.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        this.unsent.send(&mut this.stream, cx);
        if !this.first.is_empty() {
            let length = this.first.len().min(buf.remaining());
            buf.put_slice(&this.first.split_to(length));
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = this.error.take() {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Relay {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.is_asked = true;
        if let Some(reader) = this.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

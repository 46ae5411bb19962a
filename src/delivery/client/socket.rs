//! A TCP connection that can be asked what came in meanwhile.

use std::io::{self, IoSlice, Read as _};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How much is read at once of what should not be there.
const UNASKED_BYTES: usize = 512;

/// The runtime knows of what came in only once it asked for news, which it does now and then. A
/// request that is sent before would take an answer that came unasked for its own, or be lost on a
/// connection that is closed already. So, when told to, this looks for itself.
pub(super) struct Socket {
    stream: TcpStream,
    look: Look,
}

/// Makes a [`Socket`] look, at its next read, until there is nothing left to be seen.
#[derive(Clone, Default)]
pub(super) struct Look(Arc<AtomicBool>);

impl Look {
    pub(super) fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Socket {
        Socket { stream, look: Look::default() }
    }

    pub(super) fn look(&self) -> Look {
        self.look.clone()
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.look.0.load(Ordering::Relaxed) && buf.remaining() > 0 {
            let room = buf.initialize_unfilled_to(buf.remaining().min(UNASKED_BYTES));
            match (&*SockRef::from(&this.stream)).read(room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    this.look.0.store(false, Ordering::Relaxed);
                }
                Err(error) => return Poll::Ready(Err(error)),
                Ok(length) => {
                    buf.advance(length);
                    return Poll::Ready(Ok(()));
                }
            }
        }
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

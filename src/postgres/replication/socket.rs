//! Blocking sockets with deadlines, in the clear or under TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;
use rustls::{ClientConnection, StreamOwned};
use socket2::{Domain, SockAddr, SockRef, Type};

use crate::postgres::connection::SocketOptions;
use crate::postgres::tls::{TlsSetup, server_end_point};

/// How long the server may refuse to take what we send: status updates and commands, which fit
/// into any socket buffer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The connection as bytes.
pub(super) enum Transport {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

impl Transport {
    /// Encrypts the connection; `deadline` bounds the handshake.
    pub(super) fn with_tls(
        mut socket: Socket,
        setup: &TlsSetup,
        deadline: Instant,
    ) -> io::Result<Transport> {
        let mut connection = ClientConnection::new(setup.config.clone(), setup.name.clone())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        socket.deadline = deadline;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Transport::Tls(Box::new(StreamOwned::new(connection, socket))))
    }

    /// Reads what is there, waiting for it until `deadline` at most; `WouldBlock` when that has
    /// passed. Zero at the end of the stream. A wait that is cut short loses nothing, also where
    /// only a part of a TLS record has come.
    pub(super) fn read(&mut self, buf: &mut [u8], deadline: Instant) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => {
                socket.deadline = deadline;
                socket.read(buf)
            }
            Transport::Tls(stream) => {
                stream.sock.deadline = deadline;
                stream.read(buf)
            }
        }
    }

    /// Sends all of `bytes`.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.write_all(bytes),
            Transport::Tls(stream) => {
                stream.write_all(bytes)?;
                stream.flush()
            }
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Transport::Tls(_))
    }

    /// The channel binding to the server's certificate, if there is one.
    pub(super) fn server_end_point(&self) -> Option<Vec<u8>> {
        match self {
            Transport::Plain(_) => None,
            Transport::Tls(stream) => {
                stream.conn.peer_certificates()?.first().and_then(server_end_point)
            }
        }
    }
}

/// A socket whose reads end at a deadline.
///
/// The kernel keeps the time: a read is one system call. Its timeout is set anew only when it has
/// become far too short or too long, because a caller whose deadlines come round every second
/// reads many thousand times in between.
pub(super) struct Socket {
    raw: Raw,
    /// The timeout the kernel knows.
    armed: Duration,
    deadline: Instant,
}

enum Raw {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Connects to one of the host's addresses. What does not answer leaves time for the others.
    pub(super) fn tcp(
        host: impl ToSocketAddrs,
        options: &SocketOptions,
        deadline: Instant,
    ) -> io::Result<Socket> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host's name has no address");
        let addresses: Vec<SocketAddr> = host.to_socket_addrs()?.collect();
        for (tried, address) in addresses.iter().enumerate() {
            let share = left(deadline)? / (addresses.len() - tried) as u32;
            match Socket::tcp_at(*address, options, Instant::now() + share) {
                Ok(socket) => return Ok(socket),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn tcp_at(
        address: SocketAddr,
        options: &SocketOptions,
        deadline: Instant,
    ) -> io::Result<Socket> {
        let stream = TcpStream::connect_timeout(&address, left(deadline)?)?;
        options.apply(SockRef::from(&stream))?;
        Socket::new(Raw::Tcp(stream))
    }

    /// Connects to a unix socket.
    pub(super) fn unix(path: &Path, deadline: Instant) -> io::Result<Socket> {
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Bounds the wait for a server that doesn't accept, too.
        socket.set_write_timeout(Some(left(deadline)?))?;
        socket.connect(&SockAddr::unix(path)?)?;
        Socket::new(Raw::Unix(socket.into()))
    }

    fn new(raw: Raw) -> io::Result<Socket> {
        match &raw {
            Raw::Tcp(stream) => stream.set_write_timeout(Some(WRITE_TIMEOUT))?,
            Raw::Unix(stream) => stream.set_write_timeout(Some(WRITE_TIMEOUT))?,
        }
        Ok(Socket { raw, armed: Duration::ZERO, deadline: Instant::now() })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.raw {
            Raw::Tcp(stream) => stream.as_fd(),
            Raw::Unix(stream) => stream.as_fd(),
        }
    }

    fn arm(&mut self, timeout: Duration) -> io::Result<()> {
        match &self.raw {
            Raw::Tcp(stream) => stream.set_read_timeout(Some(timeout))?,
            Raw::Unix(stream) => stream.set_read_timeout(Some(timeout))?,
        }
        self.armed = timeout;
        Ok(())
    }
}

/// The timeout to tell the kernel when `left` remains, or `None` where the one it knows will do: no
/// longer than that, and not less than a quarter of it. `exact` after a wait that ended early.
fn timeout(armed: Duration, left: Duration, exact: bool) -> Option<Duration> {
    const SHORTEST: Duration = Duration::from_millis(1);
    if exact || left < SHORTEST * 2 {
        let whole = Duration::from_millis(left.as_millis() as u64 + 1);
        return Some(whole).filter(|whole| *whole != armed);
    }
    if armed >= SHORTEST && armed <= left && armed * 4 >= left {
        return None;
    }
    // A power of two fits for a while, however the time left shrinks.
    let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).min(1 << 40);
    Some(Duration::from_millis(1 << left_ms.ilog2()))
}

fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut waited = false;
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let result = if left.is_zero() {
                let received = rustix::net::recv(self.fd(), &mut *buf, RecvFlags::DONTWAIT);
                match received.map(|(filled, _)| filled).map_err(io::Error::from) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    result => result,
                }
            } else {
                if let Some(timeout) = timeout(self.armed, left, waited) {
                    self.arm(timeout)?;
                }
                match &mut self.raw {
                    Raw::Tcp(stream) => stream.read(buf),
                    Raw::Unix(stream) => stream.read(buf),
                }
            };
            match result.as_ref().map_err(io::Error::kind) {
                Err(io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => waited = true,
                Err(io::ErrorKind::Interrupted) => {}
                _ => return result,
            }
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.raw {
            Raw::Tcp(stream) => stream.write(buf),
            Raw::Unix(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listener whose queue is full answers nothing, as a firewall does that drops packets.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_address_that_does_not_answer_leaves_time_for_the_next() {
        let silent = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        silent.listen(0).unwrap();
        let silent_at = silent.local_addr().unwrap().as_socket().unwrap();
        let wait = Duration::from_millis(200);
        let queued: Vec<_> =
            std::iter::from_fn(|| TcpStream::connect_timeout(&silent_at, wait).ok()).collect();
        let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = [silent_at, open.local_addr().unwrap()];
        let deadline = Instant::now() + Duration::from_secs(6);
        Socket::tcp(&addresses[..], &SocketOptions::default(), deadline).unwrap();
        drop(queued);
    }

    #[test]
    fn the_timeout_is_set_rarely_and_never_too_long() {
        let ms = Duration::from_millis;
        let mut armed = Duration::ZERO;
        let mut calls = 0;
        // A second of reads a tenth of a millisecond apart, towards one deadline.
        for step in 0..10_000_u64 {
            let left = Duration::from_secs(1) - Duration::from_micros(100) * step as u32;
            if let Some(timeout) = timeout(armed, left, false) {
                armed = timeout;
                calls += 1;
            }
            assert!(armed <= left.max(ms(2)), "{armed:?} is longer than {left:?}");
            assert!(!armed.is_zero());
        }
        assert!(calls <= 20, "{calls} calls");
        assert_eq!(timeout(ms(512), ms(488), true), Some(ms(489)));
        assert_eq!(timeout(ms(1), Duration::MAX, false), Some(ms(1 << 40)));
    }
}

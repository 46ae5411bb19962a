//! A receiver of webhooks that answers as a test wants it to, and forgets nothing.
//!
//! It speaks HTTP/1.1 by hand, because answers that no HTTP server would give are part of its work.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use super::{Request, SECRET, eventually, pause, signature};

/// How a request is answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Status(u16),
    /// A status with headers and a body.
    Full(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// These bytes, whatever they are, and the end of the connection.
    Raw(Vec<u8>),
    /// The connection is reset.
    Reset,
    /// Nothing ever comes.
    Silence,
    After(Duration, Box<Answer>),
}

type Script = dyn Fn(&Request) -> Answer + Send + Sync;

pub(crate) struct Receiver {
    state: Arc<State>,
    address: SocketAddr,
    /// Bound and never listening: keeps the port ours while the receiver is down.
    _reservation: Socket,
    listening: Mutex<Option<AbortHandle>>,
}

struct State {
    requests: Mutex<Vec<Arc<Request>>>,
    script: Mutex<Arc<Script>>,
    connections: AtomicUsize,
    /// Where the connection that was accepted last comes from.
    newest: Mutex<Option<SocketAddr>>,
    unsigned: Mutex<Option<String>>,
}

impl Receiver {
    /// Starts one on a free port of 127.0.0.1 that answers 200 to everything.
    pub(crate) async fn start() -> Receiver {
        let reservation = bound(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = reservation.local_addr().unwrap().as_socket().unwrap();
        let receiver = Receiver {
            state: Arc::new(State {
                requests: Mutex::default(),
                script: Mutex::new(Arc::new(|_: &Request| Answer::Status(200))),
                connections: AtomicUsize::new(0),
                newest: Mutex::default(),
                unsigned: Mutex::default(),
            }),
            address,
            _reservation: reservation,
            listening: Mutex::default(),
        };
        receiver.up();
        receiver
    }

    /// The URL of one of its paths, which start with `/`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How requests are answered from now on.
    pub(crate) fn answer(&self, script: impl Fn(&Request) -> Answer + Send + Sync + 'static) {
        *self.state.script.lock().unwrap() = Arc::new(script);
    }

    /// Closes all connections; connecting is refused until [`up`](Receiver::up).
    pub(crate) async fn down(&self) {
        if let Some(listening) = self.listening.lock().unwrap().take() {
            listening.abort();
        }
        self.closed().await;
    }

    pub(crate) fn up(&self) {
        let socket = bound(self.address);
        socket.listen(1024).unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        let task = tokio::spawn(listen(listener, Arc::clone(&self.state)));
        *self.listening.lock().unwrap() = Some(task.abort_handle());
    }

    /// Waits until nobody is connected, so that nothing is under way any more, not even where somebody
    /// who is gone has connected and was not accepted yet.
    pub(crate) async fn disconnected(&self) {
        let last = TcpStream::connect(self.address).await.unwrap();
        let ours = last.local_addr().unwrap();
        eventually(
            Duration::from_secs(30),
            "connections are accepted in their order",
            async || (*self.state.newest.lock().unwrap() == Some(ours)).then_some(()),
        )
        .await;
        drop(last);
        self.closed().await;
    }

    async fn closed(&self) {
        eventually(Duration::from_secs(30), "the receiver has no connection", async || {
            (self.state.connections.load(Ordering::SeqCst) == 0).then_some(())
        })
        .await;
    }

    /// The requests to one path so far, in order of arrival.
    pub(crate) fn requests_to(&self, path: &str) -> Vec<Arc<Request>> {
        let requests = self.state.requests.lock().unwrap();
        requests.iter().filter(|request| request.path == path).cloned().collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.state.requests.lock().unwrap().len()
    }

    /// Waits until the requests so far are as the test wants them.
    pub(crate) async fn wait_until(
        &self,
        within: Duration,
        what: &str,
        done: impl Fn(&[Arc<Request>]) -> bool,
    ) -> Vec<Arc<Request>> {
        eventually(within, what, async || {
            let requests = self.state.requests.lock().unwrap();
            done(&requests).then(|| requests.clone())
        })
        .await
    }

    /// Waits for so many requests.
    pub(crate) async fn wait_for(&self, count: usize, within: Duration) -> Vec<Arc<Request>> {
        let what = format!("{count} requests");
        self.wait_until(within, &what, |requests| requests.len() >= count).await
    }

    /// Fails the test if any request was not signed with [`SECRET`].
    #[track_caller]
    pub(crate) fn assert_all_signed(&self) {
        let unsigned = self.state.unsigned.lock().unwrap();
        assert!(unsigned.is_none(), "{}", unsigned.as_deref().unwrap_or_default());
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.get_mut().unwrap().take() {
            listening.abort();
        }
    }
}

fn bound(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Both sockets of a receiver are bound to its port; only the listening one gets connections.
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

async fn listen(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, peer)) = accepted else { continue };
                let state = Arc::clone(&state);
                state.connections.fetch_add(1, Ordering::SeqCst);
                *state.newest.lock().unwrap() = Some(peer);
                let guard = Connected(state);
                connections.spawn(async move { serve(stream, &guard.0).await });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Counts a connection as long as it lives, however its task ends.
struct Connected(Arc<State>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Ends when the peer leaves or the script wants it.
async fn serve(mut stream: TcpStream, state: &State) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut buffer = Vec::new();
    loop {
        let request = read(&mut stream, &mut buffer).await?;
        let closes = request.header("connection") == Some("close");
        let mut answer = {
            let request = record(state, request);
            let script = Arc::clone(&state.script.lock().unwrap());
            script(&request)
        };
        while let Answer::After(delay, then) = answer {
            pause(delay).await;
            answer = *then;
        }
        match answer {
            Answer::Status(status) => respond(&mut stream, status, &[], b"").await?,
            Answer::Full(status, headers, body) => {
                respond(&mut stream, status, &headers, &body).await?;
            }
            Answer::Raw(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                stream.shutdown().await.ok()?;
                return None;
            }
            Answer::Reset => {
                SockRef::from(&stream).set_linger(Some(Duration::ZERO)).ok()?;
                return None;
            }
            // Until the peer gives up.
            Answer::Silence => while stream.read(&mut [0; 1024]).await.ok()? > 0 {},
            Answer::After(..) => unreachable!("unwrapped above"),
        }
        if closes {
            return None;
        }
    }
}

fn record(state: &State, mut request: Request) -> Arc<Request> {
    if let Err(why) = signature::verify(&request, SECRET) {
        let request = request.header("webhook-id").unwrap_or("without id");
        state.unsigned.lock().unwrap().get_or_insert(format!("request {request}: {why}"));
    }
    let mut requests = state.requests.lock().unwrap();
    request.arrival = requests.len();
    request.at = Instant::now();
    let request = Arc::new(request);
    requests.push(Arc::clone(&request));
    request
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    let head_len = loop {
        match buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            Some(at) => break at + 4,
            None => more(stream, buffer).await?,
        }
    };
    let mut request = Request::parse_head(str::from_utf8(&buffer[..head_len]).ok()?)?;
    let body_len = match request.header("content-length") {
        Some(len) => len.parse().ok()?,
        None => 0,
    };
    while buffer.len() < head_len + body_len {
        more(stream, buffer).await?;
    }
    request.body = buffer[head_len..head_len + body_len].to_vec();
    buffer.drain(..head_len + body_len);
    Some(request)
}

async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(buffer).await.ok()?;
    (read > 0).then_some(())
}

async fn respond(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(&str, String)],
    body: &[u8],
) -> Option<()> {
    let mut response = format!("HTTP/1.1 {status} Some Reason\r\n");
    for (name, value) in headers {
        response.push_str(&format!("{name}: {value}\r\n"));
    }
    response.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    let mut response = response.into_bytes();
    response.extend_from_slice(body);
    stream.write_all(&response).await.ok()
}

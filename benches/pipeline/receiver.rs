//! A receiver that costs as little as can be: it shares the machine with what is measured.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

pub(crate) struct Receiver {
    address: SocketAddr,
    state: Arc<State>,
}

/// How a receiver answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// At once.
    Prompt,
    /// At once, and what it counts are the events in each request.
    CountEvents,
    /// One answer a second, over all connections.
    OneASecond,
    /// Never, though it takes connections.
    Silent,
}

/// One request, with one event. Microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// When the event's transaction was committed, by the server's clock, which is this machine's.
    pub(crate) committed_us: i64,
    /// When the whole request was there.
    pub(crate) received_us: i64,
}

struct State {
    manner: Manner,
    /// Requests, or events.
    requests: AtomicU64,
    /// Held by the one that is answered next.
    turn: tokio::sync::Mutex<()>,
    /// In the order of their coming; kept only while asked for.
    arrivals: Mutex<Vec<Arrival>>,
    measuring: AtomicBool,
}

impl Receiver {
    /// Listens on a free loopback port.
    pub(crate) async fn start() -> std::io::Result<Receiver> {
        Receiver::start_with(Manner::Prompt).await
    }

    pub(crate) async fn start_with(manner: Manner) -> std::io::Result<Receiver> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            manner,
            requests: AtomicU64::new(0),
            turn: tokio::sync::Mutex::default(),
            arrivals: Mutex::default(),
            measuring: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        thread()?.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Ok(Receiver { address, state })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// Waits until `count` requests (or events) have come since the receiver was started.
    pub(crate) async fn wait_for(&self, count: u64, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        while self.requests() < count {
            if Instant::now() > deadline {
                return Err(format!("only {} of {count} requests came", self.requests()));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Notes when each request comes, from now on.
    pub(crate) fn measure(&self) {
        self.state.arrivals().clear();
        self.state.measuring.store(true, Ordering::Relaxed);
    }

    /// Ends [`measure`](Self::measure): what came, in the order of its coming.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.state.measuring.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.state.arrivals())
    }
}

impl State {
    fn arrivals(&self) -> std::sync::MutexGuard<'_, Vec<Arrival>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thread for all receivers, which does nothing else: neither the load nor the bare client wait
/// for it on a thread of their own.
fn thread() -> std::io::Result<Handle> {
    static THREAD: OnceLock<Handle> = OnceLock::new();
    if let Some(handle) = THREAD.get() {
        return Ok(handle.clone());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("receiver".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(THREAD.get_or_init(|| handle).clone())
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]).await {
            Ok(0) | Err(_) => return,
            Ok(read) => filled += read,
        }
        let mut taken = 0;
        while let Some((head, length)) = request(&buffer[taken..filled]) {
            let body = &buffer[taken + head..taken + length];
            if state.measuring.load(Ordering::Relaxed) {
                note_arrival(&state, body);
            }
            let count = match state.manner {
                Manner::Prompt => 1,
                Manner::CountEvents => events(body),
                Manner::OneASecond => {
                    let _turn = state.turn.lock().await;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    1
                }
                Manner::Silent => std::future::pending().await,
            };
            taken += length;
            state.requests.fetch_add(count, Ordering::Relaxed);
            if stream.write_all(ANSWER).await.is_err() {
                return;
            }
        }
        buffer.copy_within(taken..filled, 0);
        filled -= taken;
        if filled == buffer.len() {
            buffer.resize(buffer.len() * 2, 0);
        }
    }
}

/// The lengths of the head and of the whole request, if all of it is there.
fn request(bytes: &[u8]) -> Option<(usize, usize)> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let length = bytes[..head]
        .split(|&byte| byte == b'\n')
        .find_map(|line| {
            let text = std::str::from_utf8(line).ok()?;
            let (name, value) = text.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        })
        .unwrap_or(0usize);
    (bytes.len() >= head + length).then_some((head, head + length))
}

/// How many events a body holds: each has an id, and the rows have nothing like it.
fn events(body: &[u8]) -> u64 {
    body.windows(5).filter(|window| window == b"\"evt_").count() as u64
}

fn note_arrival(state: &State, body: &[u8]) {
    let received_us = Timestamp::now().as_microsecond();
    let Some(committed_us) = committed_at(body) else { return };
    state.arrivals().push(Arrival { committed_us, received_us });
}

fn committed_at(body: &[u8]) -> Option<i64> {
    const KEY: &[u8] = b"\"timestamp\":\"";
    let start = body.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let end = start + body[start..].iter().position(|&byte| byte == b'"')?;
    let text = std::str::from_utf8(&body[start..end]).ok()?;
    Some(text.parse::<Timestamp>().ok()?.as_microsecond())
}

//! A receiver that costs as little as can be: it shares the machine with what is measured.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

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

struct State {
    manner: Manner,
    /// Requests, or events.
    requests: AtomicU64,
    /// Held by the one that is answered next.
    turn: Mutex<()>,
    /// From the commit to the request, microseconds; kept only while asked for.
    latencies_us: Mutex<Option<Vec<u64>>>,
    measuring: AtomicBool,
}

impl Receiver {
    /// Listens on a free loopback port, on a runtime of its own so that its work is not mixed with
    /// the load's.
    pub(crate) async fn start() -> std::io::Result<Receiver> {
        Receiver::start_with(Manner::Prompt).await
    }

    pub(crate) async fn start_with(manner: Manner) -> std::io::Result<Receiver> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            manner,
            requests: AtomicU64::new(0),
            turn: Mutex::default(),
            latencies_us: Mutex::default(),
            measuring: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
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

    pub(crate) async fn measure_latency(&self) {
        *self.state.latencies_us.lock().await = Some(Vec::new());
        self.state.measuring.store(true, Ordering::Relaxed);
    }

    pub(crate) async fn latencies_us(&self) -> Vec<u64> {
        self.state.measuring.store(false, Ordering::Relaxed);
        let mut latencies = self.state.latencies_us.lock().await.take().unwrap_or_default();
        latencies.sort_unstable();
        latencies
    }
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
            if state.measuring.load(Ordering::Relaxed) {
                note_latency(&state, &buffer[taken + head..taken + length]).await;
            }
            let count = match state.manner {
                Manner::Prompt => 1,
                Manner::CountEvents => events(&buffer[taken + head..taken + length]),
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

async fn note_latency(state: &State, body: &[u8]) {
    let now = Timestamp::now().as_microsecond();
    let Some(committed) = committed_at(body) else { return };
    if let Some(latencies) = state.latencies_us.lock().await.as_mut() {
        latencies.push(u64::try_from(now - committed).unwrap_or(0));
    }
}

fn committed_at(body: &[u8]) -> Option<i64> {
    const KEY: &[u8] = b"\"timestamp\":\"";
    let start = body.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let end = start + body[start..].iter().position(|&byte| byte == b'"')?;
    let text = std::str::from_utf8(&body[start..end]).ok()?;
    Some(text.parse::<Timestamp>().ok()?.as_microsecond())
}

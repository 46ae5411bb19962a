//! The connections of an endpoint that are not in use, and the one of HTTP/2 that all share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::SendRequest;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

use super::http1::Http1;

/// How long an unused connection is kept. Many servers close theirs after 5 seconds (Node.js does
/// by default); sending on a connection that is being closed at that moment would fail.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Keeps connections until they were idle for too long.
pub(super) struct Pool {
    /// How many idle ones are kept.
    size: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those of HTTP/1.1, the one that was used last at the end: it is used next, so that those which
    /// are not needed any more grow old.
    idle: Vec<(Http1, Instant)>,
    shared: Option<Shared>,
    /// How many shared connections there were.
    count: u64,
    /// Whether a task is on its way that closes what is too old.
    swept: bool,
}

/// The connection of HTTP/2.
struct Shared {
    number: u64,
    sender: SendRequest<Full<Bytes>>,
    in_use: usize,
    idle_since: Instant,
}

impl Shared {
    /// When it is too old, unless it is used before.
    fn expiry(&self) -> Option<Instant> {
        (self.in_use == 0).then_some(self.idle_since + IDLE_TIMEOUT)
    }
}

/// A connection to send a request on.
pub(super) enum Connection {
    Http1(Http1),
    Http2(SendRequest<Full<Bytes>>, Lease),
}

/// The use of the shared connection. As long as there are any, it is not idle.
pub(super) struct Lease {
    pool: Arc<Pool>,
    number: u64,
}

impl Lease {
    /// The connection takes no more requests.
    pub(super) fn discard(self) {
        let mut state = self.pool.lock();
        if state.shared.as_ref().is_some_and(|shared| shared.number == self.number) {
            state.shared = None;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        if let Some(shared) = &mut state.shared
            && shared.number == self.number
        {
            shared.in_use = shared.in_use.saturating_sub(1);
            shared.idle_since = Instant::now();
            if shared.in_use == 0 {
                self.pool.sweep_later(&mut state);
            }
        }
    }
}

impl Pool {
    pub(super) fn new(size: usize) -> Arc<Pool> {
        Arc::new(Pool { size, state: Mutex::default() })
    }

    /// One that may still be open.
    pub(super) fn take(self: &Arc<Pool>) -> Option<Connection> {
        let mut state = self.lock();
        if let Some(lease) = self.lease(&mut state) {
            return Some(lease);
        }
        let (connection, since) = state.idle.pop()?;
        if since.elapsed() < IDLE_TIMEOUT {
            return Some(Connection::Http1(connection));
        }
        // The others are even older.
        state.idle.clear();
        None
    }

    /// The one that all share.
    pub(super) fn shared(self: &Arc<Pool>) -> Option<Connection> {
        self.lease(&mut self.lock())
    }

    /// Takes a connection back.
    pub(super) fn put(self: &Arc<Pool>, connection: Http1) {
        let mut state = self.lock();
        if state.idle.len() < self.size {
            state.idle.push((connection, Instant::now()));
            self.sweep_later(&mut state);
        }
    }

    /// Shares a connection, unless there is one.
    pub(super) fn share(self: &Arc<Pool>, sender: SendRequest<Full<Bytes>>) -> Connection {
        let mut state = self.lock();
        if let Some(lease) = self.lease(&mut state) {
            return lease;
        }
        state.count += 1;
        let number = state.count;
        let shared =
            Shared { number, sender: sender.clone(), in_use: 1, idle_since: Instant::now() };
        state.shared = Some(shared);
        Connection::Http2(sender, Lease { pool: Arc::clone(self), number })
    }

    fn lease(self: &Arc<Pool>, state: &mut State) -> Option<Connection> {
        let shared = state.shared.as_mut()?;
        if shared.sender.is_closed() || shared.expiry().is_some_and(|at| at <= Instant::now()) {
            state.shared = None;
            return None;
        }
        shared.in_use += 1;
        let lease = Lease { pool: Arc::clone(self), number: shared.number };
        Some(Connection::Http2(shared.sender.clone(), lease))
    }

    fn sweep_later(self: &Arc<Pool>, state: &mut State) {
        // Where the runtime is gone, everything is closed anyway.
        if !state.swept
            && let Ok(runtime) = Handle::try_current()
        {
            state.swept = true;
            runtime.spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes what is too old; says when the next one will be.
    fn sweep(&self) -> Option<Instant> {
        let mut state = self.lock();
        let now = Instant::now();
        let young = state.idle.partition_point(|(_, since)| *since + IDLE_TIMEOUT <= now);
        state.idle.drain(..young);
        state.shared.take_if(|shared| shared.expiry().is_some_and(|at| at <= now));
        let oldest = state.idle.first().map(|(_, since)| *since + IDLE_TIMEOUT);
        let shared = state.shared.as_ref().and_then(Shared::expiry);
        let next = oldest.into_iter().chain(shared).min();
        state.swept = next.is_some();
        next
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends once there is nothing left that could grow too old.
async fn sweep(pool: Weak<Pool>) {
    while let Some(next) = pool.upgrade().and_then(|pool| pool.sweep()) {
        sleep_until(next).await;
    }
}

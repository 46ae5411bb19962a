//! What the threads around capture know of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::postgres::lsn::Lsn;

/// What capture tells about itself while it runs, and how it is told to stop. Shared between
/// threads.
#[derive(Debug, Default)]
pub struct Progress {
    stop: AtomicBool,
    stopped: Notify,
    streaming: AtomicBool,
    received_lsn: AtomicU64,
    confirmed_lsn: AtomicU64,
}

impl Progress {
    /// Asks capture to stop; it does within about a tenth of a second, plus the time it takes to
    /// make the last changes durable.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.stopped.notify_waiters();
    }

    /// Whether the stream is running now.
    pub fn is_streaming(&self) -> bool {
        self.streaming.load(Ordering::Relaxed)
    }

    /// The furthest position the server has sent.
    pub fn received_lsn(&self) -> Lsn {
        Lsn(self.received_lsn.load(Ordering::Relaxed))
    }

    /// The furthest position the server was told is safe.
    pub fn confirmed_lsn(&self) -> Lsn {
        Lsn(self.confirmed_lsn.load(Ordering::Relaxed))
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits for the order to stop.
    pub(super) async fn stopping(&self) {
        let mut told = std::pin::pin!(self.stopped.notified());
        // Before the look: an order in between is not missed.
        told.as_mut().enable();
        if !self.is_stopping() {
            told.await;
        }
    }

    pub(super) fn streaming(&self, streaming: bool) {
        self.streaming.store(streaming, Ordering::Relaxed);
    }

    pub(super) fn received(&self, lsn: Lsn) {
        self.received_lsn.store(lsn.0, Ordering::Relaxed);
    }

    pub(super) fn confirmed(&self, lsn: Lsn) {
        self.confirmed_lsn.store(lsn.0, Ordering::Relaxed);
    }
}

//! A standby may be promoted, or follow another primary, while its slot is streamed; the stream
//! goes on over that without a word. What comes afterwards is of another timeline, and the stored
//! position has to say so, or it would be refused after a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::postgres::error::PgError;
use crate::postgres::replication::ReplicationClient;

/// How often the server is asked. Should walhook die between a promotion and the next answer, with
/// changes of the new timeline taken, it refuses to go on by itself.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// How long the last answer is waited for.
const LAST_ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How often it is looked whether it came.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Asks a standby for its timeline, on a connection and a thread of its own.
pub(super) struct TimelineWatch {
    began_with: u32,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    timeline: AtomicU32,
    stop: AtomicBool,
}

impl TimelineWatch {
    /// `client` is connected to the server whose slot is streamed, which is on `timeline`.
    pub(super) fn start(client: ReplicationClient, timeline: u32) -> Result<Self, std::io::Error> {
        let shared =
            Arc::new(Shared { timeline: AtomicU32::new(timeline), stop: AtomicBool::new(false) });
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("timeline".to_owned())
            .spawn(move || watch(client, &theirs))?;
        Ok(TimelineWatch { began_with: timeline, shared, thread: Some(thread) })
    }

    /// Whether the server is on another timeline than it was.
    pub(super) fn has_moved(&self) -> bool {
        self.shared.timeline.load(Ordering::Relaxed) != self.began_with
    }

    /// Asks a last time, and says which timeline the server is on, or was on when it answered last.
    pub(super) fn finish(mut self) -> u32 {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A server that is gone may let a question wait for long; the thread ends by itself.
            let deadline = Instant::now() + LAST_ANSWER_WITHIN;
            while !thread.is_finished() && Instant::now() < deadline {
                thread::sleep(LOOK_EVERY);
            }
        }
        self.shared.timeline.load(Ordering::Relaxed)
    }
}

fn watch(mut client: ReplicationClient, shared: &Shared) {
    loop {
        // Before the question: the last answer must be later than the order to stop.
        let stop = shared.stop.load(Ordering::Relaxed);
        match timeline(&mut client) {
            Ok(timeline) => shared.timeline.store(timeline, Ordering::Relaxed),
            // The stream ends as well, then.
            Err(error) => return tracing::debug!(%error, "the timeline is not known any more"),
        }
        if stop {
            return;
        }
        thread::park_timeout(ASK_EVERY);
    }
}

fn timeline(client: &mut ReplicationClient) -> Result<u32, PgError> {
    Ok(client.identify_system()?.timeline)
}

//! Tests of the journal as a whole.

mod crash;
mod flow;
mod model;
mod orders;
mod outbox;
mod passing;
mod refusal;
mod replays;
mod reports;
mod retention;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::capture::{CaptureKind, Position};
use crate::event::id::TransactionTag;
use crate::event::{EventBatch, EventId, Lanes};
use crate::postgres::lsn::Lsn;

use super::queue::Command;
use super::*;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A journal in a directory of its own.
struct Fixture {
    directory: TempDir,
    options: JournalOptions,
}

impl Fixture {
    fn new() -> Fixture {
        let directory = TempDir::new().unwrap();
        let mut options = JournalOptions::new(directory.path().join("walhook.db"));
        options.durable_every = Duration::from_millis(5);
        Fixture { directory, options }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("walhook.db")
    }

    fn open(&self) -> (Journal, JournalWriter) {
        Journal::open(self.options.clone()).unwrap()
    }

    fn reader(&self) -> JournalReader {
        Journal::open_read_only(self.path()).unwrap()
    }
}

fn now() -> i64 {
    crate::clock::now_ms()
}

/// The id of the only event of the transaction committed at `commit_lsn`.
fn id_at(commit_lsn: u64) -> EventId {
    let tag = TransactionTag::new("replication", 7, 5, commit_lsn as u32, 1_700_000_000_000_000);
    EventId::new(commit_lsn, 0, tag)
}

/// What event `n` says.
fn body_of(n: u64) -> Vec<u8> {
    format!(r#"{{"event":"person.created","data":{{"n":{n}}}}}"#).into_bytes()
}

/// Events `first..first + count`, one transaction each, on the lanes `lanes` gives.
fn append_of(first: u64, count: u64, lanes: impl Fn(u64) -> Lanes) -> Append {
    let mut events = EventBatch::default();
    let name: Arc<str> = "person.created".into();
    for n in first..first + count {
        let committed_at_us = 1_700_000_000_000_000 + n as i64;
        let write = |buffer: &mut Vec<u8>| {
            buffer.extend_from_slice(&body_of(n));
            Ok::<_, ()>(())
        };
        events.push(id_at(n), Arc::clone(&name), lanes(n), committed_at_us, write).unwrap();
    }
    let last = first + count - 1;
    Append { events, checkpoint: checkpoint_at(last), ..Append::default() }
}

fn checkpoint_at(commit_lsn: u64) -> Checkpoint {
    Checkpoint {
        position: Position { commit_lsn: Lsn(commit_lsn), ordinal: 0 },
        resume_lsn: Lsn(commit_lsn * 10),
    }
}

fn append(journal: &Journal, append: Append) {
    journal.append(append, Instant::now() + PATIENCE).unwrap().expect("room in the queue");
}

/// Appends `count` events numbered from `first` and waits until they are durable.
fn append_durably(journal: &Journal, first: u64, count: u64) {
    append(journal, append_of(first, count, |n| Lanes::one(n as i64)));
    journal.make_durable().unwrap();
}

/// Runs any SQL on the writer's connection.
fn execute(journal: &Journal, sql: &str) -> Result<(), JournalError> {
    journal.ask_blocking(|_, reply| Command::Execute(sql.to_owned(), reply))
}

/// Waits until a condition holds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A runtime for the asynchronous half of the journal.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn attempt(seq: Seq, error: Option<&str>) -> AttemptRecord {
    AttemptRecord {
        seq,
        others: Vec::new(),
        failed_events: u32::from(error.is_some()),
        attempt: 1,
        started_at_ms: now(),
        duration_us: 1500,
        status: Some(if error.is_some() { 500 } else { 200 }),
        error: error.map(str::to_owned),
        head: None,
        response: error.map(|_| b"no".to_vec()),
    }
}

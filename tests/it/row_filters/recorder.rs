//! Capture without events: what it yields, as text.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use walhook::capture::{
    CaptureError, Change, ChangeSink, Origin, Position, Progress, ReplicationOptions, RowFilters,
    Source, Transaction, run_replication,
};
use walhook::postgres::lsn::Lsn;
use walhook::postgres::pgoutput::{OldTuple, TupleData, TupleValue};

use crate::harness::{Database, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

type Seen = Arc<Mutex<Vec<String>>>;

/// Running capture that writes down what it yields, until dropped.
pub(super) struct Recorder {
    seen: Seen,
    progress: Arc<Progress>,
    thread: Option<JoinHandle<Result<(), CaptureError>>>,
}

impl Recorder {
    /// Makes a publication of all tables and a slot, by the database's name.
    pub(super) async fn prepare(database: &Database) {
        let name = database.name();
        database.execute(&format!("create publication {name} for all tables")).await;
        let slot = format!("select pg_create_logical_replication_slot('{name}', 'pgoutput')");
        database.execute(&slot).await;
    }

    pub(super) fn follow(database: &Database, filters: &Arc<RowFilters>) -> Recorder {
        let options = ReplicationOptions {
            connection: database.url().parse().unwrap(),
            slot: database.name().to_owned(),
            publication: database.name().to_owned(),
            filters: Arc::clone(filters),
            origin: Origin::Any,
            accept_gap: false,
        };
        let (seen, progress) = (Seen::default(), Arc::new(Progress::default()));
        let mut sink = Sink { seen: Arc::clone(&seen), resume_lsn: Lsn::ZERO };
        let (shared, runtime) = (Arc::clone(&progress), tokio::runtime::Handle::current());
        let thread = std::thread::spawn(move || {
            run_replication(&options, None, &mut sink, &shared, &runtime)
        });
        Recorder { seen, progress, thread: Some(thread) }
    }

    pub(super) async fn start(database: &Database, filters: &Arc<RowFilters>) -> Recorder {
        Recorder::prepare(database).await;
        let recorder = Recorder::follow(database, filters);
        eventually(PATIENCE, "it streams", async || recorder.progress.is_streaming().then_some(()))
            .await;
        recorder
    }

    /// The changes so far.
    pub(super) fn seen(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|change| !change.starts_with("message ")).cloned().collect()
    }

    /// The changes up to now.
    pub(super) async fn until_now(&self, database: &Database) -> Vec<String> {
        let client = database.client().await;
        let sql = "with mark as materialized (select clock_timestamp()::text as at) \
                   select at, pg_logical_emit_message(true, 'now', at)::text from mark";
        let mark: String = client.query_one(sql, &[]).await.unwrap().get(0);
        let mark = format!("message {mark}");
        eventually(PATIENCE, "all changes have come", async || {
            self.assert_runs();
            self.seen.lock().unwrap().contains(&mark).then_some(())
        })
        .await;
        self.seen()
    }

    fn assert_runs(&self) {
        let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        assert!(!ended, "capture has ended");
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.progress.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.unwrap().unwrap().unwrap();
        }
    }
}

struct Sink {
    seen: Seen,
    resume_lsn: Lsn,
}

impl ChangeSink for Sink {
    type Error = Infallible;

    fn connected(&mut self, _: &Source, _: Option<Position>, _: Lsn) -> Result<(), Infallible> {
        Ok(())
    }

    fn change(
        &mut self,
        _: &Transaction,
        _: Position,
        change: &Change<'_>,
    ) -> Result<(), Infallible> {
        self.seen.lock().unwrap().push(shown(change));
        Ok(())
    }

    fn caught_up_to(&mut self, resume_lsn: Lsn) -> Result<(), Infallible> {
        self.resume_lsn = resume_lsn;
        Ok(())
    }

    fn hand_over(&mut self, _: Instant) -> Result<bool, Infallible> {
        Ok(true)
    }

    fn is_full(&self) -> bool {
        false
    }

    fn durable_lsn(&self) -> Lsn {
        self.resume_lsn
    }
}

fn shown(change: &Change<'_>) -> String {
    let old_row = |old: &OldTuple<'_>| match old {
        OldTuple::Key(old) => format!("key {}", row(old)),
        OldTuple::Full(old) => row(old),
    };
    match change {
        Change::Insert { relation, new } => format!("insert {} {}", relation.name, row(new)),
        Change::Update { relation, old: None, new } => {
            format!("update {} {}", relation.name, row(new))
        }
        Change::Update { relation, old: Some(old), new } => {
            format!("update {} {} -> {}", relation.name, old_row(old), row(new))
        }
        Change::Delete { relation, old } => format!("delete {} {}", relation.name, old_row(old)),
        Change::Truncate { relation } => format!("truncate {}", relation.name),
        Change::Recorded(recorded) => format!("recorded {recorded:?}"),
        Change::Message { content, .. } => format!("message {}", String::from_utf8_lossy(content)),
    }
}

fn row(tuple: &TupleData<'_>) -> String {
    let values = tuple.iter().map(|value| match value {
        TupleValue::Null => "null".to_owned(),
        TupleValue::UnchangedToast => "unchanged".to_owned(),
        TupleValue::Text(text) => String::from_utf8_lossy(text).into_owned(),
    });
    values.collect::<Vec<_>>().join(",")
}

//! Changes of an outbox, through capture and rules.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use walhook::capture::{
    Change, ChangeSink, OutboxOptions, Position, Progress, Source, Transaction, run_outbox,
};
use walhook::event::{EventBatch, EventRules};
use walhook::postgres::lsn::Lsn;

use crate::harness::{Database, Workspace, eventually};

const PATIENCE: Duration = Duration::from_secs(120);

/// Puts triggers on every table there is.
pub(super) async fn follow(database: &Database) {
    let workspace = Workspace::new(database).toml("[[table]]\nname = '*.*'");
    let workspace = workspace.endpoint("main", "http://127.0.0.1:9/", "");
    workspace.run(&["setup"]).await.assert(0, &[]);
}

/// The events of everything the outbox has.
pub(super) async fn events(database: &Database, rules: EventRules) -> EventBatch {
    database.execute("select walhook.emit('the.end')").await;
    let sink =
        Sink { rules, batch: Arc::default(), ended: Arc::new(Mutex::new(false)), taken: Lsn::ZERO };
    let (batch, ended) = (Arc::clone(&sink.batch), Arc::clone(&sink.ended));
    let options = OutboxOptions {
        connection: database.url().parse().unwrap(),
        poll: Duration::from_millis(20),
        notify: false,
        replace_invalid_utf8: false,
    };
    let progress = Arc::new(Progress::default());
    let (shared, runtime) = (Arc::clone(&progress), tokio::runtime::Handle::current());
    let mut sink = sink;
    let thread =
        std::thread::spawn(move || run_outbox(&options, None, &mut sink, &shared, &runtime));
    eventually(PATIENCE, "everything is taken", async || {
        assert!(!thread.is_finished(), "capture has ended");
        ended.lock().unwrap().then_some(())
    })
    .await;
    progress.stop();
    tokio::task::spawn_blocking(|| thread.join().unwrap().unwrap()).await.unwrap();
    std::mem::take(&mut *batch.lock().unwrap())
}

/// Gathers events until the last one.
struct Sink {
    rules: EventRules,
    batch: Arc<Mutex<EventBatch>>,
    ended: Arc<Mutex<bool>>,
    taken: Lsn,
}

impl ChangeSink for Sink {
    type Error = Infallible;

    fn connected(&mut self, _: &Source, _: Option<Position>, _: Lsn) -> Result<(), Infallible> {
        Ok(())
    }

    fn change(
        &mut self,
        transaction: &Transaction,
        position: Position,
        change: &Change<'_>,
    ) -> Result<(), Infallible> {
        match change {
            Change::Message { content, .. }
                if String::from_utf8_lossy(content).contains("the.end") =>
            {
                *self.ended.lock().unwrap() = true;
            }
            _ => {
                let mut batch = self.batch.lock().unwrap();
                self.rules.apply(transaction, position, change, &mut batch).unwrap();
            }
        }
        Ok(())
    }

    fn caught_up_to(&mut self, resume_lsn: Lsn) -> Result<(), Infallible> {
        self.taken = resume_lsn;
        Ok(())
    }

    fn hand_over(&mut self, _: Instant) -> Result<bool, Infallible> {
        Ok(true)
    }

    fn is_full(&self) -> bool {
        false
    }

    fn durable_lsn(&self) -> Lsn {
        self.taken
    }
}

//! Capture's thread: which way of capture, from where, into which sink.

use std::sync::Arc;
use std::thread;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::info;

use crate::capture::{
    CaptureError, CaptureKind, OutboxOptions, OutboxStart, Progress, ReplicationOptions, Source,
    StartPoint, Switched, drain_switched, run_outbox, run_replication,
};
use crate::config::SourceConfig;
use crate::journal::Journal;

use super::error::DaemonError;
use super::sink::{JournalSink, RulesParts};
use super::tables::Tables;

pub(super) struct RunningCapture {
    pub(super) progress: Arc<Progress>,
    pub(super) result: oneshot::Receiver<Result<(), CaptureError>>,
}

/// Capture, before it runs.
struct Capture {
    kind: CaptureKind,
    replication: ReplicationOptions,
    outbox: OutboxOptions,
    start: Start,
    journal: Journal,
    rules: RulesParts,
    progress: Arc<Progress>,
    runtime: Handle,
}

/// What the journal says of an earlier run.
enum Start {
    /// Nothing: it is new.
    New,
    Replication(Option<StartPoint>),
    Outbox(OutboxStart),
}

pub(super) async fn start_capture(
    source: &SourceConfig,
    tables: &Arc<Tables>,
    accept_gap: bool,
    journal: &Journal,
) -> Result<RunningCapture, DaemonError> {
    let start = start(journal).await?;
    if source.capture == CaptureKind::Outbox && matches!(start, Start::Replication(_)) {
        return Err(DaemonError::other_capture());
    }
    let progress = Arc::new(Progress::default());
    let capture = Capture {
        kind: source.capture,
        replication: ReplicationOptions {
            connection: source.connection.clone(),
            slot: source.slot.clone(),
            publication: source.publication.clone(),
            filters: Arc::clone(tables.filters()),
            origin: source.origin,
            accept_gap,
        },
        outbox: OutboxOptions {
            connection: source.connection.clone(),
            poll: source.outbox.poll,
            notify: source.outbox.spec.notify,
            replace_invalid_utf8: source.replace_invalid_utf8,
        },
        start,
        journal: journal.clone(),
        rules: RulesParts {
            tables: Arc::clone(tables),
            int8_as_string: source.int8_as_string,
            replace_invalid_utf8: source.replace_invalid_utf8,
        },
        progress: Arc::clone(&progress),
        runtime: Handle::current(),
    };
    let (done, result) = oneshot::channel();
    thread::Builder::new()
        .name("capture".to_owned())
        .spawn(move || {
            // Nobody waits any more when the daemon leaves at once.
            let _ = done.send(capture.run());
        })
        .map_err(|error| DaemonError::internal(format!("no thread for capture: {error}")))?;
    Ok(RunningCapture { progress, result })
}

impl Capture {
    fn run(mut self) -> Result<(), CaptureError> {
        let start = std::mem::replace(&mut self.start, Start::New);
        let point = match (self.kind, start) {
            (CaptureKind::Outbox, Start::Outbox(start)) => return self.outbox(Some(start)),
            (CaptureKind::Outbox, _) => return self.outbox(None),
            (CaptureKind::Replication, Start::New) => None,
            (CaptureKind::Replication, Start::Replication(point)) => point,
            (CaptureKind::Replication, Start::Outbox(start)) => match self.switch(start)? {
                Switched::At(point) => Some(point),
                Switched::Anywhere => None,
                Switched::Stopped => return Ok(()),
            },
        };
        let mut sink = self.sink(CaptureKind::Replication);
        let Capture { replication, progress, runtime, .. } = &self;
        run_replication(replication, point, &mut sink, progress, runtime)
    }

    fn outbox(&self, start: Option<OutboxStart>) -> Result<(), CaptureError> {
        let mut sink = self.sink(CaptureKind::Outbox);
        run_outbox(&self.outbox, start, &mut sink, &self.progress, &self.runtime)
    }

    /// The outbox first, whose events say where they come from, and are known by that.
    fn switch(&self, start: OutboxStart) -> Result<Switched, CaptureError> {
        info!("going over from the outbox to logical replication: what is left there comes first");
        let Capture { outbox, replication, progress, runtime, .. } = self;
        let mut sink = self.sink(CaptureKind::Outbox);
        drain_switched(outbox, start, replication.accept_gap, &mut sink, progress, runtime)
    }

    fn sink(&self, kind: CaptureKind) -> JournalSink {
        let slot = match kind {
            CaptureKind::Replication => self.replication.slot.clone(),
            CaptureKind::Outbox => String::new(),
        };
        JournalSink::new(self.journal.clone(), kind, slot, self.rules.clone())
    }
}

/// Where the journal says the last run stopped.
async fn start(journal: &Journal) -> Result<Start, DaemonError> {
    let Some(identity) = journal.identity() else { return Ok(Start::New) };
    let checkpoint = journal.checkpoint();
    let stored = checkpoint.unwrap_or_default();
    let point = StartPoint {
        source: Source {
            system_identifier: identity.system_identifier,
            timeline: identity.timeline,
            database: identity.database,
            database_oid: identity.database_oid,
        },
        position: (stored.position != Default::default()).then_some(stored.position),
        resume_lsn: stored.resume_lsn,
    };
    Ok(match identity.capture {
        CaptureKind::Replication => Start::Replication(checkpoint.map(|_| point)),
        CaptureKind::Outbox => {
            Start::Outbox(OutboxStart { point, taken: journal.outbox_taken().await? })
        }
    })
}

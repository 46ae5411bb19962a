//! Events that walhook makes itself. They are numbered, kept and sent like those of the stream, and
//! leave the checkpoint where it is.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::Connection;

use crate::event::{EventBatch, Report, ReportPlace};

use super::append::{self, Written};
use super::model::{Seq, SourceIdentity};
use super::stored::StoredBatch;

const UPDATE_LAST_SEQ: &str = "UPDATE journal SET last_seq = ?1";

/// Reports that may wait for the writer; what comes then is lost.
pub(super) const QUEUED_REPORTS: usize = 1_000;

/// A report and when it was made.
#[derive(Clone, Debug)]
pub(super) struct Emission {
    report: Report,
    /// Microseconds since the Unix epoch.
    at_us: i64,
}

impl Emission {
    /// A report of this moment.
    pub(super) fn now(report: Report) -> Emission {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Emission { report, at_us: i64::try_from(since.as_micros()).unwrap_or(i64::MAX) }
    }
}

/// Writes reports into the open transaction, behind all that is written. `None` where there are
/// none.
pub(super) fn emit(
    db: &Connection,
    written: &mut Written,
    emissions: &VecDeque<Emission>,
    identity: Option<&SourceIdentity>,
    now_ms: i64,
) -> rusqlite::Result<Option<StoredBatch>> {
    if emissions.is_empty() {
        return Ok(None);
    }
    let first_seq = written.last_seq + 1;
    let commit_lsn = written.checkpoint.map_or(0, |point| point.position.commit_lsn.0);
    let mut events = EventBatch::default();
    for (number, Emission { report, at_us }) in (first_seq..).zip(emissions) {
        let place = ReportPlace {
            commit_lsn,
            number: number.unsigned_abs(),
            at_us: *at_us,
            system_identifier: identity.map_or(0, |identity| identity.system_identifier),
            database_oid: identity.map_or(0, |identity| identity.database_oid),
            database: identity.map(|identity| &*identity.database),
        };
        let Ok(()) =
            events.push(place.id(), report.name().into(), report.lanes(), *at_us, |buffer| {
                report.write_envelope(buffer, &place);
                Ok::<(), Infallible>(())
            });
    }
    append::append_events(db, written, &events, now_ms)?;
    db.prepare_cached(UPDATE_LAST_SEQ)?.execute([written.last_seq])?;
    Ok(Some(StoredBatch::new(Seq(first_seq), events)))
}

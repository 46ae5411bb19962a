//! Why capture ended.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::postgres::catalog::OLDEST_VERSION_NUM;
use crate::postgres::error::PgError;
use crate::postgres::lsn::Lsn;
use crate::postgres::sql::quote_literal;

/// A state of the source from which going on would lose changes or send those of another
/// database. Only a person can decide what is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The stored position belongs to another cluster.
    ForeignCluster {
        /// The system identifier stored.
        expected: u64,
        /// The system identifier of the server.
        found: u64,
    },
    /// The stored position belongs to another database of the same cluster.
    ForeignDatabase {
        /// The name of the database stored.
        expected: String,
    },
    /// The server's log ends before the stored position.
    AheadOfServer {
        /// The stored position.
        resume_lsn: Lsn,
        /// The end of the server's log.
        server_lsn: Lsn,
    },
    /// The server is on a timeline that left the stored one before the stored position.
    OtherTimeline {
        /// The timeline stored.
        old: u32,
        /// The server's timeline.
        new: u32,
        /// The stored position.
        resume_lsn: Lsn,
        /// Where the server left the stored timeline; zero where it was never on it.
        switch_lsn: Lsn,
    },
    /// The slot has moved past the stored position.
    Gap {
        /// The stored position.
        resume_lsn: Lsn,
        /// The slot's position.
        confirmed_lsn: Lsn,
    },
    /// There is a stored position, but no slot any more.
    SlotMissing {
        /// The slot's name.
        slot: String,
        /// The stored position.
        resume_lsn: Lsn,
    },
    /// The server removed log that the slot still needed.
    SlotLost {
        /// The slot's name.
        slot: String,
        /// Why, in the server's word, where it has one (from version 16 on).
        reason: Option<String>,
    },
    /// The publication did not exist when a change of the stream was made.
    PublicationMissing {
        /// The publication's name.
        publication: String,
    },
    /// There was an outbox, and is none any more.
    OutboxMissing,
    /// The same, where the changes were to come from a slot from then on.
    OutboxLeft,
    /// A row of the outbox holds text that is not UTF-8.
    UnreadableRow {
        /// Its number.
        id: i64,
    },
    /// The server cannot turn the text of a row of the outbox into UTF-8, today or ever.
    UntranslatableRow {
        /// Its number.
        id: i64,
        /// What the server said.
        said: String,
    },
    /// The server cannot turn a value of a transaction into UTF-8, today or ever.
    Untranslatable {
        /// The transaction and how to go on without it.
        leave_out: Option<LeaveOut>,
        /// Where the record of the row begins.
        row_lsn: Option<Lsn>,
        /// What the server said.
        said: String,
    },
}

/// How to go on without a transaction that cannot be read. Displays as half a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveOut {
    /// The slot.
    pub slot: String,
    /// Where the transaction's commit record starts.
    pub commit_lsn: Lsn,
}

impl fmt::Display for LeaveOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whatever lies behind the record's start is behind the transaction.
        let behind = Lsn(self.commit_lsn.0.saturating_add(1));
        write!(
            f,
            "to leave out the transaction that was committed at {}, and only that, stop walhook, \
             run SELECT pg_replication_slot_advance({}, '{behind}'); in the database, and start \
             once with `walhook run --accept-gap`",
            self.commit_lsn,
            quote_literal(&self.slot),
        )
    }
}

impl Refusal {
    /// What is lost, for one that [can be accepted](Refusal::can_be_accepted), without the way on.
    pub(super) fn loss(&self) -> String {
        let text = self.to_string();
        text.strip_suffix(ACCEPT).and_then(|text| text.strip_suffix("; ")).unwrap_or(&text).into()
    }

    /// Whether starting again at the slot's position, accepting the loss, is a way on.
    pub(super) fn can_be_accepted(&self) -> bool {
        matches!(
            self,
            Refusal::Gap { .. }
                | Refusal::AheadOfServer { .. }
                | Refusal::OtherTimeline { .. }
                | Refusal::OutboxLeft
        )
    }
}

/// What helps in a database of the encoding SQL_ASCII.
pub(crate) const REPLACE: &str = "set source.invalid_utf8 = \"replace\" to have U+FFFD in the \
                                  place of bytes that are not UTF-8";
const ACCEPT: &str = "to go on without them, start once with `walhook run --accept-gap`";
const NEW_SLOT: &str = "drop what is left of the slot and create it again with `walhook teardown` \
                        and `walhook setup`, then start once with `walhook run --accept-gap`; \
                        changes made in between are lost";

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::ForeignCluster { expected, found } => write!(
                f,
                "the journal belongs to another Postgres cluster (system identifier {expected}, \
                 the server says {found}): a clone, a restored copy or a wrong source.url; \
                 correct source.url, or give this source a journal of its own with journal.path"
            ),
            Refusal::ForeignDatabase { expected } => write!(
                f,
                "the journal belongs to another database of this cluster (it was called \
                 {expected:?}, or was dropped and created again); correct source.url, or give this \
                 source a journal of its own with journal.path"
            ),
            Refusal::AheadOfServer { resume_lsn, server_lsn } => write!(
                f,
                "the server's log ends at {server_lsn}, before the stored position {resume_lsn}: \
                 it was restored from a backup, or a standby that lagged behind took over; changes \
                 that were sent may not exist any more, and new ones up to that position would be \
                 lost; {ACCEPT}"
            ),
            Refusal::OtherTimeline { old, new, resume_lsn, switch_lsn: Lsn::ZERO } => write!(
                f,
                "the server is on timeline {new}, which does not descend from timeline {old} of \
                 the stored position {resume_lsn}: an old primary that came back after a failover, \
                 or another standby took over; events may have been sent of changes that this \
                 server does not have; {ACCEPT}"
            ),
            Refusal::OtherTimeline { old, new, resume_lsn, switch_lsn } => write!(
                f,
                "the server is on timeline {new}, which left timeline {old} at {switch_lsn}, \
                 before the stored position {resume_lsn}: events were sent of changes that this \
                 server does not have; {ACCEPT}"
            ),
            Refusal::Gap { resume_lsn, confirmed_lsn } => write!(
                f,
                "the slot has moved to {confirmed_lsn}, past the stored position {resume_lsn}: \
                 another reader used it, or it was dropped and created again, and the changes in \
                 between are lost ({} bytes of log); {ACCEPT}",
                confirmed_lsn.bytes_since(*resume_lsn)
            ),
            Refusal::SlotMissing { slot, resume_lsn } => write!(
                f,
                "replication slot {slot:?} does not exist any more, so changes after {resume_lsn} \
                 are lost; create it again with `walhook setup`, then start once with \
                 `walhook run --accept-gap`"
            ),
            Refusal::SlotLost { slot, reason } => write!(
                f,
                "replication slot {slot:?} is lost: {}; {NEW_SLOT}",
                why_lost(reason.as_deref())
            ),
            Refusal::PublicationMissing { publication } => write!(
                f,
                "publication {publication:?} did not exist when the next change of the stream was \
                 made, and creating it now does not help, as Postgres looks at the past; {NEW_SLOT}"
            ),
            Refusal::OutboxMissing => f.write_str(
                "the outbox (table walhook.outbox) does not exist any more, so changes made since \
                 it was dropped are lost; create it again with `walhook setup`, then start again",
            ),
            Refusal::OutboxLeft => write!(
                f,
                "the journal's events come from an outbox (table walhook.outbox) that does not \
                 exist any more: what it may still have held is lost, and so is what was changed \
                 between its end and the slot's beginning; {ACCEPT}"
            ),
            Refusal::UnreadableRow { id } => write!(
                f,
                "row {id} of the outbox holds text that is not UTF-8; {REPLACE}, or, to go on \
                 without it, run DELETE FROM walhook.outbox WHERE id = {id} in the database"
            ),
            Refusal::UntranslatableRow { id, said } => write!(
                f,
                "row {id} of the outbox holds text that Postgres cannot turn into UTF-8: {said}; \
                 correct the row of the table, so that it does not come again; to go on without this \
                 change, run DELETE FROM walhook.outbox WHERE id = {id} in the database"
            ),
            Refusal::Untranslatable { leave_out, row_lsn, said } => {
                f.write_str("a row holds text that Postgres cannot turn into UTF-8")?;
                if let Some(row_lsn) = row_lsn {
                    write!(f, " (its record begins at {row_lsn})")?;
                }
                write!(
                    f,
                    ": {said}; correct the row, so that it does not come again; what is in the log \
                     stays as it is"
                )?;
                leave_out.as_ref().map_or(Ok(()), |leave_out| write!(f, ": {leave_out}"))
            }
        }
    }
}

impl Error for Refusal {}

/// The server's reasons in sentences
/// (<https://www.postgresql.org/docs/current/view-pg-replication-slots.html>).
fn why_lost(reason: Option<&str>) -> &str {
    match reason {
        Some("wal_removed") => {
            "the server removed log that it still needed, more than max_slot_wal_keep_size"
        }
        Some("idle_timeout") => {
            "it was not read for longer than idle_replication_slot_timeout, so the server gave it \
             up"
        }
        // All that version 16 tells, whatever the reason was.
        Some("conflicting") => {
            "the server removed what it still needed: log, where it was further behind than \
             max_slot_wal_keep_size, or on a standby rows of the catalog (hot_standby_feedback = on \
             and primary_slot_name there prevent that)"
        }
        Some("rows_removed") => {
            "the primary removed rows of its catalog that the slot on this standby still needed \
             (hot_standby_feedback = on and primary_slot_name at the standby prevent that)"
        }
        Some("wal_level_insufficient") => "wal_level at the primary was no longer logical",
        Some(_) | None => {
            "the server removed log that it still needed (max_slot_wal_keep_size or \
             idle_replication_slot_timeout)"
        }
    }
}

/// Why capture ended other than by being told to.
#[derive(Debug)]
pub struct CaptureError(Kind);

#[derive(Debug)]
pub(super) enum Kind {
    Refused(Refusal),
    NotSetUp {
        slot: String,
    },
    NoOutbox,
    Switched {
        lsn: Lsn,
    },
    NotSwitched,
    /// Whether it may be otherwise next time, as it was before.
    Pooled {
        now: bool,
    },
    TooOld {
        version: u32,
    },
    NotYet(String),
    UnfitSlot {
        slot: String,
        why: String,
    },
    Postgres {
        doing: &'static str,
        source: PgError,
    },
    /// While streaming; inside of which transaction, if it was inside of one.
    Stream {
        source: PgError,
        commit_lsn: Option<Lsn>,
    },
    /// A row filter that is none for its table.
    Filter {
        table: String,
        source: PgError,
    },
    Protocol(String),
    Stalled(Duration),
    Sink(Box<dyn Error + Send + Sync>),
}

impl CaptureError {
    pub(super) fn sink(error: impl Error + Send + Sync + 'static) -> CaptureError {
        CaptureError(Kind::Sink(Box::new(error)))
    }

    pub(super) fn protocol(message: impl Into<String>) -> CaptureError {
        CaptureError(Kind::Protocol(message.into()))
    }

    /// Nothing became durable for so long.
    pub(super) fn stalled(since: Duration) -> CaptureError {
        CaptureError(Kind::Stalled(since))
    }

    pub(super) fn not_set_up(slot: &str) -> CaptureError {
        CaptureError(Kind::NotSetUp { slot: slot.to_owned() })
    }

    pub(super) fn no_outbox() -> CaptureError {
        CaptureError(Kind::NoOutbox)
    }

    /// The triggers that fill the outbox gave way to logical replication at `lsn`.
    pub(super) fn switched(lsn: Lsn) -> CaptureError {
        CaptureError(Kind::Switched { lsn })
    }

    /// Or they did not, though that is what was to be followed.
    pub(super) fn not_switched() -> CaptureError {
        CaptureError(Kind::NotSwitched)
    }

    /// The sessions of this connection are others' too. `now`: it was not so before.
    pub(super) fn pooled(now: bool) -> CaptureError {
        CaptureError(Kind::Pooled { now })
    }

    /// A row of the outbox that only another version can read. It stays, and so does what is behind
    /// it.
    pub(super) fn unknown_op(op: u8, id: i64) -> CaptureError {
        CaptureError(Kind::NotYet(format!(
            "row {id} of the outbox is of the kind {:?}, which this version of walhook does not \
             know: run the version whose `walhook setup` was run last (nothing is lost meanwhile)",
            char::from(op)
        )))
    }

    pub(super) fn too_old(version_num: u32) -> CaptureError {
        CaptureError(Kind::TooOld { version: version_num / 10_000 })
    }

    /// Only waiting helps, and it may well; `why` is the whole sentence.
    pub(super) fn not_yet(why: impl Into<String>) -> CaptureError {
        CaptureError(Kind::NotYet(why.into()))
    }

    pub(super) fn unfit_slot(slot: &str, why: String) -> CaptureError {
        CaptureError(Kind::UnfitSlot { slot: slot.to_owned(), why })
    }

    /// The stream broke, while the changes of the transaction committed at `commit_lsn` came.
    pub(super) fn streaming(source: PgError, commit_lsn: Option<Lsn>) -> CaptureError {
        CaptureError(Kind::Stream { source, commit_lsn })
    }

    pub(super) fn filter(table: String, source: PgError) -> CaptureError {
        CaptureError(Kind::Filter { table, source })
    }

    /// Adds what was being done to an error of the connection.
    pub(super) fn while_doing(doing: &'static str) -> impl FnOnce(PgError) -> CaptureError {
        move |source| CaptureError(Kind::Postgres { doing, source })
    }

    /// Whether only a person can decide how to go on (exit code 3).
    pub fn is_refusal(&self) -> bool {
        matches!(self.0, Kind::Refused(_))
    }

    /// Whether there is no outbox any more to take the rest from.
    pub(super) fn is_outbox_left(&self) -> bool {
        matches!(self.0, Kind::Refused(Refusal::OutboxLeft))
    }

    /// Whether the configuration does not fit the database: there is neither a slot nor a stored
    /// position, as `walhook setup` was never run, the slot is another kind of slot, or the server
    /// is too old.
    pub fn is_configuration(&self) -> bool {
        matches!(
            self.0,
            Kind::NotSetUp { .. }
                | Kind::NoOutbox
                | Kind::Switched { .. }
                | Kind::NotSwitched
                | Kind::Pooled { .. }
                | Kind::UnfitSlot { .. }
                | Kind::TooOld { .. }
        )
    }

    /// Whether the same may succeed after a while.
    pub(super) fn is_retryable(&self) -> bool {
        match &self.0 {
            Kind::Postgres { source, .. } | Kind::Stream { source, .. } => source.is_retryable(),
            Kind::Stalled(_) | Kind::NotYet(_) | Kind::Filter { .. } => true,
            Kind::Pooled { now } => *now,
            _ => false,
        }
    }

    /// Whether somebody else had locked what was wanted, for longer than we wait.
    pub(super) fn is_locked(&self) -> bool {
        matches!(&self.0, Kind::Postgres { source, .. } if source.sqlstate() == Some("55P03"))
    }

    /// Whether the server could not turn what it read into UTF-8.
    pub(super) fn is_untranslatable(&self) -> bool {
        matches!(&self.0, Kind::Postgres { source, .. } if source.is_untranslatable())
    }

    /// Whether it came from the connection at all, and not from what was said over it.
    pub(super) fn is_connection(&self) -> bool {
        matches!(self.0, Kind::Postgres { .. } | Kind::Stream { .. })
    }

    /// The transaction whose changes the server failed at, and its words for that, where trying
    /// again most likely ends the same way.
    pub(super) fn failed_at(&self) -> Option<(Lsn, &str)> {
        match &self.0 {
            Kind::Stream { source, commit_lsn: Some(lsn) } if !source.is_retryable() => {
                Some((*lsn, source.sqlstate()?))
            }
            _ => None,
        }
    }

    /// The sink's own error, if it is one.
    pub fn into_sink_error(self) -> Result<Box<dyn Error + Send + Sync>, CaptureError> {
        match self.0 {
            Kind::Sink(error) => Ok(error),
            kind => Err(CaptureError(kind)),
        }
    }

    pub(super) fn postgres(&self) -> Option<&PgError> {
        match &self.0 {
            Kind::Postgres { source, .. } | Kind::Stream { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<Refusal> for CaptureError {
    fn from(refusal: Refusal) -> CaptureError {
        CaptureError(Kind::Refused(refusal))
    }
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Refused(refusal) => refusal.fmt(f),
            Kind::NotSetUp { slot } => write!(
                f,
                "replication slot {slot:?} does not exist yet; create it and the publication with \
                 `walhook setup` (`--dry-run` shows the SQL), or set source.create = true to let \
                 `walhook run` do it"
            ),
            Kind::NoOutbox => f.write_str(
                "the outbox (table walhook.outbox) does not exist yet; create it and its triggers \
                 with `walhook setup` (`--dry-run` shows the SQL), or set source.create = true to \
                 let `walhook run` do it",
            ),
            Kind::Switched { lsn } => write!(
                f,
                "the triggers that fill the outbox gave way to logical replication at {lsn}: set \
                 source.capture = \"replication\" (what is left in the outbox is sent then, too), or \
                 run `walhook setup` to have triggers again"
            ),
            Kind::NotSwitched => f.write_str(
                "the journal's events come from the outbox, and triggers still fill it: run \
                 `walhook setup` with source.capture = \"replication\", which goes over to logical \
                 replication, or set source.capture = \"outbox\" again",
            ),
            Kind::Pooled { .. } => f.write_str(
                "source.url leads to a pooler that gives each transaction another session \
                 (pgbouncer's pool_mode = transaction), where the lock that keeps two walhooks apart \
                 does not hold: name the server itself, or a pool with pool_mode = session",
            ),
            Kind::TooOld { version } => write!(
                f,
                "PostgreSQL {version} is too old, walhook needs {} or newer: upgrade the server \
                 with pg_upgrade",
                OLDEST_VERSION_NUM / 10_000
            ),
            Kind::NotYet(why) => f.write_str(why),
            Kind::UnfitSlot { slot, why } => write!(
                f,
                "replication slot {slot:?} {why}, so walhook cannot read it: name another one with \
                 source.slot, and create it with `walhook setup`"
            ),
            Kind::Postgres { doing, source } => write!(f, "{doing}: {source}"),
            Kind::Stream { source, .. } => write!(f, "streaming changes: {source}"),
            Kind::Filter { table, source } => write!(
                f,
                "the stream waits, since the row filter of table {table} does not fit it: {source}; \
                 correct `where` of this table and send SIGHUP (nothing is lost meanwhile)"
            ),
            Kind::Protocol(message) => {
                write!(f, "the replication stream makes no sense: {message}")
            }
            Kind::Stalled(since) => write!(
                f,
                "nothing could be made durable for {} seconds, so the stream is left for a moment, \
                 as a server that is to shut down would wait for it",
                since.as_secs()
            ),
            Kind::Sink(error) => error.fmt(f),
        }
    }
}

impl Error for CaptureError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            Kind::Sink(error) => error.source(),
            _ => None,
        }
    }
}

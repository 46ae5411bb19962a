//! What capture yields.

use std::sync::Arc;
use std::time::Instant;

use crate::postgres::lsn::Lsn;
use crate::postgres::pgoutput::{OldTuple, TupleData};
use crate::postgres::relation::{Relation, RelationId, TypeKind};

/// How a database's changes are captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CaptureKind {
    /// From a replication slot.
    #[default]
    Replication,
    /// From a table that triggers fill.
    Outbox,
}

impl CaptureKind {
    /// The way of this name.
    pub fn named(name: &str) -> Option<CaptureKind> {
        [CaptureKind::Replication, CaptureKind::Outbox]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }

    /// As the configuration and events write it.
    pub fn as_str(self) -> &'static str {
        match self {
            CaptureKind::Replication => "replication",
            CaptureKind::Outbox => "outbox",
        }
    }
}

/// The transaction a change belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Where its commit record starts. Commit order is the order of these; for a non-transactional
    /// message, the message's own position.
    pub commit_lsn: Lsn,
    /// When it was committed, in microseconds since the Unix epoch, by the primary's clock.
    pub committed_at_us: i64,
    /// Its transaction id; 0 for a non-transactional message.
    pub xid: u32,
    /// Where the record of the change at hand starts, as the server sent it along: the one field
    /// that differs from change to change. Neither unique nor in order; tells where to look in the
    /// log, and nothing is decided by it.
    pub row_lsn: Lsn,
}

/// A row of an outbox, told from any other that ever had its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its number.
    pub id: i64,
    /// The transaction that wrote it.
    pub xid: u64,
    /// When, in microseconds since the Unix epoch, by the primary's clock.
    pub written_at_us: i64,
}

/// Which database is followed, and on which timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Unique to the cluster since its initdb; a physical copy shares it.
    pub system_identifier: u64,
    /// The timeline the server is on.
    pub timeline: u32,
    /// The database's name.
    pub database: String,
    /// The database's oid.
    pub database_oid: u32,
}

/// Where in the stream a change stands: no two share one. Changes from a slot are ordered by it.
///
/// From an outbox, `commit_lsn` holds the row's number there instead: those of one record ascend,
/// those of several transactions come in whatever order they were committed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// See [`Transaction::commit_lsn`].
    pub commit_lsn: Lsn,
    /// The change's place inside its transaction, counted from 0 before any filter, so that it is
    /// the same on every replay.
    pub ordinal: u64,
}

/// One committed change, in the database's words. Borrows from the receive buffer.
#[derive(Debug)]
pub enum Change<'a> {
    /// A row was inserted.
    Insert {
        /// Its table.
        relation: &'a Arc<Relation>,
        /// The row.
        new: TupleData<'a>,
    },
    /// A row was updated.
    Update {
        /// Its table.
        relation: &'a Arc<Relation>,
        /// What the replica identity tells of the old row.
        old: Option<OldTuple<'a>>,
        /// The new row; large values that did not change may be missing.
        new: TupleData<'a>,
    },
    /// A row was deleted.
    Delete {
        /// Its table.
        relation: &'a Arc<Relation>,
        /// What the replica identity tells of it.
        old: OldTuple<'a>,
    },
    /// A table was emptied. A TRUNCATE of several tables yields one of these for each.
    Truncate {
        /// The table.
        relation: &'a Arc<Relation>,
    },
    /// What a trigger recorded: an insert, update, delete or truncation.
    Recorded(Recorded<'a>),
    /// `pg_logical_emit_message`, or `walhook.emit`.
    Message {
        /// Who it is for.
        prefix: &'a [u8],
        /// What it says.
        content: &'a [u8],
    },
}

/// A change that a trigger recorded. The rows are JSON objects as `row_to_json` writes them: columns
/// in the table's order, those that are not wanted left out.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// What happened.
    pub kind: RecordedKind,
    /// The table.
    pub table: &'a Arc<RecordedTable>,
    /// The row as it was, of updates and deletes.
    pub old: Option<&'a str>,
    /// The row as it is, of inserts and updates.
    pub new: Option<&'a str>,
}

/// See [`Recorded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordedKind {
    /// A row was inserted.
    Insert,
    /// A row was updated.
    Update,
    /// A row was deleted.
    Delete,
    /// The table was emptied.
    Truncate,
}

/// A table as a trigger saw it, completed from the catalog.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedTable {
    /// Its oid: of a partition, that of the partitioned table at the top.
    pub id: RelationId,
    /// Its schema when the change was made.
    pub schema: String,
    /// Its name when the change was made.
    pub name: String,
    /// The columns of its primary key, in the table's order; empty where it has none.
    pub key: Vec<String>,
    /// What the catalog says of its columns now, by name; empty for a table that is gone.
    pub columns: Vec<(String, TypeKind)>,
    /// Columns that rows have without their values: triggers do not see those of virtual generated
    /// columns.
    pub unseen: Vec<String>,
}

/// Who takes the changes. Called on capture's own thread, in stream order.
///
/// [`change`](ChangeSink::change) and [`caught_up_to`](ChangeSink::caught_up_to) only gather and
/// must not wait; [`hand_over`](ChangeSink::hand_over) may wait, but no longer than it is told, so
/// that capture can keep the server informed meanwhile.
pub trait ChangeSink {
    /// Why a change could not be taken; it ends capture.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The stream is about to begin, or to go on after an interruption, on this source, at
    /// `resume_lsn` and behind `position`: the last change yielded, or none if the stream starts
    /// afresh. Nothing was yielded from it yet; what was gathered before stays gathered.
    ///
    /// A stream that starts afresh, or on another timeline, may start before [`durable_lsn`](ChangeSink::durable_lsn), which
    /// must not be beyond `resume_lsn` any more afterwards. May wait.
    fn connected(
        &mut self,
        source: &Source,
        position: Option<Position>,
        resume_lsn: Lsn,
    ) -> Result<(), Self::Error>;

    /// The stream is about to begin, as somebody asked for, where changes are lost; `why` is the
    /// sentence that refused it before. Comes right before [`connected`](ChangeSink::connected),
    /// and again if that could not be finished.
    fn gap_accepted(&mut self, why: &str) {
        let _ = why;
    }

    /// One change at `position`, which is beyond every earlier one.
    fn change(
        &mut self,
        transaction: &Transaction,
        position: Position,
        change: &Change<'_>,
    ) -> Result<(), Self::Error>;

    /// Everything before `resume_lsn` has been yielded: the stream may go on from there. Called
    /// after each commit (with the end of the commit record), and when the server says that
    /// nothing of interest happened up to there.
    fn caught_up_to(&mut self, resume_lsn: Lsn) -> Result<(), Self::Error>;

    /// Passes on what was gathered, waiting for room until `deadline` at most. `true` when nothing
    /// is left over. Capture calls it when no more input is at hand, and when
    /// [`is_full`](ChangeSink::is_full); it reads on only after a `true`.
    fn hand_over(&mut self, deadline: Instant) -> Result<bool, Self::Error>;

    /// Whether enough was gathered that it should be handed over before anything is added.
    fn is_full(&self) -> bool;

    /// Up to where everything is on stable storage: what the server may be told.
    fn durable_lsn(&self) -> Lsn;

    /// This row of the outbox was taken, with all that [`change`](ChangeSink::change) and
    /// [`lost`](ChangeSink::lost) said since the last one. It is to be stored with that, for if the
    /// row is there again after a crash, it must not be taken again.
    fn took(&mut self, row: OutboxRow) {
        let _ = row;
    }

    /// All rows taken so far are deleted from the outbox for good.
    fn deleted(&mut self) {}

    /// Changes that will make no event, as many as is known, and why.
    fn lost(&mut self, changes: Option<u64>, why: String) {
        let _ = (changes, why);
    }

    /// Moves [`durable_lsn`](ChangeSink::durable_lsn) up to what was handed over, waiting until
    /// `deadline` at most; `true` when that is done.
    fn make_durable(&mut self, deadline: Instant) -> Result<bool, Self::Error> {
        let _ = deadline;
        Ok(true)
    }
}

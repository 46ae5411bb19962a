//! What goes into the journal and what comes out: plain values.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::capture::{CaptureKind, OutboxRow, Position};
use crate::event::{EventBatch, EventId, Lanes};
use crate::postgres::lsn::Lsn;

use super::stored::StoredEvent;

/// Where the journal is and how much it keeps.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// The file. Beside it lie `<path>-wal` and `<path>-shm` of SQLite, and `<path>.lock`.
    pub path: PathBuf,
    /// How long an event is kept after it was journaled, delivered or not.
    pub retain: Duration,
    /// How large the file's content may get, in bytes; the oldest events go first.
    pub max_size_bytes: u64,
    /// How often what was written is made durable.
    pub durable_every: Duration,
}

impl JournalOptions {
    /// A journal at `path` that keeps 7 days and 10 GiB and is made durable every 200 ms.
    pub fn new(path: impl Into<PathBuf>) -> JournalOptions {
        JournalOptions {
            path: path.into(),
            retain: Duration::from_secs(7 * 24 * 60 * 60),
            max_size_bytes: 10 << 30,
            durable_every: Duration::from_millis(200),
        }
    }
}

/// An event's number in the journal: 1 for the first, one more for each, never used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub i64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The database the journal's events come from. A journal belongs to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceIdentity {
    /// The cluster's identifier, from IDENTIFY_SYSTEM.
    pub system_identifier: u64,
    /// The database's oid.
    pub database_oid: u32,
    /// The database's name.
    pub database: String,
    /// The timeline last followed.
    pub timeline: u32,
    /// How its changes are captured.
    pub capture: CaptureKind,
    /// The replication slot; empty where there is none.
    pub slot: String,
}

/// How far the stream has been journaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last change taken: what is at or before it comes again after a restart and is skipped.
    pub position: Position,
    /// Where the stream may go on; what the slot may be told once it is durable.
    pub resume_lsn: Lsn,
}

/// Events and the position they lead to: written together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Append {
    /// In the stream's order, behind all earlier ones. May be empty, to move the checkpoint alone.
    pub events: EventBatch,
    /// How far the stream was taken with them.
    pub checkpoint: Checkpoint,
    /// Whether the rows of all earlier appends are known to be deleted from the outbox.
    pub deleted: bool,
    /// The rows of the outbox that this is all about. They are remembered until it is said that
    /// they are deleted.
    pub taken: Vec<OutboxRow>,
    /// How many changes those rows say are lost: these are counted.
    pub lost: u64,
}

/// An endpoint's number in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub i64);

/// Where an endpoint starts when it is first seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the next event that is journaled.
    #[default]
    Now,
    /// With the oldest event still there.
    Earliest,
    /// Behind this event.
    After(Seq),
    /// Behind the event of this id, which the journal must hold.
    AfterId(EventId),
}

/// What the journal knows of an endpoint when its dispatcher starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointState {
    /// Its number.
    pub endpoint: EndpointId,
    /// The last event taken from the stream.
    pub cursor: Seq,
    /// How many events at or before the cursor it wanted.
    pub sequence: u64,
    /// Events at or before the cursor that were neither done nor parked, ascending: they run first.
    pub in_flight: Vec<Listed>,
    /// Each lane with waiting or blocked deliveries, and how many.
    pub parked: Vec<(i64, u32)>,
    /// How many deliveries wait for their retry.
    pub waiting: u64,
    /// How many are blocked behind those.
    pub blocked: u64,
    /// How many are dead.
    pub dead: u64,
    /// When the first retry is due, milliseconds since the Unix epoch.
    pub next_due_ms: Option<i64>,
    /// Why it is disabled, if it is.
    pub disabled: Option<String>,
    /// When the first failure ended since the last success, milliseconds since the Unix epoch.
    pub failing_since_ms: Option<i64>,
    /// Whether that was reported.
    pub failing_told: bool,
    /// What it gets once more before anything new.
    pub replay: Option<Replay>,
}

/// An event that was taken from the stream for an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its number in the journal.
    pub seq: Seq,
    /// Its number among the events that the endpoint wanted, from 1, which the receiver is told as
    /// `webhook-sequence`; 0 where it has none, since it is sent once more.
    pub sequence: u64,
}

/// Events an endpoint gets once more, in order, before anything new.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// The last event of the stream it had taken before: what follows is new.
    pub until: Seq,
    /// The last one to be sent once more; those behind it up to `until` are passed over.
    pub last: Seq,
    /// Which of them, by patterns for their names; all where it is empty.
    pub events: Vec<String>,
    /// Those up to `until` that were still to be delivered when the replay was ordered, ascending:
    /// they are sent in their places, whatever `last` and `events` say.
    pub pending: Vec<Listed>,
}

/// What a dispatcher has learnt since its last settlement. Applied whole or not at all.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// Whose.
    pub endpoint: EndpointId,
    /// The last event taken from the stream; a lower one than stored is ignored.
    pub cursor: Seq,
    /// How many events at or before `cursor` it wanted.
    pub sequence: u64,
    /// Every event at or before `cursor` that is neither done nor parked, after this settlement.
    pub in_flight: Vec<Listed>,
    /// What came of deliveries.
    pub outcomes: Vec<Outcome>,
    /// Deliveries that must wait behind another one on their lanes.
    pub parks: Vec<Park>,
    /// The HTTP requests made, for the log.
    pub attempts: Vec<AttemptRecord>,
    /// Whether it was reported that the endpoint fails, and not yet that it recovered.
    pub failing_told: bool,
}

impl Settlement {
    /// A settlement that only says how far the stream was taken.
    pub fn new(endpoint: EndpointId, cursor: Seq) -> Settlement {
        Settlement {
            endpoint,
            cursor,
            sequence: 0,
            in_flight: Vec::new(),
            outcomes: Vec::new(),
            parks: Vec::new(),
            attempts: Vec::new(),
            failing_told: false,
        }
    }
}

/// What came of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The event.
    pub seq: Seq,
    /// Its [`sequence`](Listed::sequence).
    pub sequence: u64,
    /// What came of it.
    pub kind: OutcomeKind,
}

/// See [`Outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeKind {
    /// Accepted by the endpoint, or skipped by the dispatcher: nothing is left to do.
    Succeeded,
    /// To be tried again.
    Waiting {
        /// When, milliseconds since the Unix epoch.
        due_at_ms: i64,
        /// How often it was tried so far.
        attempts: u32,
        /// The lanes it holds meanwhile; ignored where the delivery is parked already.
        lanes: Lanes,
    },
    /// Given up: kept and listed, but it holds nothing any more.
    Dead {
        /// How often it was tried.
        attempts: u32,
        /// Its lanes, for the day it is tried again by hand.
        lanes: Lanes,
    },
}

/// A delivery that goes behind others of its lanes, unless it turns out to be first on all of them
/// by now: then it is due at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Park {
    /// The event.
    pub seq: Seq,
    /// Its [`sequence`](Listed::sequence).
    pub sequence: u64,
    /// How often it was tried so far: more than 0 where it went out behind another one of its lane
    /// in one request.
    pub attempts: u32,
    /// Its lanes.
    pub lanes: Lanes,
}

/// One HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    /// The event; the first one of a request with several.
    pub seq: Seq,
    /// The other events of the request.
    pub others: Vec<Seq>,
    /// How many of its events it did not deliver.
    pub failed_events: u32,
    /// Which try it was, from 1.
    pub attempt: u32,
    /// When it started, milliseconds since the Unix epoch.
    pub started_at_ms: i64,
    /// How long it took, microseconds.
    pub duration_us: u32,
    /// The answer's status, if one came.
    pub status: Option<u16>,
    /// Why it failed; `None` for a success.
    pub error: Option<String>,
    /// The answer's status line and headers, of failures only.
    pub head: Option<String>,
    /// The beginning of the answer's body, of failures only.
    pub response: Option<Vec<u8>>,
}

impl AttemptRecord {
    /// Whether the endpoint accepted all of it.
    pub fn succeeded(&self) -> bool {
        self.error.is_none()
    }
}

/// What a settlement brought about, as committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Blocked deliveries that are due now.
    pub promoted: Vec<Seq>,
    /// Each lane the settlement touched, by adding to it or taking from it, and how many waiting or
    /// blocked deliveries it has now. A lane at 0 is free.
    pub freed_lanes: Vec<(i64, u32)>,
    /// When the first of all waiting deliveries is due. Those being tried right now count: their
    /// rows wait until their outcome is settled.
    pub next_due_ms: Option<i64>,
}

/// Deliveries whose retry is due.
#[derive(Clone, Debug, Default)]
pub struct Due {
    /// By due time, then number.
    pub deliveries: Vec<DueDelivery>,
    /// When the first waiting delivery that is not among `deliveries` (nor was excluded) is due;
    /// already past when the limit cut the list.
    pub next_due_ms: Option<i64>,
}

/// One of [`Due`].
#[derive(Clone, Debug)]
pub struct DueDelivery {
    /// The event's number.
    pub seq: Seq,
    /// Its [`sequence`](Listed::sequence).
    pub sequence: u64,
    /// How often it was tried so far; 0 for one that was only blocked.
    pub attempts: u32,
    /// The event.
    pub event: StoredEvent,
}

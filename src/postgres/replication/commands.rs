//! The commands of the replication protocol.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, Message};
use postgres_protocol::message::frontend;

use super::startup::ReplicationClient;
use super::stream::ReplicationStream;
use super::wire::{Doing, Reply};
use crate::postgres::error::{PgError, ServerError, Stage};
use crate::postgres::lsn::Lsn;
use crate::postgres::sql::{quote_ident, quoted};

/// Commands that answer from memory.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// How long one wait for open transactions may take while a slot is created. There is one for each
/// of several phases.
pub(super) const SLOT_LOCK_TIMEOUT: Duration = Duration::from_secs(30);
const CREATE_SLOT_TIMEOUT: Duration = Duration::from_secs(600);

/// More rows than any command yields.
const MAX_ROWS: usize = 10_000;

/// To be compared with what another connection says.
pub(crate) const POSTMASTER_START_TIME: &str =
    "SELECT extract(epoch from pg_catalog.pg_postmaster_start_time())::text";

/// The values of one row in text form; `None` is null.
pub(crate) type Row = Vec<Option<Vec<u8>>>;

/// Which cluster this is and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemIdentity {
    /// Set once by initdb; a base backup or clone shares it.
    pub system_identifier: u64,
    /// Counted up by each promotion of a standby.
    pub timeline: u32,
    /// The end of what is flushed to the log.
    pub xlogpos: Lsn,
    /// The database connected to.
    pub database: Option<String>,
}

/// A place where the cluster's history went on on another timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimelineSwitch {
    /// The timeline that ended.
    pub timeline: u32,
    /// Where it ended.
    pub switch_lsn: Lsn,
}

/// How to create a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreateSlot {
    /// Dropped by the server when this connection ends.
    pub temporary: bool,
    /// Synchronised to standbys, so that it survives a failover (from version 17 on).
    pub failover: bool,
    /// Whether to keep a snapshot of the moment the slot begins.
    pub snapshot: Snapshot,
}

/// What becomes of the snapshot a new slot begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Snapshot {
    /// None is kept.
    #[default]
    None,
    /// Exported by name, for `SET TRANSACTION SNAPSHOT` on other connections; it is valid until
    /// the next command on this one.
    Export,
}

/// A slot that was just created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedSlot {
    /// Transactions that commit after this are in the slot, those before are in the snapshot.
    pub consistent_point: Lsn,
    /// The name of the exported snapshot.
    pub snapshot_name: Option<String>,
}

/// How to stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartOptions {
    /// Also stream what `pg_logical_emit_message` writes (from version 14 on).
    pub messages: bool,
    /// Don't stream what was brought from another server under a replication origin (from version
    /// 16 on; an older server streams it all the same, with an Origin message in front).
    pub local_only: bool,
}

impl ReplicationClient {
    /// IDENTIFY_SYSTEM.
    pub fn identify_system(&mut self) -> Result<SystemIdentity, PgError> {
        let doing = Doing { stage: Stage::Command, what: "could not identify the system" };
        let rows = self.command("IDENTIFY_SYSTEM", doing)?;
        let identity = rows.first().and_then(|row| {
            Some(SystemIdentity {
                system_identifier: text(row, 0)?.parse().ok()?,
                timeline: text(row, 1)?.parse().ok()?,
                xlogpos: text(row, 2)?.parse().ok()?,
                database: text(row, 3).map(str::to_owned),
            })
        });
        identity.ok_or_else(|| self.nonsense(doing))
    }

    /// TIMELINE_HISTORY: where each timeline before `timeline` ended, oldest first. Empty for the
    /// first timeline.
    pub fn timeline_history(&mut self, timeline: u32) -> Result<Vec<TimelineSwitch>, PgError> {
        if timeline <= 1 {
            return Ok(Vec::new());
        }
        let doing = Doing { stage: Stage::Command, what: "could not read the timeline's history" };
        let rows = self.command(&format!("TIMELINE_HISTORY {timeline}"), doing)?;
        let content = rows.first().and_then(|row| row.get(1)).and_then(Option::as_deref);
        content.and_then(parse_history).ok_or_else(|| self.nonsense(doing))
    }

    /// Has text sent as the bytes that the database holds. Only for a database of the encoding
    /// SQL_ASCII, which says nothing of what they mean; any other's are converted to UTF-8.
    pub fn take_raw_text(&mut self) -> Result<(), PgError> {
        let doing = Doing { stage: Stage::Command, what: "could not set the encoding as" };
        self.command("SET client_encoding TO 'SQL_ASCII'", doing).map(drop)
    }

    /// How long [`create_slot`](Self::create_slot) waits for open write transactions, 30 seconds
    /// unless set otherwise. Whole milliseconds count, at least one.
    pub fn set_slot_lock_timeout(&mut self, timeout: Duration) {
        self.slot_lock_timeout = timeout;
    }

    /// CREATE_REPLICATION_SLOT for pgoutput.
    ///
    /// The server first waits for the write transactions that are open to end. When that takes too
    /// long (see [`set_slot_lock_timeout`](Self::set_slot_lock_timeout)), the error says so.
    pub fn create_slot(&mut self, name: &str, options: CreateSlot) -> Result<CreatedSlot, PgError> {
        let what = format!("could not create the replication slot {name:?} as");
        let doing = Doing { stage: Stage::Command, what: &what };
        if options.failover && self.server_version_num() < 170_000 {
            return Err(PgError::invalid(format!(
                "could not create the replication slot {name:?}: failover slots need Postgres 17"
            )));
        }
        let timeout_ms = self.slot_lock_timeout.as_millis().clamp(1, i32::MAX as u128);
        self.command(&format!("SET lock_timeout = {timeout_ms}"), doing)?;
        let deadline = Instant::now() + CREATE_SLOT_TIMEOUT;
        let rows = self.query(&create_slot_command(name, options), doing, deadline);
        let rows = rows.map_err(|error| match error.sqlstate() {
            Some("55P03") => error.or_remedy(
                "it waits for the write transactions that were open when it began: find them with \
                 SELECT pid, xact_start, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL, \
                 and try again when they have ended",
            ),
            _ => error,
        })?;
        let created = rows.first().and_then(|row| {
            Some(CreatedSlot {
                consistent_point: text(row, 1)?.parse().ok()?,
                snapshot_name: text(row, 2).map(str::to_owned),
            })
        });
        created.ok_or_else(|| self.nonsense(doing))
    }

    /// DROP_REPLICATION_SLOT. Fails when the slot is in use.
    pub fn drop_slot(&mut self, name: &str) -> Result<(), PgError> {
        let what = format!("could not drop the replication slot {name:?} as");
        let doing = Doing { stage: Stage::Command, what: &what };
        self.command(&format!("DROP_REPLICATION_SLOT {}", quote_ident(name)), doing).map(drop)
    }

    /// START_REPLICATION with pgoutput, protocol version 1: whole transactions in commit order,
    /// those that commit after `start_lsn` or the slot's confirmed position, whichever is later.
    ///
    /// # Errors
    ///
    /// See [`PgError::is_slot_in_use`] and [`PgError::is_slot_lost`]. That a publication doesn't
    /// exist shows while streaming.
    pub fn start(
        mut self,
        slot: &str,
        start_lsn: Lsn,
        publications: &[String],
        options: StartOptions,
    ) -> Result<ReplicationStream, PgError> {
        let what = format!("could not start streaming from the replication slot {slot:?} as");
        let doing = Doing { stage: Stage::Start, what: &what };
        if publications.is_empty() {
            return Err(PgError::invalid("streaming needs at least one publication"));
        }
        let messages = options.messages && self.server_version_num() >= 140_000;
        let local_only = options.local_only && self.server_version_num() >= 160_000;
        let options = StartOptions { messages, local_only };
        let command = start_command(slot, start_lsn, publications, options);
        let deadline = Instant::now() + COMMAND_TIMEOUT;
        self.send_query(&command, doing)?;
        match self.wire.reply(deadline, doing)? {
            Reply::CopyBoth => Ok(ReplicationStream::new(self.wire, slot)),
            Reply::Message(Message::ErrorResponse(body)) => {
                let error = ServerError::parse(body.fields());
                Err(PgError::server(self.wire.context(doing), doing.stage, error))
            }
            Reply::Message(_) => Err(self.nonsense(doing)),
        }
    }

    /// ALTER_REPLICATION_SLOT: whether standbys keep a copy of the slot (from version 17 on).
    ///
    /// # Errors
    /// See [`PgError::is_slot_in_use`]: nobody may be reading it.
    pub fn alter_slot_failover(&mut self, name: &str, failover: bool) -> Result<(), PgError> {
        let what = format!("could not alter the replication slot {name:?} as");
        let doing = Doing { stage: Stage::Command, what: &what };
        self.command(&alter_slot_command(name, failover), doing).map(drop)
    }

    /// Tells one server from another: no two were started at the same microsecond. As text.
    pub(crate) fn postmaster_start_time(&mut self) -> Result<String, PgError> {
        let doing = Doing { stage: Stage::Command, what: "could not ask when the server started" };
        let rows = self.command(POSTMASTER_START_TIME, doing)?;
        let started = rows.first().and_then(|row| text(row, 0)).map(str::to_owned);
        started.ok_or_else(|| self.nonsense(doing))
    }

    /// A plain statement: a walsender that is connected to a database takes those, too.
    pub(crate) fn sql(&mut self, sql: &str) -> Result<Vec<Row>, PgError> {
        self.command(sql, Doing { stage: Stage::Command, what: "a statement failed as" })
    }

    fn command(&mut self, sql: &str, doing: Doing<'_>) -> Result<Vec<Row>, PgError> {
        self.query(sql, doing, Instant::now() + COMMAND_TIMEOUT)
    }

    /// A command or simple query, to its end.
    pub(super) fn query(
        &mut self,
        sql: &str,
        doing: Doing<'_>,
        deadline: Instant,
    ) -> Result<Vec<Row>, PgError> {
        self.send_query(sql, doing)?;
        let mut rows = Vec::new();
        let mut refusal = None;
        loop {
            match self.wire.reply(deadline, doing)? {
                Reply::Message(Message::DataRow(body)) if rows.len() < MAX_ROWS => {
                    rows.push(row(&body).ok_or_else(|| self.nonsense(doing))?);
                }
                Reply::Message(Message::ErrorResponse(body)) => {
                    let error = ServerError::parse(body.fields());
                    let error = PgError::server(self.wire.context(doing), doing.stage, error);
                    refusal = Some(error);
                }
                Reply::Message(Message::ReadyForQuery(_)) => return refusal.map_or(Ok(rows), Err),
                Reply::Message(
                    Message::RowDescription(_)
                    | Message::CommandComplete(_)
                    | Message::EmptyQueryResponse,
                ) => {}
                _ => return Err(refusal.unwrap_or_else(|| self.nonsense(doing))),
            }
        }
    }

    fn send_query(&mut self, sql: &str, doing: Doing<'_>) -> Result<(), PgError> {
        let mut buf = BytesMut::new();
        frontend::query(sql, &mut buf).map_err(|_| {
            PgError::invalid(format!("{}: a name contains a zero byte", self.wire.context(doing)))
        })?;
        self.wire.send(&buf, doing)
    }

    fn nonsense(&self, doing: Doing<'_>) -> PgError {
        self.wire.protocol(doing, "the server's answer makes no sense")
    }
}

fn row(body: &DataRowBody) -> Option<Row> {
    let value = |range: Option<std::ops::Range<usize>>| match range {
        Some(range) => Ok(Some(body.buffer().get(range).unwrap_or_default().to_vec())),
        None => Ok(None),
    };
    body.ranges().map(value).collect().ok()
}

fn text(row: &Row, column: usize) -> Option<&str> {
    std::str::from_utf8(row.get(column)?.as_deref()?).ok()
}

/// The lines of a timeline history file: `timeline <tab> switch point <tab> reason`.
fn parse_history(content: &[u8]) -> Option<Vec<TimelineSwitch>> {
    let content = String::from_utf8_lossy(content);
    let lines = content.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            let timeline = words.next()?.parse().ok()?;
            Some(TimelineSwitch { timeline, switch_lsn: words.next()?.parse().ok()? })
        })
        .collect()
}

/// The bare words work from version 14 on; the list in parentheses, from 15 on, is needed only for
/// what is newer.
fn create_slot_command(name: &str, options: CreateSlot) -> String {
    let temporary = if options.temporary { " TEMPORARY" } else { "" };
    let rest = match (options.failover, options.snapshot) {
        (false, Snapshot::None) => "NOEXPORT_SNAPSHOT",
        (false, Snapshot::Export) => "EXPORT_SNAPSHOT",
        (true, Snapshot::None) => "(SNAPSHOT 'nothing', FAILOVER true)",
        (true, Snapshot::Export) => "(SNAPSHOT 'export', FAILOVER true)",
    };
    format!("CREATE_REPLICATION_SLOT {}{temporary} LOGICAL pgoutput {rest}", quote_ident(name))
}

/// The command of [`ReplicationClient::alter_slot_failover`].
pub(crate) fn alter_slot_command(name: &str, failover: bool) -> String {
    format!("ALTER_REPLICATION_SLOT {} (FAILOVER {failover})", quote_ident(name))
}

/// The publications are a list of identifiers inside a literal.
fn start_command(
    slot: &str,
    start_lsn: Lsn,
    publications: &[String],
    options: StartOptions,
) -> String {
    let names: Vec<String> = publications.iter().map(|name| quote_ident(name)).collect();
    format!(
        "START_REPLICATION SLOT {} LOGICAL {start_lsn} (proto_version '1', publication_names {}{}{})",
        quote_ident(slot),
        quoted(&names.join(","), '\''),
        if options.messages { ", messages 'true'" } else { "" },
        if options.local_only { ", origin 'none'" } else { "" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_names() {
        let names = ["a'b".to_owned(), "c\"d, e".to_owned()];
        assert_eq!(
            start_command(
                "s\"; DROP",
                Lsn(0x1_0000_0002),
                &names,
                StartOptions { messages: true, local_only: true }
            ),
            "START_REPLICATION SLOT \"s\"\"; DROP\" LOGICAL 1/2 (proto_version '1', \
             publication_names '\"a''b\",\"c\"\"d, e\"', messages 'true', origin 'none')"
        );
    }

    #[test]
    fn slots_are_created_in_words_every_version_knows() {
        let create = |options| create_slot_command("w", options);
        assert_eq!(
            create(CreateSlot::default()),
            "CREATE_REPLICATION_SLOT \"w\" LOGICAL pgoutput NOEXPORT_SNAPSHOT"
        );
        let options = CreateSlot { temporary: true, failover: true, snapshot: Snapshot::Export };
        assert_eq!(
            create(options),
            "CREATE_REPLICATION_SLOT \"w\" TEMPORARY LOGICAL pgoutput (SNAPSHOT 'export', \
             FAILOVER true)"
        );
    }

    #[test]
    fn histories_are_read() {
        let history = b"# comment\n1\t0/5000098\tno recovery target specified\n\n2\t1/A\tbefore\n";
        assert_eq!(
            parse_history(history),
            Some(vec![
                TimelineSwitch { timeline: 1, switch_lsn: Lsn(0x500_0098) },
                TimelineSwitch { timeline: 2, switch_lsn: Lsn(0x1_0000_000A) },
            ])
        );
        assert_eq!(parse_history(b"one\t0/0\n"), None);
    }
}

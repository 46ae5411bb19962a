//! The status for people.

use std::fmt::Write as _;

use super::Status;
use crate::capture::CaptureKind;
use crate::cli::report::{ago, bytes, counted, rough, until};
use crate::journal::{EndpointStatus, JournalStatus};
use crate::postgres::slot::{SlotInfo, WalStatus};
use crate::source::OutboxPolicy;
use crate::source::status::{DatabaseStatus, OutboxStatus};
use crate::terminal::one_line;

/// Lines of a heading and what belongs to it.
struct Lines(String);

impl Lines {
    fn head(&mut self, heading: &str, text: &str) {
        // writing to a String cannot fail
        let _ = writeln!(self.0, "{heading:<12} {}", one_line(text));
    }

    fn more(&mut self, text: &str) {
        self.head("", text);
    }
}

pub(super) fn of(status: &Status) -> String {
    let mut lines = Lines(String::new());
    match &status.database {
        Ok(database) => source(&mut lines, &status.connection, status.capture, database),
        Err(error) => {
            lines.head("source", &status.connection);
            lines.more(&format!("error: {error}"));
        }
    }
    match &status.journal {
        Ok(Some(journal)) => {
            journal_of(&mut lines, &status.journal_path, journal);
            for state in &journal.endpoints {
                endpoint(&mut lines, state);
                if status.is_configured(&state.name) == Some(false) {
                    lines.more(&format!(
                        "not in the configuration; `walhook endpoints forget {}` lets go of it",
                        state.name
                    ));
                }
            }
        }
        Ok(None) => {
            let text = format!("{} does not exist yet: `run` creates it", status.journal_path);
            lines.head("journal", &text);
        }
        Err(error) => lines.head("journal", &format!("error: {error}")),
    }
    lines.0
}

fn source(lines: &mut Lines, connection: &str, capture: CaptureKind, database: &DatabaseStatus) {
    lines.head("source", &format!("{connection}, PostgreSQL {}", database.server.version));
    if capture == CaptureKind::Outbox {
        return match &database.outbox {
            None => lines.head("outbox", "does not exist: `walhook setup` creates it"),
            Some(info) => outbox(lines, info),
        };
    }
    match &database.publication {
        None => lines.head("publication", "does not exist: `walhook setup` creates it"),
        Some(publication) => {
            let tables = match publication.tables.len() {
                _ if publication.all_tables => "all tables".to_owned(),
                count => counted(count, "table"),
            };
            lines.head("publication", &format!("{} of {tables}", publication.name));
        }
    }
    match &database.slot {
        None => lines.head("slot", "does not exist: `walhook setup` creates it"),
        Some(info) => slot(lines, info, database),
    }
}

fn outbox(lines: &mut Lines, outbox: &OutboxStatus) {
    let state = match outbox.drained_by {
        Some(pid) => format!("being drained (process {pid})"),
        None => "nobody drains it".to_owned(),
    };
    lines.head("outbox", &format!("of {}, {state}", counted(outbox.tables, "table")));
    let about = if outbox.exact { "" } else { "about " };
    let oldest = match outbox.oldest {
        Some(age) => format!(", the oldest for {}", rough(age)),
        None => String::new(),
    };
    let beyond = match outbox.policy {
        OutboxPolicy::BlockNever => "it grows on beyond",
        OutboxPolicy::DropOldest => "the oldest are dropped beyond",
    };
    lines.more(&format!(
        "{about}{} rows wait{oldest}; {beyond} {} of them",
        outbox.rows, outbox.max_rows
    ));
    lines.more(&format!("it takes {}", bytes(outbox.bytes)));
    if outbox.dropped > 0 {
        lines.more(&format!(
            "{} more were dropped unread, which walhook has yet to tell as walhook.gap",
            outbox.dropped
        ));
    }
    for (schema, name) in &outbox.unfit {
        lines.more(&format!(
            "the triggers of {schema}.{name} are missing or not as they should be: `walhook setup`"
        ));
    }
}

fn slot(lines: &mut Lines, slot: &SlotInfo, database: &DatabaseStatus) {
    let state = match slot.active_pid {
        _ if slot.is_lost() => "lost: `walhook check` says what to do".to_owned(),
        Some(pid) => format!("streaming (process {pid})"),
        None if slot.active => "in use".to_owned(),
        None => "nobody reads it".to_owned(),
    };
    lines.head("slot", &format!("{}, {state}", slot.name));
    let since = match database.flush_lag {
        Some(lag) => format!(" and {}", rough(lag)),
        None => String::new(),
    };
    let confirmed = slot.confirmed_flush_lsn.map_or("nothing".to_owned(), |lsn| lsn.to_string());
    lines.more(&format!(
        "confirmed {confirmed} of {}: {}{since} behind",
        slot.current_wal_lsn,
        bytes(slot.lag_bytes())
    ));
    let kept = slot.wal_status.map_or("unknown", WalStatus::as_str);
    let room = match slot.safe_wal_size {
        Some(left) => format!(", {} left", bytes(left.max(0).cast_unsigned())),
        None => String::new(),
    };
    lines.more(&format!("retained log {} ({kept}{room})", bytes(slot.retained_bytes())));
}

fn journal_of(lines: &mut Lines, path: &str, journal: &JournalStatus) {
    let events = &journal.events;
    let age = match events.oldest_committed_at_us {
        Some(at_us) => format!(", the oldest from {}", ago(at_us / 1_000)),
        None => String::new(),
    };
    lines.head("journal", &format!("{path}, {}", bytes(journal.size_bytes)));
    lines.more(&format!("{} events kept of {} so far{age}", events.count, events.last_seq.0));
    let capture = journal.identity.as_ref().map(|identity| identity.capture);
    // Of an outbox, these only count batches.
    let checkpoint = journal.checkpoint.filter(|_| capture != Some(CaptureKind::Outbox));
    if journal.outbox_lost > 0 {
        lines.more(&format!(
            "{} changes make no event, as the outbox dropped them or a trigger could not record them",
            journal.outbox_lost
        ));
    }
    if let Some(checkpoint) = checkpoint {
        lines.more(&format!(
            "journaled up to {}, durable up to {}",
            checkpoint.resume_lsn, journal.durable_lsn
        ));
    }
}

fn endpoint(lines: &mut Lines, endpoint: &EndpointStatus) {
    let state = match (&endpoint.disabled, endpoint.waiting) {
        (Some(reason), _) => format!(
            "disabled: {reason}; {} to deliver once `walhook endpoints enable {}` is said",
            endpoint.backlog, endpoint.name
        ),
        (None, 0) if endpoint.backlog == 0 => "up to date".to_owned(),
        (None, 0) => format!("{} to deliver", endpoint.backlog),
        (None, _) => format!(
            "{} to deliver, of which {} wait for a retry and {} behind those",
            endpoint.backlog, endpoint.waiting, endpoint.blocked
        ),
    };
    lines.head("endpoint", &format!("{}: {state}", endpoint.name));
    let mut counts = format!(
        "{} succeeded and {} failed attempts, {} dead deliveries",
        endpoint.succeeded, endpoint.failed, endpoint.dead
    );
    if endpoint.dropped > 0 {
        let _ = write!(counts, ", {} dropped by retention", endpoint.dropped);
    }
    lines.more(&counts);
    lines.more(&format!("the last webhook-sequence is {}", endpoint.sequence));
    if endpoint.replaying.is_some() {
        lines.more("a replay is under way: what is new comes after it");
    }
    if let (Some(since_ms), None) = (endpoint.failing_since_ms, &endpoint.disabled) {
        let next = endpoint.next_due_ms.filter(|_| endpoint.waiting > 0).map(until);
        let next = next.map_or(String::new(), |next| format!(", the next retry is due {next}"));
        lines.more(&format!(
            "failing: nothing was accepted since the failure {}{next}",
            ago(since_ms)
        ));
    }
    if let Some(at_ms) = endpoint.last_success_at_ms {
        lines.more(&format!("last success {}", ago(at_ms)));
    }
    if let (Some(at_ms), Some(error)) = (endpoint.last_failure_at_ms, &endpoint.last_error) {
        lines.more(&format!("last failure {}: {error}", ago(at_ms)));
    }
}

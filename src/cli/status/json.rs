//! The status for scripts.

use serde_json::{Value, json};

use super::Status;
use crate::capture::CaptureKind;
use crate::journal::{EndpointStatus, JournalStatus};
use crate::postgres::lsn::Lsn;
use crate::postgres::slot::{SlotInfo, WalStatus};
use crate::source::OutboxPolicy;
use crate::source::status::{DatabaseStatus, OutboxStatus};

pub(super) fn of(status: &Status) -> Value {
    json!({
        "source": match &status.database {
            Ok(database) => source(&status.connection, database),
            Err(error) => json!({ "connection": status.connection, "error": error }),
        },
        "journal": match &status.journal {
            Ok(Some(journal)) => journal_of(&status.journal_path, journal),
            Ok(None) => json!({ "path": status.journal_path, "exists": false }),
            Err(error) => json!({ "path": status.journal_path, "error": error }),
        },
        "endpoints": match &status.journal {
            Ok(Some(journal)) => {
                let configured = |name: &str| status.is_configured(name);
                let known = journal.endpoints.iter();
                known.map(|state| endpoint(state, configured(&state.name))).collect()
            }
            _ => Value::Array(Vec::new()),
        },
    })
}

fn source(connection: &str, database: &DatabaseStatus) -> Value {
    let server = &database.server;
    json!({
        "connection": connection,
        "version": server.version,
        "database": server.database,
        // larger than what JavaScript counts exactly
        "systemIdentifier": server.system_identifier.map(|identifier| identifier.to_string()),
        "publication": database.publication.as_ref().map(|publication| json!({
            "name": publication.name,
            "allTables": publication.all_tables,
            "tables": publication.tables.len(),
        })),
        "slot": database.slot.as_ref().map(slot),
        "outbox": database.outbox.as_ref().map(outbox),
        "lagSeconds": database.flush_lag.map(|lag| lag.as_secs_f64()),
    })
}

fn outbox(outbox: &OutboxStatus) -> Value {
    json!({
        "rows": outbox.rows,
        "exact": outbox.exact,
        "oldestSeconds": outbox.oldest.map(|age| age.as_secs_f64()),
        "bytes": outbox.bytes,
        "dropped": outbox.dropped,
        "maxRows": outbox.max_rows,
        "policy": match outbox.policy {
            OutboxPolicy::BlockNever => "block_never",
            OutboxPolicy::DropOldest => "drop_oldest",
        },
        "drainedBy": outbox.drained_by,
        "tables": outbox.tables,
        "unfit": outbox.unfit.iter().map(|(schema, name)| format!("{schema}.{name}"))
            .collect::<Vec<_>>(),
    })
}

fn slot(slot: &SlotInfo) -> Value {
    json!({
        "name": slot.name,
        "active": slot.active,
        "activePid": slot.active_pid,
        "lost": slot.is_lost(),
        "walStatus": slot.wal_status.map(WalStatus::as_str),
        "restartLsn": text(slot.restart_lsn),
        "confirmedLsn": text(slot.confirmed_flush_lsn),
        "currentLsn": text(Some(slot.current_wal_lsn)),
        "lagBytes": slot.lag_bytes(),
        "retainedBytes": slot.retained_bytes(),
        "safeWalBytes": slot.safe_wal_size,
    })
}

fn journal_of(path: &str, journal: &JournalStatus) -> Value {
    let events = &journal.events;
    let capture = journal.identity.as_ref().map(|identity| identity.capture);
    let slot = capture != Some(CaptureKind::Outbox);
    json!({
        "path": path,
        "exists": true,
        "sizeBytes": journal.size_bytes,
        "events": events.count,
        "firstSeq": events.first_seq.map(|seq| seq.0),
        "lastSeq": events.last_seq.0,
        "oldestCommittedAtUs": events.oldest_committed_at_us,
        // Of an outbox, these only count batches.
        "journaledLsn": text(journal.checkpoint.filter(|_| slot).map(|point| point.resume_lsn)),
        "durableLsn": text(Some(journal.durable_lsn).filter(|_| slot)),
        "outboxLost": journal.outbox_lost,
        "identity": journal.identity.as_ref().map(|identity| json!({
            "systemIdentifier": identity.system_identifier.to_string(),
            "database": identity.database,
            "timeline": identity.timeline,
            "capture": identity.capture.as_str(),
            "slot": Some(&identity.slot).filter(|_| slot),
        })),
    })
}

/// `configured` is whether it is in the configuration, where that is known.
pub(in crate::cli) fn endpoint(endpoint: &EndpointStatus, configured: Option<bool>) -> Value {
    let mut value = json!({
        "name": endpoint.name,
        "disabled": endpoint.disabled,
        "cursor": endpoint.cursor.0,
        "backlog": endpoint.backlog,
        "inFlight": endpoint.in_flight,
        "waiting": endpoint.waiting,
        "blocked": endpoint.blocked,
        "dead": endpoint.dead,
        "dropped": endpoint.dropped,
        "sequence": endpoint.sequence,
        "replayingTo": endpoint.replaying.map(|seq| seq.0),
        "failingSinceMs": endpoint.failing_since_ms,
        "succeeded": endpoint.succeeded,
        "failed": endpoint.failed,
        "nextDueMs": endpoint.next_due_ms,
        "lastSuccessAtMs": endpoint.last_success_at_ms,
        "lastFailureAtMs": endpoint.last_failure_at_ms,
        "lastError": endpoint.last_error,
    });
    if let (Value::Object(fields), Some(configured)) = (&mut value, configured) {
        fields.insert("configured".to_owned(), Value::Bool(configured));
    }
    value
}

fn text(lsn: Option<Lsn>) -> Option<String> {
    lsn.map(|lsn| lsn.to_string())
}

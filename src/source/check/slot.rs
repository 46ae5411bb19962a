//! Rules about the replication slot.

use crate::postgres::slot::{PLUGIN, SlotInfo, WalStatus, create_slot_sql, drop_slot_sql};
use crate::source::advice::{bytes, shown};
use crate::source::{Facts, Finding, SourceOptions};

/// What Postgres keeps of a slot's name.
const MAX_NAME_BYTES: usize = 63;

pub(in crate::source) fn slot(facts: &Facts, options: &SourceOptions) -> Vec<Finding> {
    if let Some(finding) = unusable_name(options) {
        return vec![finding];
    }
    let Some(slot) = &facts.slot else {
        return vec![missing(options)];
    };
    if let Some(finding) = not_ours(facts, options, slot).or_else(|| lost(options, slot)) {
        return vec![finding];
    }
    if slot.synced && facts.server.in_recovery {
        let sentence = "is this standby's copy of the primary's slot, which can be read only once \
                        the standby is promoted";
        return vec![Finding::warning(title(options), sentence).fix(
            "connect to the primary (with several hosts in source.url, add \
             target_session_attrs=read-write); until a promotion, walhook run waits here",
        )];
    }
    if slot.is_being_created() {
        return vec![being_created(options, slot)];
    }
    let mut findings = vec![Finding::ok(
        title(options),
        format!(
            "confirmed up to {}, {} behind; the server keeps {} of log for it",
            slot.confirmed_flush_lsn.unwrap_or_default(),
            bytes(slot.lag_bytes()),
            bytes(slot.retained_bytes())
        ),
    )];
    findings.extend(danger(options, slot));
    findings.extend(in_use(options, slot));
    if options.failover && !slot.failover && facts.server.version_num >= 170_000 {
        findings.push(
            Finding::warning(title(options), "is not a failover slot, as the configuration asks")
                .fix("walhook setup, while walhook run is stopped"),
        );
    }
    findings
}

pub(in crate::source) fn title(options: &SourceOptions) -> String {
    format!("slot {}", shown(&options.slot))
}

/// A name that Postgres refuses
/// (<https://www.postgresql.org/docs/current/warm-standby.html#STREAMING-REPLICATION-SLOTS-MANIPULATION>).
pub(in crate::source) fn unusable_name(options: &SourceOptions) -> Option<Finding> {
    let name = &options.slot;
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(allowed) {
        return None;
    }
    let sentence = "has a name that Postgres refuses: 1 to 63 lower-case letters (a-z), digits and \
                    underscores are allowed";
    Some(Finding::error(title(options), sentence).fix("set another slot in [source]"))
}

fn missing(options: &SourceOptions) -> Finding {
    if options.create {
        let sentence = "does not exist yet; walhook creates it when it starts";
        return Finding::note(title(options), sentence);
    }
    let sql = create_slot_sql(&options.slot, options.failover);
    Finding::error(title(options), "does not exist")
        .fix(format!("walhook setup, or (after the publication) {sql};"))
}

/// A slot that is not for walhook, and must not be touched.
pub(in crate::source) fn not_ours(
    facts: &Facts,
    options: &SourceOptions,
    slot: &SlotInfo,
) -> Option<Finding> {
    let sentence = if slot.slot_type != "logical" {
        "is a physical slot, which a standby or a backup uses".to_owned()
    } else if let Some(database) = slot.database.as_ref().filter(|d| **d != facts.server.database) {
        format!("belongs to database {}, not to {}", shown(database), shown(&facts.server.database))
    } else if slot.plugin.as_deref() != Some(PLUGIN) {
        let plugin = slot.plugin.as_deref().unwrap_or("none");
        format!("uses the output plugin {}, walhook reads {PLUGIN}", shown(plugin))
    } else if slot.temporary {
        "is temporary and goes away with the session that made it".to_owned()
    } else {
        return None;
    };
    Some(Finding::error(title(options), sentence).fix(format!(
        "set another slot in [source], or, if nobody needs it: {};",
        drop_slot_sql(&options.slot)
    )))
}

/// A slot whose log is gone.
pub(in crate::source) fn lost(options: &SourceOptions, slot: &SlotInfo) -> Option<Finding> {
    if !slot.is_lost() {
        return None;
    }
    let reason = match &slot.invalidation_reason {
        Some(reason) => format!(" ({reason})"),
        None => String::new(),
    };
    let since = slot.confirmed_flush_lsn.map_or(String::new(), |lsn| format!(" after {lsn}"));
    let sentence = format!(
        "is lost{reason}: the server has removed log it still needed, so changes{since} cannot be \
         read any more"
    );
    Some(Finding::error(title(options), sentence).fix(
        "walhook teardown, then walhook setup: it goes on with new changes, and those in between \
         are missing",
    ))
}

fn danger(options: &SourceOptions, slot: &SlotInfo) -> Option<Finding> {
    match slot.wal_status? {
        WalStatus::Reserved | WalStatus::Lost => None,
        WalStatus::Extended => {
            let room = match slot.safe_wal_size {
                Some(left) => {
                    let left = bytes(left.max(0).cast_unsigned());
                    format!("; {left} more may be written before it is in danger")
                }
                None => String::new(),
            };
            let sentence = format!("holds back more log than max_wal_size{room}");
            Some(
                Finding::note(title(options), sentence).fix("start walhook, so that it catches up"),
            )
        }
        WalStatus::Unreserved => Some(
            Finding::error(
                title(options),
                "is about to be lost: it is further behind than max_slot_wal_keep_size, and the \
                 next checkpoint of the server removes what it needs",
            )
            .fix(
                "start walhook now, or ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT \
                 pg_reload_conf();",
            ),
        ),
    }
}

fn in_use(options: &SourceOptions, slot: &SlotInfo) -> Option<Finding> {
    if !slot.active {
        return None;
    }
    let sentence = format!("is in use by {}", holder(slot));
    Some(
        Finding::note(title(options), sentence).fix(
            "nothing, if that is your walhook; only one can stream at a time, a second one waits",
        ),
    )
}

/// Who uses the slot: `process 4711 (walhook at 10.0.0.7)`.
pub(in crate::source) fn holder(slot: &SlotInfo) -> String {
    let pid = slot.active_pid.map_or("another process".to_owned(), |pid| format!("process {pid}"));
    match &slot.active_client {
        Some(client) => format!("{pid} ({})", client.escape_debug()),
        None => pid,
    }
}

fn being_created(options: &SourceOptions, slot: &SlotInfo) -> Finding {
    let sentence = format!(
        "is being created by {}, which waits until the transactions that were open before it end",
        holder(slot)
    );
    Finding::warning(title(options), sentence).fix(
        "wait, or end the oldest one: SELECT pid, xact_start, query FROM pg_stat_activity WHERE \
         backend_xid IS NOT NULL ORDER BY xact_start;",
    )
}

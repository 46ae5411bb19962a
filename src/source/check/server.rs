//! Rules about the server, the database and the role.

use crate::postgres::sql::quote_ident;
use crate::source::advice::{bytes, shown};
use crate::source::{Facts, Finding, SourceOptions};

const SERVER: &str = "server";

/// Whether values may hold bytes that no encoding explains.
pub(in crate::source) fn encoding(facts: &Facts) -> Option<Finding> {
    let server = &facts.server;
    let sentence = format!(
        "the encoding of {} is SQL_ASCII, so a value that is not valid UTF-8 ends the stream",
        shown(&server.database)
    );
    (server.encoding == "SQL_ASCII").then(|| {
        Finding::warning(SERVER, sentence).fix(
            "invalid_utf8 = \"replace\" in [source], to have U+FFFD in the place of what is not UTF-8; \
             or move the data to a database with ENCODING 'UTF8' (pg_dump, then restore)",
        )
    })
}

pub(in crate::source) fn server(facts: &Facts, options: &SourceOptions) -> Vec<Finding> {
    let server = &facts.server;
    let mut findings = vec![wal_level(facts)];
    findings.extend(recovery(facts));
    findings.extend(slots_left(facts));
    findings.extend(senders_left(facts));
    findings.extend(failover(facts, options));
    findings.extend(failover_settings(facts, options));
    findings.extend(encoding(facts));
    findings.push(match server.max_slot_wal_keep_size_bytes {
        Some(limit) => Finding::ok(
            SERVER,
            format!(
                "max_slot_wal_keep_size is {}: a slot further behind than that is given up",
                bytes(limit)
            ),
        ),
        None => Finding::note(
            SERVER,
            "max_slot_wal_keep_size is -1: the server keeps all the log that walhook still needs, \
             without limit, so its disk fills while walhook is down",
        )
        .fix(
            "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf(); (only if \
             you would rather lose changes than the disk: a slot further behind is given up)",
        ),
    });
    if let Some(timeout) = &server.idle_replication_slot_timeout {
        let sentence = format!(
            "idle_replication_slot_timeout is {timeout}: the slot is given up when walhook is down \
             for longer"
        );
        findings.push(
            Finding::warning(SERVER, sentence).fix(
                "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();",
            ),
        );
    }
    findings
}

fn wal_level(facts: &Facts) -> Finding {
    let server = &facts.server;
    if server.wal_level == "logical" {
        let sentence = format!("PostgreSQL {}, wal_level is logical", server.version);
        return Finding::ok(SERVER, sentence);
    }
    let sentence = format!(
        "wal_level is {}, so row changes are not in the write-ahead log in a form that can be \
         followed",
        server.wal_level
    );
    Finding::error(SERVER, sentence).fix(
        "ALTER SYSTEM SET wal_level = 'logical'; then restart the server (managed servers have a \
         parameter for it: rds.logical_replication = 1, cloudsql.logical_decoding = on)",
    )
}

fn recovery(facts: &Facts) -> Option<Finding> {
    let server = &facts.server;
    if !server.in_recovery {
        return None;
    }
    if server.version_num < 160_000 {
        let sentence = format!(
            "this is a standby, and PostgreSQL {} cannot decode changes on one (16 can)",
            server.version_num / 10_000
        );
        let fix = "connect to the primary: with several hosts in source.url, add \
                   target_session_attrs=read-write";
        return Some(Finding::error(SERVER, sentence).fix(fix));
    }
    let sentence = "this is a standby: the publication must be created on its primary, and creating \
                    the slot waits until the primary writes a snapshot of its transactions";
    let fix = "SELECT pg_log_standby_snapshot(); on the primary while the slot is being created";
    Some(Finding::warning(SERVER, sentence).fix(fix))
}

/// Whether there is room for one more slot, where one is needed.
fn slots_left(facts: &Facts) -> Option<Finding> {
    let server = &facts.server;
    if facts.slot.is_some() || server.used_replication_slots < server.max_replication_slots {
        return None;
    }
    Some(all_taken(
        "replication slots",
        ("max_replication_slots", server.max_replication_slots),
        "drop one that nobody needs (SELECT slot_name, active FROM pg_replication_slots;)",
    ))
}

/// Whether there is room for one more replication connection.
fn senders_left(facts: &Facts) -> Option<Finding> {
    let server = &facts.server;
    let active = facts.slot.as_ref().is_some_and(|slot| slot.active);
    if active || server.used_wal_senders < server.max_wal_senders {
        return None;
    }
    Some(all_taken(
        "replication connections",
        ("max_wal_senders", server.max_wal_senders),
        "end one that nobody needs (SELECT pid, application_name FROM pg_stat_replication;)",
    ))
}

fn all_taken(what: &str, (setting, limit): (&str, u32), free_one: &str) -> Finding {
    Finding::error(SERVER, format!("all {limit} {what} ({setting}) are taken")).fix(format!(
        "{free_one}, or ALTER SYSTEM SET {setting} = {}; and restart the server",
        limit + 1
    ))
}

/// Whether the server can have the failover slot that is asked for.
pub(in crate::source) fn failover(facts: &Facts, options: &SourceOptions) -> Option<Finding> {
    let server = &facts.server;
    if !options.failover {
        return None;
    }
    if server.version_num >= 170_000 {
        let own = server.in_recovery && facts.slot.as_ref().is_none_or(|slot| !slot.synced);
        return own.then(|| {
            let sentence = "this is a standby, where only copies of the primary's slots can be \
                            failover slots";
            Finding::error(SERVER, sentence)
                .fix("failover = false in [source], or connect to the primary")
        });
    }
    let version = server.version_num / 10_000;
    let sentence = format!("failover slots need PostgreSQL 17, this is {version}");
    Some(Finding::error(SERVER, sentence).fix("failover = false in [source]"))
}

/// The settings on either side that failover slots take
/// (<https://www.postgresql.org/docs/current/logical-replication-failover.html>).
fn failover_settings(facts: &Facts, options: &SourceOptions) -> Option<Finding> {
    let server = &facts.server;
    if !options.failover && !facts.slot.as_ref().is_some_and(|slot| slot.failover) {
        return None;
    }
    if server.in_recovery {
        if server.sync_replication_slots != Some(false) {
            return None;
        }
        let sentence = "sync_replication_slots is off: this standby keeps no copies of failover \
                        slots up to date, so none is of use when it takes over";
        return Some(Finding::warning(SERVER, sentence).fix(
            "ALTER SYSTEM SET sync_replication_slots = on; SELECT pg_reload_conf(); on the standby \
             (which also needs hot_standby_feedback = on, primary_slot_name, and a dbname in \
             primary_conninfo)",
        ));
    }
    if server.synchronized_standby_slots.as_deref() != Some("") {
        return None;
    }
    let sentence = "synchronized_standby_slots is empty: walhook may send changes before a standby \
                    has them, and if that standby takes over, walhook refuses to go on there";
    Some(Finding::warning(SERVER, sentence).fix(
        "ALTER SYSTEM SET synchronized_standby_slots = '<the standby's primary_slot_name>'; SELECT \
         pg_reload_conf(); (walhook then waits for that standby, also while it is down)",
    ))
}

/// What keeps a slot from being created.
pub(in crate::source) fn creation_blockers(facts: &Facts, options: &SourceOptions) -> Vec<Finding> {
    let found = [recovery(facts), slots_left(facts), failover(facts, options)];
    std::iter::once(wal_level(facts))
        .chain(found.into_iter().flatten())
        .chain(role(facts))
        .filter(Finding::is_error)
        .collect()
}

/// Streaming takes the REPLICATION attribute and nothing else: no SELECT on the tables, since rows
/// come from the log. Publishing takes CREATE on the database and ownership of the tables; the
/// rules of publication and tables say so where it matters.
pub(in crate::source) fn role(facts: &Facts) -> Vec<Finding> {
    let server = &facts.server;
    let subject = format!("role {}", shown(&server.role));
    if server.role_can_replicate {
        let sentence = if server.role_superuser {
            "is a superuser; a role with REPLICATION is enough to stream"
        } else {
            "may replicate (it needs no SELECT on the tables: rows come from the log)"
        };
        return vec![Finding::ok(subject, sentence)];
    }
    let role = quote_ident(&server.role);
    vec![Finding::error(subject, "lacks REPLICATION, which slots and streaming take").fix(format!(
        "ALTER ROLE {role} REPLICATION; as a superuser (on RDS: GRANT rds_replication TO {role};)"
    ))]
}

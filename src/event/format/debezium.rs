//! The shape of Debezium's change events, as its PostgreSQL connector writes them without a schema.
//!
//! - `before` of an update is the whole old row where old values are known (`REPLICA IDENTITY
//!   FULL`), the old key where only the key is known and it changed, and otherwise null.
//! - A large value that was not touched and is not in the log is Debezium's placeholder.
//! - Debezium tells what happened to the table, walhook what happened to the record. For a row that
//!   `soft_delete` counts as deleted they differ, and walhook's view stands: `deleted` is `d`, and
//!   `restored` is `c`, so that who mirrors the records holds those that count as there. Updates
//!   of a row that counts as deleted are `u`.
//! - An application's own event is Debezium's message, `m`, with what was sent in it, less the key.
//! - All times are those of the commit: the bytes must be the same whenever they are made.

use base64::Engine as _;

use super::envelope::{Envelope, items, lsn, verb};
use super::{Subject, quoted, raw_member, text_member};
use crate::event::object::Object;

/// What Debezium writes for a value it does not have.
const UNAVAILABLE: &str = "\"__debezium_unavailable_value\"";

/// Appends an event.
pub(super) fn write(
    out: &mut Vec<u8>,
    event: &Subject<'_>,
    envelope: &Envelope<'_>,
) -> serde_json::Result<()> {
    let op = match verb(event.name) {
        _ if envelope.source.table.is_none() => "m",
        "created" | "restored" => "c",
        "updated" => "u",
        "deleted" => "d",
        "truncated" => "t",
        "snapshot" => "r",
        _ => "m",
    };
    let mut before = Vec::from(b"null");
    let mut after = Vec::from(b"null");
    match op {
        "c" | "r" => after = new_row(envelope)?,
        "u" => {
            after = new_row(envelope)?;
            before = old_row(envelope)?.unwrap_or(before);
        }
        // A soft delete has a new row, of which the old values are to be taken back.
        "d" => before = old_row(envelope)?.unwrap_or_else(|| envelope.data.into()),
        _ => {}
    }
    if op == "m" {
        out.extend_from_slice(b"{\"message\":{\"prefix\":\"walhook\",\"content\":");
        quoted(out, &content(event, envelope));
        out.extend_from_slice(b"},\"source\":");
    } else {
        out.extend_from_slice(b"{\"before\":");
        out.extend_from_slice(&before);
        out.extend_from_slice(b",\"after\":");
        out.extend_from_slice(&after);
        out.extend_from_slice(b",\"source\":");
    }
    source(out, event, envelope, op);
    raw_member(out, "transaction", "null");
    text_member(out, "op", op);
    times(out, event);
    out.push(b'}');
    Ok(())
}

/// `data`, with a placeholder for each column that is not in it.
fn new_row(envelope: &Envelope<'_>) -> serde_json::Result<Vec<u8>> {
    let Some(unchanged) = envelope.unchanged else { return Ok(envelope.data.into()) };
    let row = Object::parse(envelope.data)?;
    let mut members = row.0;
    members.extend(items(unchanged)?.into_iter().map(|column| (column, UNAVAILABLE)));
    Ok(object(&members))
}

/// The old row as far as it is known.
fn old_row(envelope: &Envelope<'_>) -> serde_json::Result<Option<Vec<u8>>> {
    let Some(previous) = envelope.previous else { return Ok(None) };
    if envelope.updated_fields.is_none() {
        // Only the key was known, and it changed.
        return Ok(Some(previous.into()));
    }
    let old = Object::parse(previous)?;
    let mut members = Object::parse(envelope.data)?.0;
    for (column, value) in &mut members {
        if let Some(old) = old.get(column) {
            *value = old;
        }
    }
    let unchanged = envelope.unchanged.map(items).transpose()?.unwrap_or_default();
    for column in unchanged {
        members.push((column, old.get(column).unwrap_or(UNAVAILABLE)));
    }
    Ok(Some(object(&members)))
}

fn object(members: &[(&str, &str)]) -> Vec<u8> {
    let bytes: usize = members.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
    let mut out = Vec::with_capacity(bytes + 2);
    out.push(b'{');
    for (at, (key, value)) in members.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(key.as_bytes());
        out.push(b':');
        out.extend_from_slice(value.as_bytes());
    }
    out.push(b'}');
    out
}

/// A message's content is bytes, in base 64.
fn content(event: &Subject<'_>, envelope: &Envelope<'_>) -> String {
    let mut content = b"{\"event\":".to_vec();
    quoted(&mut content, event.name);
    raw_member(&mut content, "data", envelope.data);
    content.push(b'}');
    base64::engine::general_purpose::STANDARD.encode(content)
}

fn source(out: &mut Vec<u8>, event: &Subject<'_>, envelope: &Envelope<'_>, op: &str) {
    let source = &envelope.source;
    let position = |text: &Option<String>| text.as_deref().and_then(lsn);
    let (row, commit) = (position(&source.lsn), position(&source.commit_lsn));
    let number = |number: Option<u64>| number.map_or("null".to_owned(), |n| n.to_string());
    let text = |number: Option<u64>| number.map_or("null".to_owned(), |n| format!("\"{n}\""));
    out.extend_from_slice(b"{\"version\":\"");
    out.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes());
    out.extend_from_slice(b"\",\"connector\":\"postgresql\",\"name\":\"walhook\"");
    let (ms, us, ns) = parts(event);
    raw_member(out, "ts_ms", &ms);
    text_member(out, "snapshot", if op == "r" { "true" } else { "false" });
    text_member(out, "db", source.database.as_deref().unwrap_or_default());
    // Sorts in commit order: the transaction's own position comes first.
    text_member(out, "sequence", &format!("[{},{}]", text(commit), text(row)));
    raw_member(out, "ts_us", &us);
    raw_member(out, "ts_ns", &ns);
    text_member(out, "schema", source.schema.as_deref().unwrap_or_default());
    text_member(out, "table", source.table.as_deref().unwrap_or_default());
    raw_member(out, "txId", &number(source.xid));
    raw_member(out, "lsn", &number(row));
    raw_member(out, "xmin", "null");
    out.push(b'}');
}

fn times(out: &mut Vec<u8>, event: &Subject<'_>) {
    let (ms, us, ns) = parts(event);
    raw_member(out, "ts_ms", &ms);
    raw_member(out, "ts_us", &us);
    raw_member(out, "ts_ns", &ns);
}

/// The commit time in milli-, micro- and nanoseconds since the Unix epoch.
fn parts(event: &Subject<'_>) -> (String, String, String) {
    let us = event.committed_at_us;
    (us.div_euclid(1_000).to_string(), us.to_string(), us.saturating_mul(1_000).to_string())
}

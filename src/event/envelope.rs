//! The parts of an envelope that are the same for many events, rendered once.

use super::id::{EventId, TransactionTag};
use super::render::string;
use crate::capture::CaptureKind;
use crate::capture::change::{Position, Transaction};
use crate::postgres::lsn::Lsn;

/// The word that separates the ids of messages sent outside of any transaction from those of
/// changes: the two kinds of position may coincide.
const LONE_MESSAGE: &str = "message";

/// What all envelopes of one source share.
#[derive(Debug)]
pub(super) struct Source {
    system_identifier: u64,
    database_oid: u32,
    capture: &'static str,
    /// `"source":{"database":"crm"`
    head: Vec<u8>,
    /// `,"capture":"replication"}}`
    tail: Vec<u8>,
}

impl Source {
    pub(super) fn new(
        system_identifier: u64,
        database_oid: u32,
        database: &str,
        capture: &'static str,
    ) -> Source {
        let mut head = b"\"source\":{\"database\":".to_vec();
        quoted(&mut head, database);
        let mut tail = b",\"capture\":".to_vec();
        quoted(&mut tail, capture);
        tail.extend_from_slice(b"}}");
        Source { system_identifier, database_oid, capture, head, tail }
    }

    /// Whether triggers record the changes.
    pub(super) fn is_recorded(&self) -> bool {
        self.capture == CaptureKind::Outbox.as_str()
    }

    /// `"source":{"database":"crm","schema":"public","table":"people","lsn":"`
    pub(super) fn of_table(&self, schema: &str, table: &str) -> Vec<u8> {
        let mut head = self.head.clone();
        head.extend_from_slice(b",\"schema\":");
        quoted(&mut head, schema);
        head.extend_from_slice(b",\"table\":");
        quoted(&mut head, table);
        head.extend_from_slice(b",\"lsn\":\"");
        head
    }

    /// `"source":{"database":"crm","lsn":"`
    pub(super) fn of_messages(&self) -> Vec<u8> {
        let mut head = self.head.clone();
        head.extend_from_slice(b",\"lsn\":\"");
        head
    }

    /// Appends the source object, which starts with `head`, and ends the envelope.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        head: &[u8],
        row_lsn: Lsn,
        parts: &TransactionParts,
        position: Position,
    ) {
        out.extend_from_slice(head);
        lsn(out, row_lsn);
        out.extend_from_slice(&parts.commit);
        out.extend_from_slice(itoa::Buffer::new().format(position.ordinal).as_bytes());
        out.extend_from_slice(&self.tail);
    }
}

/// What all envelopes of one transaction share.
#[derive(Debug)]
pub(super) struct TransactionParts {
    identity: (Lsn, i64, u32),
    tag: TransactionTag,
    /// `2025-02-10T15:30:50.123456Z"`
    timestamp: Vec<u8>,
    /// `","commitLsn":"0/16B3790","xid":743,"ordinal":`
    commit: Vec<u8>,
}

impl TransactionParts {
    pub(super) fn new(source: &Source, transaction: &Transaction) -> TransactionParts {
        let Transaction { commit_lsn, committed_at_us, xid, .. } = *transaction;
        // A lone message has no commit; the time it comes with may be that of its reading, which
        // a replay would change.
        let (kind, time) =
            if xid == 0 { (LONE_MESSAGE, 0) } else { (source.capture, committed_at_us) };
        let tag =
            TransactionTag::new(kind, source.system_identifier, source.database_oid, xid, time);
        let mut timestamp = Vec::with_capacity(32);
        rfc3339(&mut timestamp, committed_at_us);
        timestamp.push(b'"');
        let mut commit = Vec::with_capacity(64);
        commit.extend_from_slice(b"\",\"commitLsn\":\"");
        lsn(&mut commit, commit_lsn);
        commit.extend_from_slice(b"\",\"xid\":");
        commit.extend_from_slice(itoa::Buffer::new().format(xid).as_bytes());
        commit.extend_from_slice(b",\"ordinal\":");
        TransactionParts { identity: (commit_lsn, committed_at_us, xid), tag, timestamp, commit }
    }

    /// Whether these are the parts of that transaction.
    pub(super) fn fit(&self, transaction: &Transaction) -> bool {
        let Transaction { commit_lsn, committed_at_us, xid, .. } = *transaction;
        self.identity == (commit_lsn, committed_at_us, xid)
    }

    pub(super) fn id(&self, position: Position) -> EventId {
        EventId::new(position.commit_lsn.0, position.ordinal, self.tag)
    }

    /// Appends `{"id":"evt_…`, then what names the event (see [`naming`]), then the timestamp.
    pub(super) fn write_head(&self, out: &mut Vec<u8>, id: EventId, naming: &[u8]) {
        out.extend_from_slice(b"{\"id\":\"");
        id.write_to(out);
        out.extend_from_slice(naming);
        out.extend_from_slice(&self.timestamp);
    }
}

/// `","event":"person.created","timestamp":"`
pub(super) fn naming(event: &str) -> Vec<u8> {
    let mut naming = b"\",\"event\":".to_vec();
    quoted(&mut naming, event);
    naming.extend_from_slice(b",\"timestamp\":\"");
    naming
}

/// Appends a JSON string.
pub(super) fn quoted(out: &mut Vec<u8>, text: &str) {
    // A `str` is UTF-8, so there is no error.
    let _ = string::quoted(out, text.as_bytes());
}

/// Appends `X/X`, as [`Lsn`] displays.
fn lsn(out: &mut Vec<u8>, lsn: Lsn) {
    hex(out, lsn.0 >> 32);
    out.push(b'/');
    hex(out, lsn.0 & 0xFFFF_FFFF);
}

fn hex(out: &mut Vec<u8>, number: u64) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digits = (64 - (number | 1).leading_zeros()).div_ceil(4);
    for place in (0..digits).rev() {
        out.push(DIGITS[(number >> (4 * place) & 15) as usize]);
    }
}

/// Appends a time in microseconds since the Unix epoch as `2025-02-10T15:30:50.123456Z`.
pub(super) fn rfc3339(out: &mut Vec<u8>, time_us: i64) {
    const DAY_US: i64 = 86_400_000_000;
    let (days, in_day) = (time_us.div_euclid(DAY_US), time_us.rem_euclid(DAY_US));
    // Howard Hinnant's civil_from_days (https://howardhinnant.github.io/date_algorithms.html).
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (second, micros) = (in_day / 1_000_000, in_day % 1_000_000);
    if year < 0 {
        out.push(b'-');
    }
    digits(out, year.unsigned_abs(), 4);
    for (mark, part, width) in [
        (b'-', month, 2),
        (b'-', day, 2),
        (b'T', second / 3_600, 2),
        (b':', second / 60 % 60, 2),
        (b':', second % 60, 2),
        (b'.', micros, 6),
    ] {
        out.push(mark);
        digits(out, part.unsigned_abs(), width);
    }
    out.push(b'Z');
}

/// Appends a number of at least `width` digits, at most 6.
fn digits(out: &mut Vec<u8>, number: u64, width: usize) {
    let mut buffer = [b'0'; 6];
    let (mut rest, mut start) = (number, buffer.len());
    while rest > 0 && start > 0 {
        start -= 1;
        buffer[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&buffer[start.min(buffer.len() - width)..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(time_us: i64) -> String {
        let mut out = Vec::new();
        rfc3339(&mut out, time_us);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_as_another_library_writes_them() {
        for seconds in [0, 951_782_399, 951_782_400, 1_709_251_199, 4_107_542_399, -62_135_596_800]
        {
            for micros in [0, 1, 123_456, 999_999] {
                let time_us = seconds * 1_000_000 + micros;
                let expected = jiff::Timestamp::from_microsecond(time_us).unwrap();
                assert_eq!(time(time_us), format!("{expected:.6}"));
            }
        }
        assert_eq!(time(1_739_201_450_123_456), "2025-02-10T15:30:50.123456Z");
    }

    #[test]
    fn absurd_times_do_not_overflow() {
        assert!(time(i64::MAX).starts_with("294247-01-10T"));
        assert!(time(i64::MIN).starts_with("-290308-12-21T"));
    }

    #[test]
    fn log_positions_as_they_display() {
        for position in [0, 1, 0xF, 0x10, 0x16B_3790, 0xFFFF_FFFF, 0x1_0000_0000, u64::MAX] {
            let mut out = Vec::new();
            lsn(&mut out, Lsn(position));
            assert_eq!(String::from_utf8(out).unwrap(), Lsn(position).to_string());
        }
    }
}

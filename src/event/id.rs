//! Stable event ids.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Digits of Crockford's base 32 in lower case: as text they sort as the numbers do.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const PREFIX: &str = "evt_";

/// The identity of a change, the same whatever restarts, replays and retries lie between.
///
/// 20 bytes, big-endian, so that ids of one database sort in commit order, as bytes and as text:
/// the commit LSN (8 bytes), the ordinal inside the transaction (5 bytes), and a tag (7 bytes) that
/// depends on the cluster, the database, the transaction id and the commit time, so that a log
/// position used again on another timeline or by a clone yields another id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventId([u8; 20]);

/// Tells the transactions of this cluster and database from all others at the same position.
/// Computed once per transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionTag([u8; 7]);

impl TransactionTag {
    /// `kind` separates id spaces: one word per way of capture and kind of change.
    pub fn new(
        kind: &str,
        system_identifier: u64,
        database_oid: u32,
        xid: u32,
        committed_at_us: i64,
    ) -> TransactionTag {
        let mut hash = Sha256::new();
        hash.update(kind.as_bytes());
        hash.update([0]);
        hash.update(system_identifier.to_be_bytes());
        hash.update(database_oid.to_be_bytes());
        hash.update(xid.to_be_bytes());
        hash.update(committed_at_us.to_be_bytes());
        let mut tag = [0; 7];
        tag.copy_from_slice(&hash.finalize()[..7]);
        TransactionTag(tag)
    }
}

impl EventId {
    /// The id of the change `ordinal` of the transaction committed at `commit_lsn`. Ordinals count
    /// to 2^40 - 1, which is more changes than a transaction can have.
    pub fn new(commit_lsn: u64, ordinal: u64, tag: TransactionTag) -> EventId {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&commit_lsn.to_be_bytes());
        bytes[8..13].copy_from_slice(&ordinal.to_be_bytes()[3..]);
        bytes[13..].copy_from_slice(&tag.0);
        EventId(bytes)
    }

    /// The id as stored.
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// An id as it was stored.
    pub fn from_bytes(bytes: [u8; 20]) -> EventId {
        EventId(bytes)
    }

    /// Appends the text form, `evt_` and 32 digits, to a buffer.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(PREFIX.as_bytes());
        out.extend_from_slice(&self.digits());
    }

    fn digits(&self) -> [u8; 32] {
        let mut digits = [0; 32];
        // 5 bytes are 8 digits of 5 bits.
        for (group, out) in self.0.chunks_exact(5).zip(digits.chunks_exact_mut(8)) {
            let bits = group.iter().fold(0u64, |bits, &byte| bits << 8 | u64::from(byte));
            for (place, digit) in out.iter_mut().enumerate() {
                *digit = DIGITS[(bits >> (35 - 5 * place) & 31) as usize];
            }
        }
        digits
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.digits().iter().try_for_each(|&digit| fmt::Write::write_char(f, char::from(digit)))
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not an event id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidEventId;

impl fmt::Display for InvalidEventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an event id: evt_ and 32 of the digits 0-9, a-z without i, l, o, u")
    }
}

impl std::error::Error for InvalidEventId {}

impl From<EventId> for String {
    fn from(id: EventId) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for EventId {
    type Error = InvalidEventId;

    fn try_from(text: String) -> Result<EventId, InvalidEventId> {
        text.parse()
    }
}

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<EventId, InvalidEventId> {
        let digits = text.strip_prefix(PREFIX).ok_or(InvalidEventId)?.as_bytes();
        if digits.len() != 32 {
            return Err(InvalidEventId);
        }
        let mut bytes = [0; 20];
        for (group, out) in digits.chunks_exact(8).zip(bytes.chunks_exact_mut(5)) {
            let mut bits = 0u64;
            for digit in group {
                let value = DIGITS.iter().position(|d| d == digit).ok_or(InvalidEventId)?;
                bits = bits << 5 | value as u64;
            }
            out.copy_from_slice(&bits.to_be_bytes()[3..]);
        }
        Ok(EventId(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(xid: u32) -> TransactionTag {
        TransactionTag::new(
            "replication",
            7_000_000_000_000_000_001,
            16_384,
            xid,
            1_700_000_000_000_000,
        )
    }

    #[test]
    fn text_round_trips_and_has_no_dot() {
        let id = EventId::new(0x16B_3790, 3, tag(743));
        let text = id.to_string();
        assert_eq!(text.len(), 36);
        assert!(!text.contains('.'));
        assert_eq!(text.parse(), Ok(id));
        let mut written = Vec::new();
        id.write_to(&mut written);
        assert_eq!(written, text.as_bytes());
    }

    #[test]
    fn text_sorts_in_commit_order_whatever_the_transaction_ids() {
        let mut ids = Vec::new();
        for (commit_lsn, xid) in [(1u64, 9), (0x80, 3), (0x1_0000_0000, 700), (u64::MAX, 1)] {
            for ordinal in [0, 1, 31, 32, 255, 256, 0xFF_FFFF_FFFF] {
                ids.push(EventId::new(commit_lsn, ordinal, tag(xid)).to_string());
            }
        }
        assert!(ids.is_sorted());
    }

    #[test]
    fn position_reused_elsewhere_yields_another_id() {
        let here = EventId::new(1, 0, tag(1));
        assert_ne!(here, EventId::new(1, 0, tag(2)));
        let clone = TransactionTag::new("replication", 1, 16_384, 1, 1_700_000_000_000_000);
        assert_ne!(here, EventId::new(1, 0, clone));
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "evt_", "evt_0", &format!("evt_{}", "u".repeat(32)), &"é".repeat(18)] {
            assert_eq!(text.parse::<EventId>(), Err(InvalidEventId), "{text:?}");
        }
    }
}

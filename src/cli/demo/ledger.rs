//! What arrived, as the receiver's side of the demo's books.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::envelope::{Envelope, Kind};
use super::tally::Counts;
use crate::event::EventId;

/// A request whose signature was verified, or was not.
pub(super) struct Arrival<'a> {
    pub(super) body: &'a [u8],
    pub(super) verified: bool,
    /// When it was answered with a 2xx, in microseconds since the Unix epoch.
    pub(super) answered_at_us: i64,
}

/// What an arrival turned out to be.
pub(super) enum Entry<'a> {
    /// An event that is here for the first time.
    New {
        event: Envelope<'a>,
        /// From its commit to the answer; not known if its timestamp cannot be read.
        latency_us: Option<u32>,
    },
    /// An event that came before.
    Repeat,
    /// Not signed as it should be.
    Forged,
    /// Not an event.
    Unreadable,
}

/// A record's key, and its row as its last event tells it: nothing once it is deleted.
pub(super) type Told = (String, Option<Map<String, Value>>);

/// The last thing heard of a record.
struct Last {
    id: EventId,
    /// Its row; nothing once it is deleted.
    row: Option<Map<String, Value>>,
}

/// Counts arrivals, each event once.
#[derive(Default)]
pub(super) struct Ledger {
    seen: HashSet<EventId>,
    records: HashMap<String, HashMap<String, Last>>,
    delivered: Counts,
    verified: u64,
    forged: u64,
    unreadable: u64,
    repeats: u64,
    out_of_order: u64,
    latencies_us: Vec<u32>,
}

impl Ledger {
    /// Books a request.
    pub(super) fn book<'a>(&mut self, arrival: &Arrival<'a>) -> Entry<'a> {
        if !arrival.verified {
            self.forged += 1;
            return Entry::Forged;
        }
        self.verified += 1;
        let Ok(event) = Envelope::parse(arrival.body) else {
            self.unreadable += 1;
            return Entry::Unreadable;
        };
        let Ok(id) = event.id.parse::<EventId>() else {
            self.unreadable += 1;
            return Entry::Unreadable;
        };
        if !self.seen.insert(id) {
            self.repeats += 1;
            return Entry::Repeat;
        }
        match event.kind() {
            Kind::Created => self.delivered.created += 1,
            Kind::Updated => self.delivered.updated += 1,
            Kind::Deleted => self.delivered.deleted += 1,
            Kind::Custom => self.delivered.custom += 1,
        }
        self.follow(id, &event);
        let latency_us = event.committed_at_us().map(|committed| {
            u32::try_from((arrival.answered_at_us - committed).max(0)).unwrap_or(u32::MAX)
        });
        self.latencies_us.extend(latency_us);
        Entry::New { event, latency_us }
    }

    /// Keeps the record's state, and notices when an event is older than the one before: ids sort
    /// in commit order.
    fn follow(&mut self, id: EventId, event: &Envelope<'_>) {
        let Some((table, key)) = event.record() else { return };
        let row = (event.kind() != Kind::Deleted).then(|| event.data.clone());
        if !self.records.contains_key(table) {
            self.records.insert(table.to_owned(), HashMap::new());
        }
        let Some(records) = self.records.get_mut(table) else { return };
        match records.get_mut(&key) {
            Some(last) if last.id > id => self.out_of_order += 1,
            Some(last) => *last = Last { id, row },
            None => {
                records.insert(key, Last { id, row });
            }
        }
    }

    /// Distinct events so far.
    pub(super) fn delivered(&self) -> Counts {
        self.delivered
    }

    /// Every record that an event was about, by table.
    pub(super) fn told(&self) -> HashMap<String, Vec<Told>> {
        let told = |(key, last): (&String, &Last)| (key.clone(), last.row.clone());
        self.records
            .iter()
            .map(|(table, records)| (table.clone(), records.iter().map(told).collect()))
            .collect()
    }

    /// All figures at once.
    pub(super) fn figures(&self) -> Figures {
        let mut latencies_us = self.latencies_us.clone();
        latencies_us.sort_unstable();
        Figures {
            delivered: self.delivered,
            verified: self.verified,
            forged: self.forged,
            unreadable: self.unreadable,
            repeats: self.repeats,
            out_of_order: self.out_of_order,
            p50_us: quantile(&latencies_us, 0.5),
            p99_us: quantile(&latencies_us, 0.99),
        }
    }
}

/// The receiver's figures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Figures {
    /// Distinct events.
    pub(super) delivered: Counts,
    /// Requests with a good signature.
    pub(super) verified: u64,
    /// Requests without one.
    pub(super) forged: u64,
    /// Requests with a good signature that hold no event.
    pub(super) unreadable: u64,
    /// Requests with an event that came before.
    pub(super) repeats: u64,
    /// Events that came, for the first time, after a later one of the same record.
    pub(super) out_of_order: u64,
    /// Half of the events took at most so long from commit to 2xx.
    pub(super) p50_us: Option<u32>,
    /// 99 of 100 events took at most so long.
    pub(super) p99_us: Option<u32>,
}

/// The value that a share of `sorted` does not exceed.
fn quantile(sorted: &[u32], share: f64) -> Option<u32> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::id::TransactionTag;

    fn id(commit_lsn: u64) -> EventId {
        EventId::new(commit_lsn, 0, TransactionTag::new("replication", 1, 1, 1, 0))
    }

    fn body(id: EventId, event: &str, key: &str) -> Vec<u8> {
        format!(
            r#"{{"id":"{id}","event":"{event}","timestamp":"2025-02-10T15:30:50.000001Z","data":{{"id":"{key}"}},
               "source":{{"table":"people"}}}}"#
        )
        .into_bytes()
    }

    fn book(ledger: &mut Ledger, body: &[u8]) {
        let answered_at_us = 1_739_201_450_000_001 + 2_000;
        ledger.book(&Arrival { body, verified: true, answered_at_us });
    }

    #[test]
    fn each_event_counts_once() {
        let mut ledger = Ledger::default();
        book(&mut ledger, &body(id(1), "person.created", "a"));
        book(&mut ledger, &body(id(2), "person.updated", "a"));
        book(&mut ledger, &body(id(2), "person.updated", "a"));
        book(&mut ledger, &body(id(3), "person.deleted", "a"));
        let figures = ledger.figures();
        assert_eq!(figures.delivered, Counts { created: 1, updated: 1, deleted: 1, custom: 0 });
        assert_eq!((figures.verified, figures.repeats, figures.out_of_order), (4, 1, 0));
        assert_eq!((figures.p50_us, figures.p99_us), (Some(2_000), Some(2_000)));
        assert_eq!(ledger.told()["people"], [("a".to_owned(), None)]);
    }

    #[test]
    fn order_is_watched_per_record() {
        let mut ledger = Ledger::default();
        book(&mut ledger, &body(id(5), "person.updated", "a"));
        book(&mut ledger, &body(id(3), "person.updated", "b"));
        assert_eq!(ledger.figures().out_of_order, 0);
        book(&mut ledger, &body(id(4), "person.updated", "a"));
        assert_eq!(ledger.figures().out_of_order, 1);
        // Only the first arrival counts: a repeat may come late.
        book(&mut ledger, &body(id(5), "person.updated", "a"));
        assert_eq!(ledger.figures().out_of_order, 1);
    }

    #[test]
    fn what_is_not_signed_or_not_an_event_is_no_delivery() {
        let mut ledger = Ledger::default();
        let event = body(id(1), "person.created", "a");
        ledger.book(&Arrival { body: &event, verified: false, answered_at_us: 0 });
        book(&mut ledger, b"hello");
        book(&mut ledger, br#"{"id":"1","event":"person.created","timestamp":"","data":{}}"#);
        let figures = ledger.figures();
        assert_eq!(figures.delivered.total(), 0);
        assert_eq!((figures.forged, figures.unreadable), (1, 2));
    }

    #[test]
    fn quantiles_of_few_values() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[7], 0.99), Some(7));
        assert_eq!(quantile(&[1, 2, 3, 4], 0.5), Some(2));
        assert_eq!(quantile(&[1, 2, 3, 4], 0.99), Some(4));
    }
}

//! What walhook tells about itself, as events that are delivered like any other.

use super::batch::Lanes;
use super::envelope::{quoted, rfc3339};
use super::id::{EventId, TransactionTag};
use super::lanes::LaneHash;

/// The first segment of the names of all reports.
const NAMESPACE: &str = "walhook";

/// Words of a failure beyond this many bytes are left out.
const TEXT_BYTES: usize = 2_048;

/// Set in the ordinals of reports, which no change of a transaction comes near.
const ORDINAL_OF_REPORTS: u64 = 1 << 39;

/// Something an operator may want to be told.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Report {
    /// `walhook.endpoint.disabled`
    EndpointDisabled {
        /// Its name.
        endpoint: String,
        /// Why, in a sentence.
        reason: String,
    },
    /// `walhook.endpoint.failing`: nothing but failures for a while.
    EndpointFailing {
        /// Its name.
        endpoint: String,
        /// The last failure.
        error: String,
        /// When the first of them ended, milliseconds since the Unix epoch.
        since_ms: i64,
    },
    /// `walhook.endpoint.recovered`: it accepts events again after that.
    EndpointRecovered {
        /// Its name.
        endpoint: String,
        /// When the first failure ended, milliseconds since the Unix epoch.
        since_ms: i64,
    },
    /// `walhook.delivery.dead`
    DeliveryDead {
        /// The endpoint's name.
        endpoint: String,
        /// The event.
        id: EventId,
        /// Its name.
        event: String,
        /// How often it was tried.
        attempts: u32,
        /// The last failure.
        error: String,
    },
    /// `walhook.slot.lag`: the server keeps much log for the slot.
    SlotLag {
        /// The slot.
        slot: String,
        /// Bytes of log that the server keeps for it.
        retained_bytes: u64,
        /// From how many bytes on this is said.
        limit_bytes: u64,
        /// Whether it is below the limit again.
        recovered: bool,
    },
    /// `walhook.outbox.lag`: many rows wait in the outbox.
    OutboxLag {
        /// How many, at least.
        rows: u64,
        /// From how many on this is said.
        limit_rows: u64,
        /// Whether there are fewer again.
        recovered: bool,
    },
    /// `walhook.gap`: events that will not be delivered.
    Gap {
        /// The endpoint that lacks them; all where it is `None`.
        endpoint: Option<String>,
        /// How many, where that is known.
        events: Option<u64>,
        /// Why, in a sentence.
        reason: String,
    },
}

/// Where and when a report becomes an event.
#[derive(Clone, Copy, Debug)]
pub struct ReportPlace<'a> {
    /// The last commit that was taken from the stream before; 0 where there is none.
    pub commit_lsn: u64,
    /// Its number in the journal, which is never used again.
    pub number: u64,
    /// When it was made, microseconds since the Unix epoch.
    pub at_us: i64,
    /// The cluster's identifier; 0 where it is not known yet.
    pub system_identifier: u64,
    /// The database's oid; 0 where it is not known yet.
    pub database_oid: u32,
    /// The database's name, if it is known yet.
    pub database: Option<&'a str>,
}

impl ReportPlace<'_> {
    /// The id of the report: unlike any other, and among those of changes where it was made.
    pub fn id(&self) -> EventId {
        let tag = TransactionTag::new(
            NAMESPACE,
            self.system_identifier,
            self.database_oid,
            0,
            self.at_us,
        );
        let ordinal = ORDINAL_OF_REPORTS | (self.number & (ORDINAL_OF_REPORTS - 1));
        EventId::new(self.commit_lsn, ordinal, tag)
    }
}

/// Whether an event of this name is a report, or passes for one.
pub fn is_report(event: &str) -> bool {
    event.split('.').next() == Some(NAMESPACE)
}

/// A member of `data`.
enum Member<'a> {
    Text(&'a str),
    Count(u64),
    /// Milliseconds since the Unix epoch.
    Time(i64),
    Flag(bool),
    Event(EventId, &'a str),
    Absent,
}

impl Report {
    /// The event's name.
    pub fn name(&self) -> &'static str {
        match self {
            Report::EndpointDisabled { .. } => "walhook.endpoint.disabled",
            Report::EndpointFailing { .. } => "walhook.endpoint.failing",
            Report::EndpointRecovered { .. } => "walhook.endpoint.recovered",
            Report::DeliveryDead { .. } => "walhook.delivery.dead",
            Report::SlotLag { .. } => "walhook.slot.lag",
            Report::OutboxLag { .. } => "walhook.outbox.lag",
            Report::Gap { .. } => "walhook.gap",
        }
    }

    /// Whether it is about what became of another report, and would beget one itself in the end.
    pub fn is_about_a_report(&self) -> bool {
        matches!(self, Report::DeliveryDead { event, .. } if is_report(event))
    }

    /// What it is ordered with: the others about the same endpoint, slot or outbox.
    pub fn lanes(&self) -> Lanes {
        let (kind, name): (&[u8], &str) = match self {
            Report::EndpointDisabled { endpoint, .. }
            | Report::EndpointFailing { endpoint, .. }
            | Report::EndpointRecovered { endpoint, .. }
            | Report::DeliveryDead { endpoint, .. }
            | Report::Gap { endpoint: Some(endpoint), .. } => (b"endpoint", endpoint),
            Report::SlotLag { slot, .. } => (b"slot", slot),
            Report::OutboxLag { .. } => (b"outbox", ""),
            Report::Gap { endpoint: None, .. } => return Lanes::NONE,
        };
        Lanes::one(LaneHash::of(&[NAMESPACE.as_bytes(), kind, name.as_bytes()]).lane())
    }

    /// Appends the envelope, of the same shape as those of changes.
    pub fn write_envelope(&self, out: &mut Vec<u8>, place: &ReportPlace<'_>) {
        out.extend_from_slice(b"{\"id\":\"");
        place.id().write_to(out);
        out.extend_from_slice(b"\",\"event\":");
        quoted(out, self.name());
        out.extend_from_slice(b",\"timestamp\":\"");
        rfc3339(out, place.at_us);
        out.extend_from_slice(b"\",\"data\":");
        write_object(out, &self.members());
        out.extend_from_slice(b",\"source\":{\"database\":");
        match place.database {
            Some(database) => quoted(out, database),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"capture\":");
        quoted(out, NAMESPACE);
        out.extend_from_slice(b"}}");
    }

    fn members(&self) -> Vec<(&'static str, Member<'_>)> {
        use Member::{Absent, Count, Event, Flag, Text, Time};
        match self {
            Report::EndpointDisabled { endpoint, reason } => {
                vec![("endpoint", Text(endpoint)), ("reason", Text(reason))]
            }
            Report::EndpointFailing { endpoint, error, since_ms } => vec![
                ("endpoint", Text(endpoint)),
                ("error", Text(error)),
                ("since", Time(*since_ms)),
            ],
            Report::EndpointRecovered { endpoint, since_ms } => {
                vec![("endpoint", Text(endpoint)), ("since", Time(*since_ms))]
            }
            Report::DeliveryDead { endpoint, id, event, attempts, error } => vec![
                ("endpoint", Text(endpoint)),
                ("event", Event(*id, event)),
                ("attempts", Count(u64::from(*attempts))),
                ("error", Text(error)),
            ],
            Report::SlotLag { slot, retained_bytes, limit_bytes, recovered } => vec![
                ("slot", Text(slot)),
                ("retainedBytes", Count(*retained_bytes)),
                ("limitBytes", Count(*limit_bytes)),
                ("recovered", Flag(*recovered)),
            ],
            Report::OutboxLag { rows, limit_rows, recovered } => vec![
                ("rows", Count(*rows)),
                ("limitRows", Count(*limit_rows)),
                ("recovered", Flag(*recovered)),
            ],
            Report::Gap { endpoint, events, reason } => vec![
                ("endpoint", endpoint.as_deref().map_or(Absent, Text)),
                ("events", events.map_or(Absent, Count)),
                ("reason", Text(reason)),
            ],
        }
    }
}

/// Appends a JSON object without the members that are absent.
fn write_object(out: &mut Vec<u8>, members: &[(&'static str, Member<'_>)]) {
    out.push(b'{');
    let present = members.iter().filter(|(_, member)| !matches!(member, Member::Absent));
    for (at, (name, member)) in present.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        quoted(out, name);
        out.push(b':');
        member.write(out);
    }
    out.push(b'}');
}

impl Member<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Member::Text(text) => quoted(out, &text[..text.floor_char_boundary(TEXT_BYTES)]),
            Member::Count(count) => {
                out.extend_from_slice(itoa::Buffer::new().format(*count).as_bytes());
            }
            Member::Time(time_ms) => {
                out.push(b'"');
                rfc3339(out, time_ms.saturating_mul(1_000));
                out.push(b'"');
            }
            Member::Flag(flag) => out.extend_from_slice(if *flag { b"true" } else { b"false" }),
            Member::Event(id, name) => {
                let id = id.to_string();
                write_object(out, &[("id", Member::Text(&id)), ("name", Member::Text(name))]);
            }
            Member::Absent => out.extend_from_slice(b"null"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: ReportPlace<'static> = ReportPlace {
        commit_lsn: 0x16B_3790,
        number: 41,
        at_us: 1_739_201_450_123_456,
        system_identifier: 7,
        database_oid: 5,
        database: Some("crm"),
    };

    fn envelope(report: &Report, place: &ReportPlace<'_>) -> String {
        let mut out = Vec::new();
        report.write_envelope(&mut out, place);
        String::from_utf8(out).unwrap()
    }

    fn data(report: &Report) -> serde_json::Value {
        serde_json::from_str::<serde_json::Value>(&envelope(report, &PLACE)).unwrap()["data"].take()
    }

    #[test]
    fn the_envelope_is_that_of_a_change() {
        let report =
            Report::EndpointDisabled { endpoint: "crm \"a\"".into(), reason: "410\n".into() };
        let id = PLACE.id();
        assert_eq!(
            envelope(&report, &PLACE),
            format!(
                "{{\"id\":\"{id}\",\"event\":\"walhook.endpoint.disabled\",\
                 \"timestamp\":\"2025-02-10T15:30:50.123456Z\",\
                 \"data\":{{\"endpoint\":\"crm \\\"a\\\"\",\"reason\":\"410\\n\"}},\
                 \"source\":{{\"database\":\"crm\",\"capture\":\"walhook\"}}}}"
            )
        );
        let unknown = envelope(&report, &ReportPlace { database: None, ..PLACE });
        assert!(unknown.contains(r#""source":{"database":null,"capture":"walhook"}"#), "{unknown}");
    }

    #[test]
    fn each_has_a_name_and_its_members() {
        let endpoint = || "crm".to_owned();
        let id = EventId::new(1, 2, TransactionTag::new("replication", 7, 5, 9, 0));
        let error = || "the answer was 500".to_owned();
        for (report, name, expected) in [
            (
                Report::EndpointFailing { endpoint: endpoint(), error: error(), since_ms: 1_500 },
                "walhook.endpoint.failing",
                serde_json::json!({"endpoint": "crm", "error": "the answer was 500",
                                   "since": "1970-01-01T00:00:01.500000Z"}),
            ),
            (
                Report::EndpointRecovered { endpoint: endpoint(), since_ms: 0 },
                "walhook.endpoint.recovered",
                serde_json::json!({"endpoint": "crm", "since": "1970-01-01T00:00:00.000000Z"}),
            ),
            (
                Report::DeliveryDead {
                    endpoint: endpoint(),
                    id,
                    event: "person.created".to_owned(),
                    attempts: 3,
                    error: error(),
                },
                "walhook.delivery.dead",
                serde_json::json!({"endpoint": "crm", "attempts": 3, "error": "the answer was 500",
                                   "event": {"id": id.to_string(), "name": "person.created"}}),
            ),
            (
                Report::SlotLag {
                    slot: "walhook".to_owned(),
                    retained_bytes: 1 << 31,
                    limit_bytes: 1 << 30,
                    recovered: false,
                },
                "walhook.slot.lag",
                serde_json::json!({"slot": "walhook", "retainedBytes": 2_147_483_648_u64,
                                   "limitBytes": 1_073_741_824, "recovered": false}),
            ),
            (
                Report::OutboxLag { rows: 12, limit_rows: 10, recovered: false },
                "walhook.outbox.lag",
                serde_json::json!({"rows": 12, "limitRows": 10, "recovered": false}),
            ),
            (
                Report::Gap { endpoint: Some(endpoint()), events: Some(7), reason: error() },
                "walhook.gap",
                serde_json::json!({"endpoint": "crm", "events": 7, "reason": "the answer was 500"}),
            ),
            (
                Report::Gap { endpoint: None, events: None, reason: error() },
                "walhook.gap",
                serde_json::json!({"reason": "the answer was 500"}),
            ),
        ] {
            assert_eq!(report.name(), name);
            assert!(is_report(name));
            assert_eq!(data(&report), expected);
        }
    }

    #[test]
    fn ids_differ_by_number_alone_and_sort_behind_the_commit() {
        let next = ReportPlace { number: 42, ..PLACE };
        assert_ne!(PLACE.id(), next.id());
        assert!(PLACE.id() < next.id());
        let tag = TransactionTag::new("replication", 7, 5, 9, 0);
        assert!(EventId::new(PLACE.commit_lsn, 1_000_000, tag) < PLACE.id());
        assert!(PLACE.id() < EventId::new(PLACE.commit_lsn + 1, 0, tag));
    }

    #[test]
    fn a_report_s_own_death_is_told_apart() {
        let dead = |event: &str| Report::DeliveryDead {
            endpoint: "ops".to_owned(),
            id: PLACE.id(),
            event: event.to_owned(),
            attempts: 1,
            error: String::new(),
        };
        assert!(dead("walhook.delivery.dead").is_about_a_report());
        assert!(!dead("walhooks.created").is_about_a_report());
    }

    #[test]
    fn long_words_are_cut() {
        let gap = Report::Gap { endpoint: None, events: None, reason: "é".repeat(5_000) };
        assert_eq!(data(&gap)["reason"].as_str().unwrap().len(), TEXT_BYTES);
    }
}

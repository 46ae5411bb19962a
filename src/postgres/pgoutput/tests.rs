use proptest::collection::vec;
use proptest::prelude::*;

use super::encode::{self, Writer, encode};
use super::*;
use crate::postgres::relation::ReplicaIdentity;

/// What a PostgreSQL 15 sent for a session with every kind of message in it, in order: tables of
/// each replica identity, hostile names, unchanged TOAST, a cascading TRUNCATE, messages inside and
/// outside of transactions, an origin.
const GOLDEN: &str = include_str!("golden.hex");

fn golden() -> Vec<Vec<u8>> {
    GOLDEN.lines().map(|line| hex::decode(line).unwrap()).collect()
}

fn all(tuple: TupleData<'_>) -> Vec<TupleValue<'_>> {
    tuple.iter().collect()
}

fn text(text: &str) -> TupleValue<'_> {
    TupleValue::Text(text.as_bytes())
}

#[test]
fn every_message_of_a_real_server_is_decoded_without_loss() {
    let mut tags = std::collections::BTreeSet::new();
    for message in golden() {
        let decoded = decode(&message).unwrap();
        assert_eq!(encode(&decoded), message, "{decoded:?}");
        tags.insert(message[0]);
    }
    assert!(tags.into_iter().eq(*b"BCDIMORTUY"));
}

/// The first golden message for which `pick` has something to say.
fn first<T>(pick: impl Fn(LogicalMessage<'static>) -> Option<T>) -> T {
    let messages = golden().into_iter();
    messages.map(|it| decode(it.leak()).unwrap()).find_map(pick).unwrap()
}

#[test]
fn transactions_of_a_real_server() {
    let begin = decode(golden()[0].clone().leak()).unwrap();
    let committed_at_us = POSTGRES_EPOCH_US + 0x0003_03E6_B61C_076D;
    let final_lsn = Lsn(0x154_7448);
    assert_eq!(begin, LogicalMessage::Begin { final_lsn, committed_at_us, xid: 0x2E3 });
    let commit = first(|it| matches!(it, LogicalMessage::Commit { .. }).then_some(it));
    let end_lsn = Lsn(0x154_7478);
    let expected = LogicalMessage::Commit { commit_lsn: final_lsn, end_lsn, committed_at_us };
    assert_eq!(commit, expected);
    let origin = first(|it| matches!(it, LogicalMessage::Origin { .. }).then_some(it));
    let commit_lsn = Lsn(0xAB_CDEF);
    assert_eq!(origin, LogicalMessage::Origin { commit_lsn, name: b"elsewhere" });
}

#[test]
fn tables_of_a_real_server() {
    let people = first(|it| match it {
        LogicalMessage::Relation(relation) if relation.name == "people" => Some(relation),
        _ => None,
    });
    assert_eq!((people.schema, people.id), ("public", RelationId(0x400A)));
    assert_eq!(people.replica_identity, ReplicaIdentity::Default);
    let columns: Vec<_> = people.columns.iter().collect();
    assert_eq!(columns.len(), people.columns.len());
    let id =
        RelationColumn { name: "id", type_oid: 20, type_modifier: -1, in_replica_identity: true };
    assert_eq!(columns[0], id);
    assert_eq!((columns[4].name, columns[4].in_replica_identity), ("bio", false));
    let hostile = first(|it| match it {
        LogicalMessage::Relation(it) if it.replica_identity == ReplicaIdentity::Full => Some(it),
        _ => None,
    });
    assert_eq!((hostile.schema, hostile.name), ("we\"ird", "naïve\ntable"));
    let names: Vec<_> = hostile.columns.iter().map(|column| column.name).collect();
    assert_eq!(names, ["a.b", "ключ"]);
    let mood = first(|it| matches!(it, LogicalMessage::Type { .. }).then_some(it));
    assert_eq!(mood, LogicalMessage::Type { oid: 0x4002, schema: "public", name: "mood" });
}

#[test]
fn rows_of_a_real_server() {
    let (old, new) = first(|it| match it {
        LogicalMessage::Update { old, new, .. } => Some((old, new)),
        _ => None,
    });
    assert_eq!(old, None);
    let pair = text("(1,\"x y\")");
    let unchanged = TupleValue::UnchangedToast;
    assert_eq!(all(new), [text("1"), text("Anna"), text("ok"), pair, unchanged]);

    let (old, new) = first(|it| match it {
        LogicalMessage::Update { old: Some(OldTuple::Key(old)), new, .. } => Some((old, new)),
        _ => None,
    });
    let nothing = TupleValue::Null;
    assert_eq!(all(old), [text("1"), nothing, nothing, nothing, nothing]);
    assert_eq!(all(new)[0], text("3"));

    let old = first(|it| match it {
        LogicalMessage::Update { old: Some(OldTuple::Full(old)), .. } => Some(old),
        _ => None,
    });
    assert_eq!(all(old), [text("1"), text("é\"\\")]);

    let old = first(|it| match it {
        LogicalMessage::Delete { old: OldTuple::Full(old), .. } => Some(old),
        _ => None,
    });
    assert_eq!(all(old), [nothing, nothing]);
}

#[test]
fn truncate_and_messages_of_a_real_server() {
    let (cascade, restart_identity, relations) = first(|it| match it {
        LogicalMessage::Truncate { cascade, restart_identity, relations } => {
            Some((cascade, restart_identity, relations))
        }
        _ => None,
    });
    // Postgres resolves CASCADE into the tables' list, yet keeps the word.
    assert!(cascade && restart_identity);
    assert!(relations.iter().eq([RelationId(0x400A), RelationId(0x4016)]));
    let message = |wanted: bool| {
        first(move |it| match it {
            LogicalMessage::Message { transactional, .. } if transactional == wanted => Some(it),
            _ => None,
        })
    };
    let expected = LogicalMessage::Message {
        transactional: true,
        lsn: Lsn(0x154_8F58),
        prefix: b"walhook",
        content: br#"{"event":"invoice.paid"}"#,
    };
    assert_eq!(message(true), expected);
    let expected = LogicalMessage::Message {
        transactional: false,
        lsn: Lsn(0x154_8FC8),
        prefix: b"other",
        content: b"\x00\xFF",
    };
    assert_eq!(message(false), expected);
}

#[test]
fn whatever_is_cut_or_added_is_an_error() {
    for message in golden() {
        for end in 0..message.len() {
            let error = decode(&message[..end]).unwrap_err();
            assert!(error.is_truncated(), "{error}");
        }
        let longer = [&message[..], b"\0"].concat();
        let error = decode(&longer).unwrap_err().to_string();
        assert!(error.contains("1 bytes too many"), "{error}");
    }
}

#[test]
fn hostile_messages_are_errors() {
    let insert = |rest: &[u8]| Writer::new(b'I').u32(1).bytes(rest).0;
    let huge = i32::MAX.to_be_bytes();
    let negative = (-1i32).to_be_bytes();
    for (message, expected) in [
        (vec![], "empty"),
        (b"S".to_vec(), "no such kind"),
        (b"\0".to_vec(), "'\\x00'"),
        (insert(b"K\0\0"), "tuple kind 'K'"),
        (insert(b"N\0\x01x"), "value kind 'x'"),
        (insert(b"N\0\x01b\0\0\0\0"), "binary"),
        (insert(b"N\xFF\xFF"), "too early"),
        (insert(&[b"N\0\x01t", &huge[..]].concat()), "too early"),
        (insert(&[b"N\0\x01t", &negative[..]].concat()), "a length of -1"),
        (Writer::new(b'T').bytes(&huge).u8(0).0, "too early"),
        (Writer::new(b'T').bytes(&negative).u8(0).0, "a length of -1"),
        (Writer::new(b'M').u8(0).u64(0).text(b"").bytes(&huge).0, "too early"),
        (Writer::new(b'M').u8(0).u64(0).text(b"").bytes(&negative).0, "a length of -1"),
        (Writer::new(b'D').u32(1).bytes(b"N\0\0").0, "tuple kind 'N'"),
        (Writer::new(b'U').u32(1).bytes(b"K\0\0K\0\0").0, "tuple kind 'K'"),
        (Writer::new(b'R').u32(1).text(b"s").text(b"t").bytes(b"x\0\0").0, "replica identity 'x'"),
        (Writer::new(b'R').u32(1).text(b"s").text(b"\xFF").bytes(b"d\0\0").0, "not UTF-8"),
        (Writer::new(b'R').u32(1).text(b"s").text(b"t").bytes(b"d\xFF\xFF").0, "too early"),
        (Writer::new(b'Y').u32(1).bytes(b"no end").0, "no end"),
    ] {
        let error = decode(&message).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(decode(b"S").unwrap_err().is_unknown_message());
}

#[test]
fn absurd_times_do_not_overflow() {
    let message = Writer::new(b'B').u64(0).u64(i64::MAX.cast_unsigned()).u32(0).0;
    let begin = LogicalMessage::Begin { final_lsn: Lsn(0), committed_at_us: i64::MAX, xid: 0 };
    assert_eq!(decode(&message), Ok(begin));
}

#[test]
fn no_schema_means_pg_catalog() {
    let message = Writer::new(b'Y').u32(23).text(b"").text(b"int4").0;
    let expected = LogicalMessage::Type { oid: 23, schema: "pg_catalog", name: "int4" };
    assert_eq!(decode(&message), Ok(expected));
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    any::<String>().prop_map(|name| name.replace('\0', "").into_bytes())
}

/// One value: nothing for null, an error for unchanged.
type Value = Result<Option<Vec<u8>>, ()>;

fn row() -> impl Strategy<Value = Vec<Value>> {
    let value = prop_oneof![
        Just(Err(())),
        Just(Ok(None)),
        vec(any::<u8>(), 0..20).prop_map(|text| Ok(Some(text)))
    ];
    vec(value, 0..8)
}

fn borrowed(row: &[Value]) -> Vec<TupleValue<'_>> {
    row.iter()
        .map(|value| match value {
            Err(()) => TupleValue::UnchangedToast,
            Ok(None) => TupleValue::Null,
            Ok(Some(text)) => TupleValue::Text(text),
        })
        .collect()
}

/// Any valid message, as bytes.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let times = -400_000_000_000_000_000..400_000_000_000_000_000i64;
    prop_oneof![
        (any::<u64>(), times.clone(), any::<u32>()).prop_map(|(lsn, time, xid)| Writer::new(b'B')
            .u64(lsn)
            .time(time)
            .u32(xid)
            .0),
        (any::<u64>(), any::<u64>(), times).prop_map(|(commit, end, time)| {
            Writer::new(b'C').u8(0).u64(commit).u64(end).time(time).0
        }),
        (any::<u64>(), name()).prop_map(|(lsn, it)| Writer::new(b'O').u64(lsn).text(&it).0),
        (any::<u32>(), name(), name()).prop_map(|(oid, schema, it)| Writer::new(b'Y')
            .u32(oid)
            .text(&schema)
            .text(&it)
            .0),
        relation(),
        (any::<u32>(), row()).prop_map(|(id, new)| encode::insert(id, &borrowed(&new))),
        (any::<u32>(), proptest::option::of((any::<bool>(), row())), row()).prop_map(
            |(id, old, new)| {
                let old = old.as_ref().map(|(full, old)| (kind(*full), borrowed(old)));
                let old = old.as_ref().map(|(kind, old)| (*kind, old.as_slice()));
                encode::update(id, old, &borrowed(&new))
            }
        ),
        (any::<u32>(), any::<bool>(), row()).prop_map(|(id, full, old)| encode::delete(
            id,
            kind(full),
            &borrowed(&old)
        )),
        (0..4u8, vec(any::<u32>(), 0..5)).prop_map(|(options, ids)| {
            let message = Writer::new(b'T').u32(ids.len() as u32).u8(options);
            ids.into_iter().fold(message, Writer::u32).0
        }),
        (0..2u8, any::<u64>(), name(), vec(any::<u8>(), 0..40)).prop_map(
            |(flags, lsn, prefix, content)| {
                let message = Writer::new(b'M').u8(flags).u64(lsn).text(&prefix);
                message.u32(content.len() as u32).bytes(&content).0
            }
        ),
    ]
}

fn kind(full: bool) -> u8 {
    if full { b'O' } else { b'K' }
}

fn relation() -> impl Strategy<Value = Vec<u8>> {
    let identity = prop_oneof![Just(b'd'), Just(b'n'), Just(b'f'), Just(b'i')];
    let columns = vec((0..2u8, name(), any::<u32>(), any::<u32>()), 0..6);
    (any::<u32>(), name(), name(), identity, columns).prop_map(
        |(id, schema, name, identity, columns)| {
            let message = Writer::new(b'R').u32(id).text(&schema).text(&name).u8(identity);
            let message = message.u16(columns.len());
            columns
                .into_iter()
                .fold(message, |message, (flags, name, oid, modifier)| {
                    message.u8(flags).text(&name).u32(oid).u32(modifier)
                })
                .0
        },
    )
}

proptest! {
    #[test]
    fn valid_messages_round_trip(message in message()) {
        let decoded = decode(&message).unwrap();
        prop_assert_eq!(encode(&decoded), message);
    }

    #[test]
    fn every_truncation_is_an_error(message in message()) {
        for end in 0..message.len() {
            prop_assert!(decode(&message[..end]).is_err());
        }
    }

    #[test]
    fn random_bytes_never_panic(tag in proptest::sample::select(&b"BCORYIUDTMxS"[..]), bytes in vec(any::<u8>(), 0..200)) {
        let message = [&[tag][..], &bytes].concat();
        if let Ok(decoded) = decode(&message) {
            // Whatever was accepted can be walked to its end.
            let _ = format!("{decoded:?}");
            let _ = encode(&decoded);
        }
    }

    #[test]
    fn flipped_bytes_never_panic(message in message(), place in any::<prop::sample::Index>(), byte: u8) {
        let mut message = message;
        let place = place.index(message.len());
        message[place] = byte;
        if let Ok(decoded) = decode(&message) {
            let _ = encode(&decoded);
        }
    }

    #[test]
    fn decoded_rows_have_the_values_sent(id: u32, new in row()) {
        let message = encode::insert(id, &borrowed(&new));
        match decode(&message) {
            Ok(LogicalMessage::Insert { relation, new: decoded }) => {
                prop_assert_eq!(relation, RelationId(id));
                prop_assert_eq!(decoded.len(), new.len());
                prop_assert_eq!(all(decoded), borrowed(&new));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

/// Inputs that a coverage-guided fuzzer came upon, the fewest that reach all it has reached.
const FUZZED: &str = include_str!("fuzzed.hex");

#[test]
fn what_a_fuzzer_came_upon_ends_with_a_message_or_an_error() {
    let walk = |tuple: TupleData<'_>| assert_eq!(tuple.iter().count(), tuple.len());
    let (mut messages, mut errors) = (0, 0);
    for line in FUZZED.lines() {
        let data = hex::decode(line).unwrap();
        // and whatever is left of it when it is cut off
        for end in 0..=data.len() {
            match decode(&data[..end]) {
                Ok(LogicalMessage::Insert { new, .. }) => walk(new),
                Ok(LogicalMessage::Update { old, new, .. }) => {
                    old.iter().for_each(|old| walk(old.tuple()));
                    walk(new);
                }
                Ok(LogicalMessage::Delete { old, .. }) => walk(old.tuple()),
                Ok(LogicalMessage::Relation(relation)) => {
                    assert_eq!(relation.columns.iter().count(), relation.columns.len());
                }
                Ok(_) => {}
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
        match decode(&data) {
            Ok(_) => messages += 1,
            Err(_) => errors += 1,
        }
    }
    assert!(messages > 20 && errors > 20, "{messages} {errors}");
}

//! Any rows of any columns: told as the log tells them, under any rule.

use proptest::prelude::*;

use super::*;
use crate::event::render::{self, RenderOptions};

fn kinds() -> impl Strategy<Value = TypeKind> {
    let array = |element: TypeKind| TypeKind::Array { element: Arc::new(element), delimiter: b',' };
    prop_oneof![
        Just(TypeKind::Text),
        Just(TypeKind::Int8),
        Just(TypeKind::Number),
        Just(TypeKind::Bool),
        Just(TypeKind::Timestamp),
        Just(TypeKind::TimestampTz),
        Just(TypeKind::Json),
        Just(array(TypeKind::Int8)),
        Just(array(TypeKind::Text)),
    ]
}

/// The text of a value of the kind, from a number and a text.
fn text_of(kind: &TypeKind, number: i64, text: &str) -> String {
    let (day, micros) = (number.rem_euclid(28) + 1, number.rem_euclid(1_000_000));
    match kind {
        TypeKind::Int8 => number.to_string(),
        TypeKind::Number => format!("{number}.{micros}"),
        TypeKind::Bool => if number % 2 == 0 { "t" } else { "f" }.to_owned(),
        TypeKind::Timestamp => format!("2024-02-{day:02} 15:30:50.{micros:06}"),
        TypeKind::TimestampTz => format!("2024-02-{day:02} 15:30:00.{micros:06}+00"),
        TypeKind::Json => format!(r#"{{"a": [{number}, {}]}}"#, json!(text)),
        TypeKind::Array { element, .. } if **element == TypeKind::Int8 => {
            format!("{{{number},NULL,{micros}}}")
        }
        TypeKind::Array { .. } => {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
            format!("{{\"{escaped}\",NULL}}")
        }
        _ => text.to_owned(),
    }
}

type Row = Vec<Option<(i64, String)>>;

/// Values of which neighbours are often the same.
fn rows(columns: usize) -> impl Strategy<Value = (Row, Row)> {
    let text = prop_oneof![Just("a".to_owned()), "\\PC{0,8}", "[\"\\\\\n\u{1}é]{0,4}"];
    let value = proptest::option::weighted(0.8, (prop_oneof![0..3_i64, any::<i64>()], text));
    let row = proptest::collection::vec(value, columns);
    (row.clone(), row, proptest::collection::vec(any::<bool>(), columns)).prop_map(
        |(old, mut new, same)| {
            for ((new, old), _) in new.iter_mut().zip(&old).zip(same).filter(|(_, same)| *same) {
                new.clone_from(old);
            }
            (old, new)
        },
    )
}

/// As the log has it, and as `row_to_json` writes it: what renders the one is compared with the
/// server elsewhere.
fn both(relation: &Relation, row: &Row) -> (Vec<Option<String>>, String) {
    let texts: Vec<Option<String>> = row
        .iter()
        .zip(&relation.columns)
        .map(|(value, column)| {
            let (number, text) = value.as_ref()?;
            Some(text_of(&column.kind, *number, text))
        })
        .collect();
    let mut json = Vec::new();
    for (text, column) in texts.iter().zip(&relation.columns) {
        json.extend_from_slice(if json.is_empty() { b"{" } else { b"," });
        crate::event::envelope::quoted(&mut json, &column.name);
        json.push(b':');
        match text {
            None => json.extend_from_slice(b"null"),
            Some(text) => {
                let options = RenderOptions::default();
                render::value(&mut json, &column.kind, text.as_bytes(), options).unwrap();
            }
        }
    }
    json.push(b'}');
    (texts, String::from_utf8(json).unwrap())
}

fn tuple(texts: &[Option<String>]) -> Vec<TupleValue<'_>> {
    texts
        .iter()
        .map(|text| {
            text.as_ref().map_or(TupleValue::Null, |text| TupleValue::Text(text.as_bytes()))
        })
        .collect()
}

proptest! {
    #[test]
    fn as_the_log_tells_it(
        (kinds, (old, new)) in proptest::collection::vec(kinds(), 1..8)
            .prop_flat_map(|kinds| { let columns = kinds.len(); (Just(kinds), rows(columns)) }),
        names in proptest::collection::hash_set("[a-c_\"é\\\\A]{1,4}", 8),
        int8_as_string in any::<bool>(),
        camel in any::<bool>(),
        choice in 0..4_usize,
    ) {
        let names: Vec<String> = names.into_iter().collect();
        let name = |place: usize| names[place].clone();
        let mut columns: Vec<(String, TypeKind)> =
            kinds.into_iter().enumerate().map(|(place, kind)| (name(place), kind)).collect();
        // The key's text must be what JSON can tell.
        let (_, key) = &mut columns[0];
        if matches!(key, TypeKind::Array { .. }) {
            *key = TypeKind::Int8;
        }
        let described: Vec<(String, TypeKind)> = columns
            .iter()
            .enumerate()
            .map(|(at, (name, kind))| (if at == 0 { format!("*{name}") } else { name.clone() }, kind.clone()))
            .collect();
        let described: Vec<(&str, TypeKind)> =
            described.iter().map(|(name, kind)| (&**name, kind.clone())).collect();
        let relation = table(ReplicaIdentity::Full, &described);
        let last = columns.len() - 1;
        let rule = TableRule {
            columns: match choice {
                0 => Columns::Except(vec![name(0)]),
                1 => Columns::Only(vec![name(0), name(last)]),
                _ => Columns::All,
            },
            case: if camel { Case::Camel } else { Case::AsIs },
            soft_delete: (choice == 2).then(|| name(last)),
            rename: if choice == 3 { vec![(name(last), "other".into())] } else { Vec::new() },
            ..person()
        };
        let ((old_text, old_json), (new_text, new_json)) =
            (both(&relation, &old), both(&relation, &new));
        let mut logged = recorded_rules(vec![rule.clone()], int8_as_string, "replication");
        let mut recorded = recorded_rules(vec![rule], int8_as_string, "outbox");
        let table = seen(&relation);
        let (old_text, new_text) = (tuple(&old_text), tuple(&new_text));
        for (message, (kind, old, new)) in [
            (encode::insert(1, &new_text), insert_json(&new_json)),
            (encode::update(1, Some((b'O', &old_text)), &new_text), update_json(&old_json, &new_json)),
            (encode::delete(1, b'O', &old_text), delete_json(&old_json)),
        ] {
            let by_log = only(&apply(&mut logged, &relation, &message));
            let by_trigger = only(&record(&mut recorded, &table, kind, old, new).unwrap());
            prop_assert_eq!(by_trigger, by_log);
        }
    }

    /// Whatever somebody wrote there: an event that is JSON, or a sentence.
    #[test]
    fn any_text_is_an_event_or_an_error(
        old in hostile(),
        new in hostile(),
        kind in kinds(),
        int8_as_string in any::<bool>(),
    ) {
        let table = seen(&table(ReplicaIdentity::Full, &[("*a", kind.clone()), ("b", kind)]));
        let mut rules = recorded_rules(vec![person()], int8_as_string, "outbox");
        for (kind, old, new) in [insert_json(&new), update_json(&old, &new), delete_json(&old)] {
            match record(&mut rules, &table, kind, old, new) {
                Ok(batch) => {
                    let body = batch.body(&batch.events()[0]);
                    prop_assert!(serde_json::from_slice::<&serde_json::value::RawValue>(body).is_ok());
                }
                Err(error) => prop_assert!(error.is_of_one_change()),
            }
        }
    }
}

/// Pieces of rows in some order, and rows with a piece cut out.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just("\"a\":".to_owned()),
        Just("\"b\"".to_owned()),
        Just("\"\\ud800\"".to_owned()),
        Just("2024-02-10T:00".to_owned()),
        Just(",".to_owned()),
        Just("null".to_owned()),
        Just("-0".to_owned()),
        Just("1e5".to_owned()),
        Just("\\".to_owned()),
        ".{0,3}",
    ];
    let pieces = proptest::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat());
    let row = r#"{"a":[1,{"n":-0}],"b":"2024-02-10T15:30:00+00:00","\"c\\":{"a":1e-7},"a":9}"#;
    let cut = (0..row.len(), 0..6_usize).prop_map(move |(at, length)| {
        let end = (at + length).min(row.len());
        [&row[..at], &row[end..]].concat()
    });
    prop_oneof![pieces, cut]
}

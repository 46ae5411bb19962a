//! What a recorded change costs, beside the same change of the log. Run by hand, with optimisation:
//! `cargo test --release --lib recorded::speed -- --ignored --nocapture`

use std::hint::black_box;
use std::time::Duration;

use super::*;

/// What this thread has had of the processor, which other work on the machine does not change.
fn cpu_time() -> Duration {
    let status = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(status.split(' ').next().unwrap().parse().unwrap())
}

fn measured(name: &str, rules: &mut EventRules, change: &Change<'_>) {
    const ROUNDS: u32 = 400_000;
    let mut batch = EventBatch::default();
    let started = cpu_time();
    for round in 0..ROUNDS {
        // As from an outbox, each with a time of its own; many rows of one transaction would cost
        // the log less than this.
        let time = TRANSACTION.committed_at_us + i64::from(round);
        let transaction = Transaction { committed_at_us: time, ..TRANSACTION };
        let position = Position { commit_lsn: Lsn(u64::from(round)), ordinal: 0 };
        rules.apply(black_box(&transaction), position, black_box(change), &mut batch).unwrap();
        if batch.len() == 256 {
            batch = EventBatch::default();
        }
    }
    let each = (cpu_time() - started) / ROUNDS;
    println!("{name:>30} {each:>10.2?}");
}

#[test]
#[ignore = "measures, and asserts nothing"]
fn cost_of_a_change() {
    let mut columns = vec![("*id", TypeKind::Int8), ("price", TypeKind::Number)];
    columns.push(("at", TypeKind::TimestampTz));
    columns.push(("ok", TypeKind::Bool));
    let names = ["email", "first_name", "last_name", "city", "phone", "note"];
    columns.extend(names.map(|name| (name, TypeKind::Text)));
    let relation = table(ReplicaIdentity::Full, &columns);
    let seen = seen(&relation);
    let row = |price: &str| {
        let texts = names.map(|name| format!(r#""{name}":"some text of {name}""#)).join(",");
        let at = "2024-02-10T15:30:50.123456+00:00";
        format!(r#"{{"id":1234567,"price":{price},"at":"{at}","ok":true,{texts}}}"#)
    };
    let (before, after) = (row("99.50"), row("100.25"));
    println!("rows of {} bytes", before.len());
    let texts = names.map(|name| format!("some text of {name}"));
    let text = |price| {
        let mut row = vec!["1234567", price, "2024-02-10 15:30:50.123456+00", "t"];
        row.extend(texts.iter().map(|text| &**text));
        row
    };
    for (name, kind, old, new) in [
        ("recorded insert", RecordedKind::Insert, None, Some(&*after)),
        ("recorded update", RecordedKind::Update, Some(&*before), Some(&*after)),
        ("recorded delete", RecordedKind::Delete, Some(&*before), None),
    ] {
        let change = Change::Recorded(Recorded { kind, table: &seen, old, new });
        measured(name, &mut recorded_rules(vec![person()], false, "outbox"), &change);
    }
    let (before, after) = (text("99.50"), text("100.25"));
    for (name, message) in [
        ("logged insert", insert(&after)),
        ("logged update, FULL", update(Some((b'O', &before)), &after)),
        ("logged delete, FULL", delete(b'O', &before)),
    ] {
        let relation = &relation;
        let change = match decode(&message).unwrap() {
            LogicalMessage::Insert { new, .. } => Change::Insert { relation, new },
            LogicalMessage::Update { old, new, .. } => Change::Update { relation, old, new },
            LogicalMessage::Delete { old, .. } => Change::Delete { relation, old },
            other => panic!("{other:?}"),
        };
        measured(name, &mut recorded_rules(vec![person()], false, "replication"), &change);
    }
}

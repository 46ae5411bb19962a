//! Whatever a row or message says, its event is valid JSON, or there is none.

#![no_main]
#![allow(dead_code, unused_imports)]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;

use capture::change::{Change, Position, Transaction};
use event::{EventBatch, EventRules, RulesOptions, TableRule};
use postgres::lsn::Lsn;
use postgres::pattern::TablePattern;
use postgres::pgoutput::{LogicalMessage, decode};
use postgres::relation::{Column, Composite, Relation, RelationId, ReplicaIdentity, TypeKind};

#[path = "../../src/capture"]
mod capture {
    pub mod change;
}
#[path = "../../src/event/mod.rs"]
mod event;
#[path = "../../src/postgres"]
mod postgres {
    pub mod lsn;
    pub mod pattern;
    pub mod pgoutput;
    pub mod relation;
    pub mod sql;
}

/// All kinds but json, whose text is trusted.
fn kinds() -> Vec<TypeKind> {
    let array = |element| TypeKind::Array { element: Arc::new(element), delimiter: b',' };
    let attributes = vec![("a".into(), TypeKind::Number), ("b\"".into(), array(TypeKind::Text))];
    let others = vec![vec![("c".into(), TypeKind::Char); 3]];
    let pair = TypeKind::Composite(Arc::new(Composite { attributes, firm: 1, others }));
    vec![
        TypeKind::Text,
        TypeKind::Number,
        TypeKind::Int8,
        TypeKind::Bool,
        TypeKind::Char,
        TypeKind::Vector(Arc::new(TypeKind::Number)),
        TypeKind::Timestamp,
        TypeKind::TimestampTz,
        array(TypeKind::Number),
        array(TypeKind::Text),
        pair.clone(),
        array(pair),
    ]
}

/// As many columns as the row has.
fn relation(columns: usize) -> Arc<Relation> {
    let kinds = kinds();
    let column = |number: usize| Column {
        name: format!("c{number}"),
        in_replica_identity: number % 2 == 0,
        type_oid: 0,
        kind: kinds[number % kinds.len()].clone(),
    };
    Arc::new(Relation {
        id: RelationId(1),
        schema: "s".into(),
        name: "t".into(),
        replica_identity: ReplicaIdentity::Default,
        columns: (0..columns).map(column).collect(),
        key: vec![0],
    })
}

fuzz_target!(|data: &[u8]| {
    let Ok(message) = decode(data) else { return };
    let relation = match message {
        LogicalMessage::Insert { new, .. } | LogicalMessage::Update { new, .. } => {
            relation(new.len())
        }
        LogicalMessage::Delete { old, .. } => relation(old.tuple().len()),
        _ => relation(0),
    };
    let relation = &relation;
    let change = match message {
        LogicalMessage::Insert { new, .. } => Change::Insert { relation, new },
        LogicalMessage::Update { old, new, .. } => Change::Update { relation, old, new },
        LogicalMessage::Delete { old, .. } => Change::Delete { relation, old },
        LogicalMessage::Message { content, .. } => Change::Message { prefix: b"walhook", content },
        _ => return,
    };
    let mut rules = EventRules::new(RulesOptions {
        system_identifier: 1,
        database_oid: 2,
        database: "d".into(),
        capture: "replication",
        tables: vec![TableRule::new(TablePattern::exact("s", "t"), Some("r".into()))],
        int8_as_string: false,
        replace_invalid_utf8: data.len().is_multiple_of(2),
        message_prefix: "walhook".into(),
    });
    let lsn = Lsn(1);
    let transaction = Transaction { commit_lsn: lsn, committed_at_us: 0, xid: 1, row_lsn: lsn };
    let position = Position { commit_lsn: lsn, ordinal: 0 };
    let mut batch = EventBatch::default();
    if rules.apply(&transaction, position, &change, &mut batch).is_ok() {
        for event in batch.events() {
            let body: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(batch.body(event));
            assert!(body.is_ok());
        }
    } else {
        assert!(batch.is_empty() && batch.bytes() == 0);
    }
});

//! Whatever the bytes, decoding ends with a message or an error; and a message can be walked to its
//! end, every part of it lying in what was given.

#![no_main]
#![allow(dead_code, unused_imports)]

use libfuzzer_sys::fuzz_target;
use postgres::pgoutput::{LogicalMessage, TupleData, decode};

#[path = "../../src/postgres"]
mod postgres {
    pub mod lsn;
    pub mod pgoutput;
    pub mod relation;
}

fn walk(tuple: TupleData<'_>) {
    assert_eq!(tuple.iter().count(), tuple.len());
    assert_eq!(tuple.iter().len(), tuple.len());
}

fuzz_target!(|data: &[u8]| {
    match decode(data) {
        Ok(LogicalMessage::Insert { new, .. }) => walk(new),
        Ok(LogicalMessage::Update { old, new, .. }) => {
            old.iter().for_each(|old| walk(old.tuple()));
            walk(new);
        }
        Ok(LogicalMessage::Delete { old, .. }) => walk(old.tuple()),
        Ok(LogicalMessage::Relation(relation)) => {
            assert_eq!(relation.columns.iter().count(), relation.columns.len());
        }
        Ok(LogicalMessage::Truncate { relations, .. }) => {
            assert!(relations.iter().len() * 4 <= data.len());
        }
        Ok(LogicalMessage::Message { prefix, content, .. }) => {
            assert!(prefix.len() + content.len() < data.len());
        }
        Ok(_) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

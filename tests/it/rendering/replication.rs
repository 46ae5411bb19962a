//! Changes of a slot, through decoder and rules.

use std::collections::HashMap;
use std::sync::Arc;

use walhook::capture::change::{Change, Position, Transaction};
use walhook::event::{EventBatch, EventRules};
use walhook::postgres::Client;
use walhook::postgres::catalog::{OwnedRelation, TypeCache, resolve_relation};
use walhook::postgres::lsn::Lsn;
use walhook::postgres::pgoutput::{LogicalMessage, decode};
use walhook::postgres::relation::{Relation, RelationId};

use super::batch_execute;

/// Makes a publication of everything, and a slot with the database's name.
pub(super) async fn follow(client: &Client) {
    batch_execute(client, "create publication p for all tables").await;
    let slot = "select pg_create_logical_replication_slot(current_database(), 'pgoutput')";
    batch_execute(client, slot).await;
}

/// The events of everything the slot has.
pub(super) async fn events(client: &Client, rules: &mut EventRules) -> EventBatch {
    let mut batch = EventBatch::default();
    each_change(client, |transaction, position, change| {
        rules.apply(transaction, position, change, &mut batch).unwrap();
    })
    .await;
    batch
}

/// Everything the slot has, through the decoder.
pub(super) async fn each_change(
    client: &Client,
    mut take: impl FnMut(&Transaction, Position, &Change<'_>),
) {
    let changes = "select lsn::text, data from pg_logical_slot_get_binary_changes(current_database(), null, null, \
                   'proto_version', '1', 'publication_names', 'p', 'messages', 'true')";
    let mut types = TypeCache::default();
    let mut relations: HashMap<RelationId, Arc<Relation>> = HashMap::new();
    let mut transaction =
        Transaction { commit_lsn: Lsn::ZERO, committed_at_us: 0, xid: 0, row_lsn: Lsn::ZERO };
    let mut ordinal = 0;
    for row in client.query(changes, &[]).await.unwrap() {
        let lsn: Lsn = row.get::<_, &str>(0).parse().unwrap();
        let data: &[u8] = row.get(1);
        let change = match decode(data).unwrap() {
            LogicalMessage::Begin { final_lsn, committed_at_us, xid } => {
                transaction.commit_lsn = final_lsn;
                transaction = Transaction { committed_at_us, xid, ..transaction };
                ordinal = 0;
                continue;
            }
            LogicalMessage::Relation(message) => {
                let message = OwnedRelation::from(&message);
                // The types do not move here.
                let resolved = resolve_relation(client, &mut types, &message, lsn).await.unwrap();
                relations.insert(message.id, Arc::new(resolved.relation));
                continue;
            }
            LogicalMessage::Insert { relation, new } => {
                Change::Insert { relation: &relations[&relation], new }
            }
            LogicalMessage::Update { relation, old, new } => {
                Change::Update { relation: &relations[&relation], old, new }
            }
            LogicalMessage::Delete { relation, old } => {
                Change::Delete { relation: &relations[&relation], old }
            }
            LogicalMessage::Message { prefix, content, .. } => Change::Message { prefix, content },
            _ => continue,
        };
        let position = Position { commit_lsn: transaction.commit_lsn, ordinal };
        take(&transaction, position, &change);
        ordinal += 1;
    }
}

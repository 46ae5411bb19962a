//! What the catalog says: tables, how their types render, servers and slots.

use walhook::postgres::catalog::{
    OwnedColumn, OwnedRelation, TableInfo, TableKind, TypeCache, list_tables, resolve_relation,
    server_info,
};
use walhook::postgres::lsn::Lsn;
use walhook::postgres::publication::publication;
use walhook::postgres::relation::{Composite, Relation, RelationId, ReplicaIdentity, TypeKind};
use walhook::postgres::slot::{WalStatus, drop_slot, slot};

use crate::harness::Database;

async fn table(database: &Database, name: &str) -> TableInfo {
    let tables = list_tables(&database.client().await).await.unwrap();
    tables.into_iter().find(|table| table.name == name).unwrap()
}

async fn resolve(database: &Database, message: &OwnedRelation) -> Relation {
    let (client, mut types) = (database.client().await, TypeCache::default());
    resolve_relation(&client, &mut types, message, Lsn(1)).await.unwrap().relation
}

/// The relation as the stream would announce it, completed.
async fn resolved(database: &Database, name: &str) -> Relation {
    let table = table(database, name).await;
    let message = OwnedRelation {
        id: RelationId(table.oid),
        schema: table.schema.clone(),
        name: table.name.clone(),
        replica_identity: table.replica_identity,
        columns: table
            .columns
            .iter()
            .map(|column| OwnedColumn {
                name: column.name.clone(),
                type_oid: column.type_oid,
                type_modifier: -1,
                in_replica_identity: table.primary_key.contains(&column.name),
            })
            .collect(),
    };
    resolve(database, &message).await
}

#[tokio::test]
async fn identities_that_would_break_updates_are_found() {
    let database = Database::create().await;
    database
        .execute(
            "create table with_key (id int primary key, name text);
             create table without_key (a int);
             create table full_identity (a int);
             alter table full_identity replica identity full;
             create table nothing (id int primary key);
             alter table nothing replica identity nothing;
             create table by_index (id int primary key, code text not null unique);
             alter table by_index replica identity using index by_index_code_key;
             create table index_gone (id int primary key, code text not null);
             create unique index gone on index_gone (code);
             alter table index_gone replica identity using index gone;
             drop index gone;
             create table late_key (id int primary key deferrable);
             create table inclusive (b int, a int, c int, primary key (a, b) include (c));",
        )
        .await;
    let tables = list_tables(&database.client().await).await.unwrap();
    let usable: Vec<(&str, bool)> =
        tables.iter().map(|table| (&*table.name, table.identity_usable)).collect();
    assert_eq!(
        usable,
        [
            ("by_index", true),
            ("full_identity", true),
            ("inclusive", true),
            ("index_gone", false),
            ("late_key", false),
            ("nothing", false),
            ("with_key", true),
            ("without_key", false),
        ]
    );

    // the server agrees on each of them
    let client = database.client().await;
    client.batch_execute("create publication everything for all tables").await.unwrap();
    for (name, usable) in usable {
        let deleted = client.batch_execute(&format!("delete from {name}")).await;
        assert_eq!(deleted.is_ok(), usable, "{name}");
    }
    let inclusive = table(&database, "inclusive").await;
    assert_eq!(inclusive.primary_key, ["a", "b"]);
    assert_eq!(inclusive.published_in, ["everything"]);
    assert!(table(&database, "late_key").await.primary_key_deferrable);
    assert_eq!(table(&database, "by_index").await.replica_identity, ReplicaIdentity::Index);
}

#[tokio::test]
async fn partitions_decide_for_their_root() {
    let database = Database::create().await;
    database
        .execute(
            "create table measure (at int, v int) partition by range (at);
             create table measure_1 partition of measure for values from (0) to (10);
             create table measure_2 partition of measure for values from (10) to (20)
                 partition by list (v);
             create table measure_2_a partition of measure_2 for values in (1);
             alter table measure_1 replica identity full;
             create view seen as select * from measure;
             create unlogged table fleeting (id int primary key);
             create table parent (id int primary key);
             create table child () inherits (parent);",
        )
        .await;
    assert!(!table(&database, "measure").await.identity_usable);
    let leaf = table(&database, "measure_2_a").await;
    assert_eq!(leaf.kind, TableKind::Leaf);
    assert_eq!(leaf.ancestors, ["\"public\".\"measure_2\"", "\"public\".\"measure\""]);
    database
        .execute(
            "alter table measure_2_a replica identity full;
             alter table measure_2 replica identity full;
             alter table measure replica identity full;",
        )
        .await;
    let root = table(&database, "measure").await;
    assert!(root.identity_usable);
    assert_eq!((root.kind, root.ancestors.len()), (TableKind::Partitioned, 0));
    assert_eq!(table(&database, "seen").await.kind, TableKind::View);
    assert!(table(&database, "parent").await.has_children);
    assert!(!table(&database, "child").await.has_children);
}

#[tokio::test]
async fn types_resolve_to_how_they_render() {
    let database = Database::create().await;
    database
        .execute(
            "create domain cents as numeric(20, 0);
             create domain price as cents check (value >= 0);
             create domain scores as int[];
             create type mood as enum ('sad', 'happy');
             create type point3 as (x float8, y float8, label text);
             create type line3 as (a point3, b point3[], gone int);
             alter type line3 drop attribute gone;
             create table t (id bigint primary key, flag bool, price price, mood mood,
                 moods mood[], matrix int[][], boxes box[], shape line3, scores scores,
                 doc jsonb, docs json[], at timestamp, ats timestamptz[], day date,
                 bytes bytea, old int2vector, span int4range, who name);",
        )
        .await;
    let relation = resolved(&database, "t").await;
    let kind = |name: &str| {
        relation.columns.iter().find(|column| column.name == name).unwrap().kind.clone()
    };
    let array = |element: TypeKind| TypeKind::Array { element: element.into(), delimiter: b',' };
    assert_eq!(kind("id"), TypeKind::Int8);
    assert_eq!(kind("flag"), TypeKind::Bool);
    assert_eq!(kind("price"), TypeKind::Number);
    assert_eq!(kind("mood"), TypeKind::Text);
    assert_eq!(kind("moods"), array(TypeKind::Text));
    assert_eq!(kind("matrix"), array(TypeKind::Number));
    assert_eq!(kind("boxes"), TypeKind::Array { element: TypeKind::Text.into(), delimiter: b';' });
    assert_eq!(kind("scores"), array(TypeKind::Number));
    assert_eq!(kind("doc"), TypeKind::Json);
    assert_eq!(kind("docs"), array(TypeKind::Json));
    assert_eq!(kind("at"), TypeKind::Timestamp);
    assert_eq!(kind("ats"), array(TypeKind::TimestampTz));
    assert_eq!(kind("old"), TypeKind::Vector(TypeKind::Number.into()));
    for text in ["day", "bytes", "span", "who"] {
        assert_eq!(kind(text), TypeKind::Text, "{text}");
    }
    let number = TypeKind::Number;
    let composite = |attributes: Vec<(String, TypeKind)>| {
        let firm = attributes.len();
        TypeKind::Composite(Composite { attributes, firm, others: vec![] }.into())
    };
    let point = composite(vec![
        ("x".to_owned(), number.clone()),
        ("y".to_owned(), number),
        ("label".to_owned(), TypeKind::Text),
    ]);
    let line = vec![("a".to_owned(), point.clone()), ("b".to_owned(), array(point))];
    assert_eq!(kind("shape"), composite(line));
    assert_eq!(relation.key, [0]);
}

#[tokio::test]
async fn what_is_gone_falls_back() {
    let database = Database::create().await;
    let message = OwnedRelation {
        id: RelationId(4_000_000_000),
        schema: "public".to_owned(),
        name: "dropped".to_owned(),
        replica_identity: ReplicaIdentity::Index,
        columns: vec![OwnedColumn {
            name: "code".to_owned(),
            type_oid: 4_000_000_001,
            type_modifier: -1,
            in_replica_identity: true,
        }],
    };
    let relation = resolve(&database, &message).await;
    assert_eq!((relation.columns[0].kind.clone(), relation.key), (TypeKind::Text, vec![0]));
}

#[tokio::test]
async fn the_server_and_its_slots_describe_themselves() {
    let database = Database::create().await;
    let client = database.client().await;
    let server = server_info(&client).await.unwrap();
    assert_eq!((&*server.database, &*server.wal_level), (database.name(), "logical"));
    assert!(server.version_num >= 140_000 && server.role_can_replicate && !server.in_recovery);
    let control = "select system_identifier::text from pg_control_system()";
    let identifier: String = client.query_one(control, &[]).await.unwrap().get(0);
    assert_eq!(server.system_identifier.unwrap().to_string(), identifier);

    let name = format!("{}_slot", database.name());
    assert_eq!(slot(&client, &name).await.unwrap(), None);
    let create = "select pg_create_logical_replication_slot($1, 'pgoutput')";
    client.execute(create, &[&name]).await.unwrap();
    let found = slot(&client, &name).await.unwrap().unwrap();
    assert_eq!(found.plugin.as_deref(), Some("pgoutput"));
    assert_eq!(found.database.as_deref(), Some(database.name()));
    assert_eq!(found.wal_status, Some(WalStatus::Reserved));
    assert!(!found.active && !found.temporary && !found.is_lost() && !found.is_being_created());
    assert!(found.restart_lsn <= found.confirmed_flush_lsn);
    assert!(found.confirmed_flush_lsn.unwrap() <= found.current_wal_lsn);
    drop_slot(&client, &name).await.unwrap();
    assert!(drop_slot(&client, &name).await.unwrap_err().is_undefined_object());
    assert_eq!(publication(&client, "absent").await.unwrap(), None);
}

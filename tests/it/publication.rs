//! What walhook does with its publication: patterns, row filters, column lists, and what the daemon
//! makes of changes, its own configuration's and other people's.

mod daemon;

use std::time::Duration;

use tokio_postgres::Client;
use walhook::postgres::TablePattern;
use walhook::postgres::pattern::NamePattern;
use walhook::postgres::publication::{PublicationInfo, publication};
use walhook::source::watch::Watch;
use walhook::source::{Severity, SourceOptions, TableSpec, setup};

use crate::check::{assert_found, checked, errors};
use crate::harness::{Database, eventually};
use crate::setup::{done, options, set_up};

const PATIENCE: Duration = Duration::from_secs(60);

fn glob(schema: &str, name: &str) -> TablePattern {
    let schema = if schema.contains('*') {
        NamePattern::Glob(schema.to_owned())
    } else {
        NamePattern::Exact(schema.to_owned())
    };
    TablePattern::new(schema, NamePattern::Glob(name.to_owned()))
}

fn spec(pattern: TablePattern) -> TableSpec {
    TableSpec { pattern, ..TableSpec::exact("", "") }
}

fn with(database: &Database, tables: Vec<TableSpec>) -> SourceOptions {
    SourceOptions { tables, ..options(database, &[]) }
}

fn filtered(name: &str, filter: &str) -> TableSpec {
    TableSpec { filter: Some(filter.to_owned()), ..TableSpec::exact("public", name) }
}

async fn existing(client: &Client, name: &str) -> PublicationInfo {
    publication(client, name).await.unwrap().unwrap()
}

fn names(publication: &PublicationInfo) -> Vec<String> {
    publication.tables.iter().map(|table| format!("{}.{}", table.schema, table.name)).collect()
}

async fn version(client: &Client) -> u32 {
    walhook::postgres::catalog::server_version_num(client).await.unwrap()
}

#[tokio::test]
async fn a_pattern_finds_what_can_be_published() {
    let database = Database::create().await;
    database
        .execute(
            "create schema crm; create schema \"crm2\";
             create table crm.people (id int primary key); create table crm.keyless (a int);
             create table crm.full_keyless (a int); alter table crm.full_keyless replica identity full;
             create unlogged table crm.fleeting (id int primary key);
             create view crm.seen as select * from crm.people;
             create table crm.measure (at int primary key) partition by range (at);
             create table crm.measure_1 partition of crm.measure for values from (0) to (10);
             create table crm2.other (id int primary key); create table elsewhere (id int primary key)",
        )
        .await;
    let client = database.client().await;
    let options = with(&database, vec![spec(glob("crm", "*")), spec(glob("none", "x*"))]);
    let findings = checked(&database, &options).await;
    assert_eq!(errors(&findings).len(), 2, "publication and slot: {findings:#?}");
    assert_found(&findings, Severity::Note, "crm.keyless is left out", "REPLICA IDENTITY FULL");
    assert_found(&findings, Severity::Warning, "mean none that exists", "correct the pattern");
    assert_eq!(done(&set_up(&database, &options).await.unwrap()), 3);
    let publication = existing(&client, &options.publication).await;
    assert_eq!(names(&publication), ["crm.full_keyless", "crm.measure", "crm.people"]);
    assert!(errors(&checked(&database, &options).await).is_empty());
    assert_eq!(done(&set_up(&database, &options).await.unwrap()), 0);

    // what was left out comes as soon as it can; a table named exactly is an error without it
    database.execute("alter table crm.keyless add primary key (a)").await;
    assert_eq!(done(&set_up(&database, &options).await.unwrap()), 1);
    database.execute("create table crm.keyless_2 (a int)").await;
    let exact = with(&database, vec![TableSpec::exact("crm", "keyless_2"), spec(glob("*", "*"))]);
    let error = set_up(&database, &exact).await.unwrap_err();
    assert!(error.to_string().contains("crm.keyless_2"), "{error}");
    database.execute("drop table crm.keyless_2").await;
    assert_eq!(done(&set_up(&database, &exact_without(&exact)).await.unwrap()), 1);
    let publication = existing(&client, &options.publication).await;
    assert!(names(&publication).contains(&"crm2.other".to_owned()), "{publication:?}");
    assert!(names(&publication).contains(&"public.elsewhere".to_owned()), "{publication:?}");
}

fn exact_without(options: &SourceOptions) -> SourceOptions {
    let tables = options.tables.iter().filter(|spec| spec.pattern.as_exact().is_none());
    SourceOptions { tables: tables.cloned().collect(), ..options.clone() }
}

#[tokio::test]
async fn schemas_and_everything_are_published_as_a_whole() {
    let database = Database::create().await;
    let name = database.name();
    database
        .execute(&format!(
            "create schema crm; create table crm.people (id int primary key);
             create table crm.keyless (a int); create table other (id int primary key);
             create role \"{name}_plain\" login replication;
             grant create on database {name} to \"{name}_plain\""
        ))
        .await;
    let client = database.client().await;
    let whole = |pattern| TableSpec { whole: true, ..spec(pattern) };
    let tables = vec![whole(glob("crm", "*")), TableSpec::exact("public", "other")];
    let schema = SourceOptions { publication: "crm".into(), ..with(&database, tables) };
    if version(&client).await < 150_000 {
        let error = set_up(&database, &schema).await.unwrap_err();
        assert!(error.to_string().contains("cannot be published as a whole schema"), "{error}");
    } else {
        let plan = setup::plan(&client, &schema).await.unwrap();
        assert!(plan.notes.iter().any(|n| n.sentence.contains("crm.keyless")), "{plan:?}");
        set_up(&database, &schema).await.unwrap();
        let publication = existing(&client, "crm").await;
        assert_eq!(publication.schemas, ["crm"]);
        assert_eq!(names(&publication), ["public.other"]);
        let findings = checked(&database, &schema).await;
        assert!(errors(&findings).is_empty(), "{findings:#?}");
        assert_found(
            &findings,
            Severity::Warning,
            "crm.keyless cannot be updated",
            "leave `whole`",
        );
        assert_eq!(done(&set_up(&database, &schema).await.unwrap()), 0);
        client.batch_execute("alter publication crm drop tables in schema crm").await.unwrap();
        assert_eq!(done(&set_up(&database, &schema).await.unwrap()), 1);
    }
    let everything = SourceOptions {
        publication: "everything".into(),
        slot: format!("{name}_all"),
        ..with(&database, vec![whole(glob("*", "*"))])
    };
    client.batch_execute(&format!("set session authorization \"{name}_plain\"")).await.unwrap();
    let plan = setup::plan(&client, &everything).await.unwrap();
    assert_found(&plan.blocked, Severity::Error, "only a superuser may", "FOR ALL TABLES");
    client.batch_execute("reset session authorization").await.unwrap();
    set_up(&database, &everything).await.unwrap();
    assert!(existing(&client, "everything").await.all_tables);
    assert_eq!(done(&set_up(&database, &everything).await.unwrap()), 0);
    let drop_role =
        format!("revoke all on database {name} from \"{name}_plain\"; drop role \"{name}_plain\"");
    database.execute(&drop_role).await;
}

/// Whatever is pushed into the publication, the application's statements go on working.
#[tokio::test]
async fn what_is_pushed_never_breaks_the_application() {
    const IDENTITIES: [(&str, &str); 6] = [
        ("pk", ""),
        ("full", "alter table {t} replica identity full"),
        (
            "idx",
            "create unique index {t}_i on {t} (code); alter table {t} replica identity using index {t}_i",
        ),
        (
            "wide",
            "alter table {t} drop constraint {t}_pkey; alter table {t} add primary key (id, tenant)",
        ),
        (
            "part",
            "drop table {t}; create table {t} (id int, tenant int not null, code int not null, \
                  name text, primary key (id, tenant)) partition by range (id); \
                  create table {t}_1 partition of {t} for values from (0) to (10); \
                  create table {t}_2 partition of {t} for values from (10) to (20); \
                  alter table {t}_2 replica identity full",
        ),
        (
            "mixed",
            "drop table {t}; create table {t} (tenant int not null, id int, code int not null, \
                   name text, primary key (id)) partition by range (id); \
                   create table {t}_1 (name text, gone int, id int not null, tenant int not null, \
                   code int not null); alter table {t}_1 drop column gone; \
                   alter table {t} attach partition {t}_1 for values from (0) to (100)",
        ),
    ];
    const FILTERS: [Option<&str>; 8] = [
        None,
        Some("id > 0"),
        Some("tenant = 7 -- ours"),
        Some("name = 'a' or code < 5"),
        Some("id > 0 and random() < 2"),
        Some("(select count(*) from pg_class) > id"),
        Some("public.own(id)"),
        Some("id is not null and {t} is not null"),
    ];
    const COLUMNS: [Option<&[&str]>; 3] = [None, Some(&["name"]), Some(&["id", "nonsense"])];
    let database = Database::create().await;
    let client = database.client().await;
    client
        .batch_execute(
            "create function own(int) returns bool language sql immutable as 'select $1 > 0'",
        )
        .await
        .unwrap();
    let mut specs = Vec::new();
    for (identity, change) in IDENTITIES {
        for (f, filter) in FILTERS.iter().enumerate() {
            for (c, columns) in COLUMNS.iter().enumerate() {
                let name = format!("{identity}_{f}_{c}");
                let create = format!(
                    "create table {name} (id int primary key, tenant int not null, \
                     code int not null, name text); {}",
                    change.replace("{t}", &name)
                );
                client.batch_execute(&create).await.unwrap();
                specs.push(TableSpec {
                    filter: filter.map(|filter| filter.replace("{t}", &name)),
                    columns: columns.map(|columns| columns.iter().map(|c| (*c).into()).collect()),
                    ..TableSpec::exact("public", name)
                });
            }
        }
    }
    let options = with(&database, specs);
    set_up(&database, &options).await.unwrap();
    for spec in &options.tables {
        let (_, name) = spec.pattern.as_exact().unwrap();
        let statements = format!(
            "insert into {name} (id, tenant, code, name) values (1, 7, 1, 'a'), (2, 8, 9, 'b'), \
             (11, 7, 11, 'c'); update {name} set name = 'x', code = code + 20; \
             update {name} set id = id + 1 where id = 2; update {name} set tenant = 7; \
             delete from {name}"
        );
        let done = client.batch_execute(&statements).await;
        done.unwrap_or_else(|error| panic!("{spec:?}: {error:?}"));
    }
    assert!(errors(&checked(&database, &options).await).is_empty());
    assert_eq!(done(&set_up(&database, &options).await.unwrap()), 0, "idempotent");

    let publication = existing(&client, &options.publication).await;
    let pushed = |name: &str| publication.table("public", name).unwrap().clone();
    if version(&client).await < 150_000 {
        assert!(publication.tables.iter().all(|t| t.filter.is_none() && t.columns.is_none()));
        return;
    }
    for (name, filter) in [
        ("pk_1_0", Some("(id > 0)")),
        ("pk_2_0", None),
        ("wide_2_0", Some("(tenant = 7)")),
        ("part_2_0", Some("(tenant = 7)")),
        ("mixed_1_0", Some("(id > 0)")),
        ("mixed_2_0", None),
        ("full_3_0", Some("((name = 'a'::text) OR (code < 5))")),
        ("full_4_0", None),
        ("full_5_0", None),
        ("full_6_0", None),
        ("full_7_0", None),
        ("idx_1_0", None),
    ] {
        assert_eq!(pushed(name).filter.as_deref(), filter, "{name}");
    }
    let columns = |name: &str| pushed(name).columns.map(|columns| columns.join(" "));
    assert_eq!(columns("pk_0_1").as_deref(), Some("id name"));
    assert_eq!(columns("pk_2_1").as_deref(), Some("id tenant name"), "what the filter reads");
    assert_eq!(columns("idx_0_1").as_deref(), Some("id code name"));
    assert_eq!(columns("pk_0_2").as_deref(), Some("id"));
    assert_eq!(columns("full_0_1"), None);
    assert_eq!(columns("mixed_0_1").as_deref(), Some("id name"));
    assert_eq!(columns("part_0_1"), None, "one partition has FULL");
}

#[tokio::test]
async fn a_filter_that_cannot_work_is_one_clear_finding() {
    let database = Database::create().await;
    database.execute("create table a (id int primary key, name text)").await;
    for (filter, words) in [
        ("nam = 'x'", "nam"),
        ("id", "boolean"),
        ("id = 1 and", "syntax"),
        ("id = $1", "parameter"),
        ("count(*) > 1", "aggregate"),
        ("true; drop table a", "syntax"),
    ] {
        let options = with(&database, vec![filtered("a", filter)]);
        let error = set_up(&database, &options).await.unwrap_err();
        let findings = error.findings();
        let about: Vec<_> = findings.iter().filter(|f| f.sentence.contains("row filter")).collect();
        assert_eq!(about.len(), 1, "{filter}: {error}");
        assert!(about[0].sentence.contains(words), "{error}");
    }
    let options = with(&database, vec![filtered("a", "name = 'x'")]);
    let mut options = SourceOptions { create: true, ..options };
    options.tables[0].soft_delete = Some("name".into());
    let findings = checked(&database, &options).await;
    assert_found(&findings, Severity::Warning, "goes without a `deleted`", "REPLICA IDENTITY FULL");
    assert_found(&findings, Severity::Warning, "`restored` is never told", "REPLICA IDENTITY FULL");
    database.execute("alter table a replica identity full").await;
    let findings = checked(&database, &options).await;
    assert!(!findings.iter().any(|f| f.severity == Severity::Warning), "{findings:#?}");
}

#[tokio::test]
async fn a_changed_configuration_changes_the_publication_once() {
    let database = Database::create().await;
    let client = database.client().await;
    if version(&client).await < 150_000 {
        return;
    }
    database
        .execute(
            "create table a (id int primary key, name text, more text); create table b (id int primary key);
             create table c (id int primary key)",
        )
        .await;
    let mut options =
        with(&database, vec![filtered("a", "id > 1"), TableSpec::exact("public", "b")]);
    set_up(&database, &options).await.unwrap();
    options.tables[0].filter = Some("id in (1, 2)".into());
    let findings = checked(&database, &options).await;
    assert_found(&findings, Severity::Error, "instead of id in (1, 2)", "DROP TABLE ONLY");
    let plan = setup::plan(&client, &options).await.unwrap();
    assert_eq!(plan.steps.len(), 1, "{plan:?}");
    let reason = &plan.steps[0].reason;
    assert!(reason.contains("row filter (from (id > 1) to id in (1, 2)) of public.a"), "{reason}");
    let both = tokio::join!(set_up(&database, &options), set_up(&database, &options));
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
    assert_eq!(done(&set_up(&database, &options).await.unwrap()), 0);
    let filter = |publication: &PublicationInfo, name| {
        publication.table("public", name).unwrap().filter.clone()
    };
    let publication = existing(&client, &options.publication).await;
    assert_eq!(filter(&publication, "a").unwrap(), "(id = ANY (ARRAY[1, 2]))");

    options.tables[0].columns = Some(vec!["name".into()]);
    assert_eq!(done(&set_up(&database, &options).await.unwrap()), 1);
    options.tables[0].columns = Some(vec!["more".into()]);
    let findings = checked(&database, &options).await;
    assert_found(&findings, Severity::Error, "lacks columns (id and name, not id and more)", "");
    assert_eq!(done(&set_up(&database, &options).await.unwrap()), 1);
    let publication = existing(&client, &options.publication).await;
    assert_eq!(
        publication.table("public", "a").unwrap().columns.as_ref().unwrap(),
        &["id", "more"]
    );
    assert!(filter(&publication, "a").is_some(), "the filter stays");

    // what is no longer configured is taken out of a publication of walhook's, the tables aside
    let quoted = walhook::postgres::sql::quote_ident(&options.publication);
    options.tables = vec![TableSpec::exact("public", "a"), TableSpec::exact("public", "c")];
    let findings = checked(&database, &options).await;
    assert_found(&findings, Severity::Error, "which the configuration lacks, and has a column", "");
    assert_eq!(done(&set_up(&database, &options).await.unwrap()), 2);
    let publication = existing(&client, &options.publication).await;
    assert!(filter(&publication, "a").is_none());
    assert!(publication.table("public", "a").unwrap().columns.is_none());
    let findings = checked(&database, &options).await;
    assert_found(&findings, Severity::Note, "also publishes public.b", "");

    // and left as it is in another's
    let theirs = format!(
        "comment on publication {quoted} is 'mine'; alter publication {quoted} drop table c;
         alter publication {quoted} add table c where (id > 5)"
    );
    database.execute(&theirs).await;
    assert_eq!(done(&set_up(&database, &options).await.unwrap()), 0);
    let findings = checked(&database, &options).await;
    assert_found(&findings, Severity::Warning, "row filter for public.c, which", "DROP TABLE");
}

/// A filter counts as the publication's only from where on every row has passed it.
#[tokio::test]
async fn filters_are_applied_from_a_position_on() {
    let database = Database::create().await;
    let client = database.client().await;
    database
        .execute("create table a (id int primary key); create table b (id int primary key)")
        .await;
    let options =
        with(&database, vec![filtered("a", "id in (1, 2)"), TableSpec::exact("public", "b")]);
    set_up(&database, &options).await.unwrap();
    let mut watch = Watch::default();
    let writer = database.client().await;
    writer.batch_execute("begin; insert into b values (1)").await.unwrap();
    let look = watch.look(&client, &options, false).await.unwrap();
    assert!(look.findings.is_empty() && look.steps.is_empty(), "{look:?}");
    assert!(look.applied.is_empty(), "a transaction runs");
    let look = watch.look(&client, &options, false).await.unwrap();
    assert!(look.applied.is_empty(), "it still runs");
    writer.batch_execute("commit").await.unwrap();
    let on_14 = version(&client).await < 150_000;
    let applied = eventually(PATIENCE, "other tests' transactions end", async || {
        let look = watch.look(&client, &options, false).await.unwrap();
        (on_14 || !look.applied.is_empty()).then_some(look.applied)
    })
    .await;
    if on_14 {
        assert!(applied.is_empty());
        return;
    }
    let again = watch.look(&client, &options, false).await.unwrap().applied;
    assert_eq!(applied, again, "a position once known stays");
    assert_eq!(applied.len(), 1);

    let quoted = walhook::postgres::sql::quote_ident(&options.publication);
    let change = format!(
        "begin; alter publication {quoted} drop table a; \
         alter publication {quoted} add table a where (id > 0); commit"
    );
    database.execute(&change).await;
    let look = watch.look(&client, &options, false).await.unwrap();
    assert!(look.applied.is_empty(), "another filter: {look:?}");
    assert_found(&look.findings, Severity::Error, "instead of id in (1, 2)", "DROP TABLE ONLY");
    assert!(look.steps.is_empty(), "that was somebody's decision");
    assert_eq!(watch.look(&client, &options, true).await.unwrap().steps.len(), 1);
}

/// Advice that is pasted stops no updates, and where a changed replica identity does because of what
/// was pushed, the next look mends it.
#[tokio::test]
async fn what_was_pushed_gives_way_to_another_replica_identity() {
    let database = Database::create().await;
    let client = database.client().await;
    if version(&client).await < 150_000 {
        return;
    }
    database
        .execute(
            "create table a (id int primary key, name text, more text);
             create table b (tenant int, id int, primary key (tenant, id));
             insert into a values (1); insert into b values (1, 1)",
        )
        .await;
    let columns = Some(vec!["name".to_owned()]);
    let listed = TableSpec { columns, ..filtered("a", "id > 0") };
    let options = with(&database, vec![listed, filtered("b", "tenant = 1")]);
    set_up(&database, &options).await.unwrap();
    let mut watch = Watch::default();
    assert!(watch.look(&client, &options, true).await.unwrap().steps.is_empty());
    let updates = "update a set name = 'x'; update b set id = id + 1";

    let findings = checked(&database, &options).await;
    let advice = findings.iter().find(|f| f.sentence.contains("carry no `previous`")).unwrap();
    let (sql, _) = advice.remedy.as_ref().unwrap().split_once(" (only").unwrap();
    database.execute(sql).await;
    database.execute(updates).await;
    let kept = existing(&client, &options.publication).await;
    assert!(kept.table("public", "a").unwrap().filter.is_some(), "{kept:?}");

    database.execute("alter table a replica identity default").await;
    let aligned = watch.look(&client, &options, true).await.unwrap().steps;
    database.execute(&aligned[0].sql).await;
    let key = "alter table b drop constraint b_pkey; alter table b add primary key (id)";
    database.execute(&format!("alter table a replica identity full; {key}")).await;
    let failed = client.batch_execute("update a set name = 'x'").await;
    assert!(failed.is_err(), "else this test is of no use");
    let look = watch.look(&client, &options, false).await.unwrap();
    for table in ["fail for public.a", "fail for public.b"] {
        assert_found(&look.findings, Severity::Error, table, "DROP TABLE ONLY");
    }
    assert_eq!(look.steps.len(), 2, "{look:?}");
    for step in look.steps {
        database.execute(&step.sql).await;
    }
    database.execute(updates).await;
    assert!(watch.look(&client, &options, false).await.unwrap().steps.is_empty());
}

#[tokio::test]
async fn tables_are_added_where_nobody_took_them_out() {
    let database = Database::create().await;
    let client = database.client().await;
    database
        .execute("create table a (id int primary key); create table b (id int primary key)")
        .await;
    let options = with(&database, vec![spec(glob("public", "*"))]);
    set_up(&database, &options).await.unwrap();
    let mut watch = Watch::default();
    assert!(watch.look(&client, &options, false).await.unwrap().steps.is_empty());
    let quoted = walhook::postgres::sql::quote_ident(&options.publication);
    let drop_b = format!(
        "alter publication {quoted} drop table b; create table c (id int primary key); create table keyless (a int); alter table a rename to a2"
    );
    database.execute(&drop_b).await;
    let look = watch.look(&client, &options, false).await.unwrap();
    assert_eq!(look.steps.len(), 1, "{look:?}");
    assert!(look.steps[0].sql.ends_with("ADD TABLE ONLY \"public\".\"c\""), "{look:?}");
    assert_eq!(look.new, [("public".to_owned(), "c".to_owned())]);
    assert_found(&look.findings, Severity::Error, "does not publish public.b", "ADD TABLE");
    let table = |name: &str| ("public".to_owned(), name.to_owned());
    assert_eq!(look.gone, [(table("a"), Some(table("a2")))]);
    database.execute(&format!("drop table a2; drop publication {quoted}")).await;
    let look = watch.look(&client, &options, false).await.unwrap();
    assert_eq!((look.steps.len(), &look.gone[..]), (0, &[(table("a2"), None)][..]), "{look:?}");
    assert_found(&look.findings, Severity::Error, "does not exist, but the slot", "teardown");
}

/// What is pushed does not even leave the server; where it cannot be pushed, everything does.
#[tokio::test]
async fn what_is_pushed_saves_the_wire() {
    let database = Database::create().await;
    let client = database.client().await;
    database
        .execute(
            "create table a (id int primary key, name text, more text,
                             double int generated always as (id * 2) stored)",
        )
        .await;
    let narrow = TableSpec { columns: Some(vec!["name".into()]), ..filtered("a", "id <= 10") };
    let restricted = SourceOptions { publication: "p".into(), ..with(&database, vec![narrow]) };
    let everything = SourceOptions {
        publication: "everything".into(),
        slot: format!("{}_all", database.name()),
        ..options(&database, &["a"])
    };
    set_up(&database, &restricted).await.unwrap();
    set_up(&database, &everything).await.unwrap();
    let insert = "insert into a select g, 'x', repeat('y', 1000) from generate_series(1, 100) g";
    database.execute(insert).await;
    let (mut rows, mut bytes) = (Vec::new(), Vec::new());
    for options in [&restricted, &everything] {
        let sql = "select count(*), sum(length(data))::int8 \
                   from pg_logical_slot_peek_binary_changes($1, null, null, \
                        'proto_version', '1', 'publication_names', $2) \
                   where get_byte(data, 0) = ascii('I')";
        let row = client.query_one(sql, &[&options.slot, &options.publication]).await.unwrap();
        rows.push(row.get::<_, i64>(0));
        bytes.push(row.get::<_, i64>(1));
    }
    if version(&client).await < 150_000 {
        assert_eq!((&rows[..], bytes[0]), (&[100, 100][..], bytes[1]));
    } else {
        assert_eq!(rows, [10, 100]);
        assert!(bytes[0] < 500 && bytes[1] > 100_000, "{bytes:?}");
    }
    let generated = existing(&client, "everything").await.generated_stored;
    assert_eq!(generated, version(&client).await >= 180_000);
    let findings = checked(&database, &everything).await;
    let missing = findings.iter().any(|f| f.sentence.contains("generated columns"));
    assert_eq!(missing, !generated, "{findings:#?}");
}

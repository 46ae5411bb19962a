//! What the keys of a `[[table]]` make of the events of a real server's changes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Capture, Daemon, Database, Receiver, Workspace, under_both_captures};

under_both_captures!(
    excluded_columns_are_in_no_event_and_the_others_have_new_names,
    only_the_listed_columns_are_told_and_a_hidden_key_orders_all_the_same,
    a_row_marked_as_deleted_is_deleted_and_restored,
    a_column_that_is_not_there_is_said_once_and_harms_nothing
);

const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon that follows some tables, and who gets its events.
struct Fixture {
    database: Database,
    receiver: Receiver,
    workspace: Workspace,
    daemon: Daemon,
}

impl Fixture {
    /// Runs `schema`, then a daemon with `tables`, which is TOML.
    async fn new(capture: Capture, schema: &str, tables: &str) -> Fixture {
        let database = capture.database().await;
        database.execute(schema).await;
        Fixture::on(database, |workspace| workspace.toml(tables)).await
    }

    async fn on(database: Database, more: impl FnOnce(Workspace) -> Workspace) -> Fixture {
        let receiver = Receiver::start().await;
        let workspace = Workspace::new(&database).endpoint("main", &receiver.url("/"), "");
        let workspace = more(workspace);
        let daemon = workspace.start(&database).await;
        Fixture { database, receiver, workspace, daemon }
    }

    /// The events of all changes so far, in the database's order. Ends the daemon.
    async fn events(self, due: usize) -> Vec<Value> {
        // What comes after must not have been preceded by more than what is due.
        self.database.execute(&self.database.emit("the.end")).await;
        let requests = self.receiver.wait_for(due + 1, PATIENCE).await;
        self.daemon.stop().await;
        self.receiver.assert_all_signed();
        let mut events: Vec<Value> = requests.iter().map(|request| request.json()).collect();
        // Those of one connection have ascending ids.
        events.sort_by_cached_key(|event| event["id"].to_string());
        assert_eq!(events.len(), due + 1, "{:?}", names(&events));
        assert_eq!(events.pop().unwrap()["event"], "the.end", "{:?}", names(&events));
        events
    }
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap_or("?")).collect()
}

/// Statements by themselves, so that each has its transaction.
async fn execute(database: &Database, statements: &[&str]) {
    for statement in statements {
        database.execute(statement).await;
    }
}

const PERSON: &str = "
    create table person (id int primary key, first_name text, last_name text, password_hash text,
                         tenant_id int, bio text);
    alter table person alter bio set storage external;";

async fn excluded_columns_are_in_no_event_and_the_others_have_new_names(capture: Capture) {
    let schema = format!("{PERSON} alter table person replica identity full");
    let tables = "[[table]]
                  name = 'person'
                  exclude = ['password_hash', 'tenant_id']
                  rename = { bio = 'life_story' }
                  case = 'camel'";
    let fixture = Fixture::new(capture, &schema, tables).await;
    let statements = [
        "insert into person values (1, 'Ada', 'L', 'secret', 7, repeat('x', 10000))",
        "update person set first_name = 'Eve', password_hash = 'secret2'",
        "update person set password_hash = 'secret3'",
        "delete from person",
    ];
    execute(&fixture.database, &statements).await;
    let events = fixture.events(4).await;
    let bio = "x".repeat(10_000);
    let data = |name: &str| json!({"id": 1, "firstName": name, "lastName": "L", "life_story": bio});
    assert_eq!(events[0]["data"], data("Ada"));
    assert_eq!(events[1]["data"], data("Eve"));
    assert_eq!(events[1]["previous"], json!({"firstName": "Ada"}));
    assert_eq!(events[1]["updatedFields"], json!(["firstName"]));
    assert_eq!(events[2]["data"], data("Eve"));
    assert_eq!((&events[2]["previous"], &events[2]["updatedFields"]), (&json!({}), &json!([])));
    assert_eq!(events[3]["data"], data("Eve"));
    assert!(events.iter().all(|event| !event.to_string().contains("secret")));
}

async fn only_the_listed_columns_are_told_and_a_hidden_key_orders_all_the_same(capture: Capture) {
    let tables = "[[table]]
                  name = 'person'
                  columns = ['last_name', 'bio']
                  rename = { last_name = 'name' }";
    let fixture = Fixture::new(capture, PERSON, tables).await;
    let (database, receiver) = (&fixture.database, &fixture.receiver);
    execute(database, &["insert into person values (1, 'Ada', '0', '', 7, repeat('x', 10000))"])
        .await;
    for number in 1..20 {
        database.execute(&format!("update person set last_name = '{number}'")).await;
    }
    execute(database, &["truncate person"]).await;
    let arrived = receiver.wait_for(21, PATIENCE).await;
    let arrived: Vec<_> = arrived.iter().map(|it| it.json()["data"]["name"].clone()).collect();
    let order: Vec<_> = (0..20).map(|number| json!(number.to_string())).collect();
    assert_eq!(arrived[..20], order, "events of one row overtook each other");
    let events = fixture.events(21).await;
    assert_eq!(events[0]["data"], json!({"name": "0", "bio": "x".repeat(10_000)}));
    match capture {
        Capture::Replication => {
            assert_eq!(events[1]["data"], json!({"name": "1"}));
            assert_eq!(events[1]["unchanged"], json!(["bio"]));
        }
        Capture::Outbox => {
            assert_eq!(events[1]["data"], json!({"name": "1", "bio": "x".repeat(10_000)}));
            assert_eq!(events[1]["previous"], json!({"name": "0"}));
        }
    }
    assert_eq!(
        (&events[20]["event"], &events[20]["data"]),
        (&json!("person.truncated"), &json!({}))
    );
}

const SOFT: &str = "
    create table note (id int primary key, title text, deleted_at timestamptz);
    create table task (id int primary key, title text, is_gone boolean);";

const SOFT_TABLES: &str = "
    [[table]]
    name = 'note'
    soft_delete = 'deleted_at'
    [[table]]
    name = 'task'
    columns = ['id', 'title']
    soft_delete = 'is_gone'";

const SOFT_CHANGES: [&str; 11] = [
    "insert into note values (1, 'a', null)",
    "update note set title = 'b'",
    "update note set deleted_at = '2024-02-29 12:00:00Z', title = 'c'",
    "update note set title = 'd'",
    "update note set deleted_at = null",
    "delete from note",
    "insert into task values (1, 'a', null)",
    "update task set is_gone = false",
    "update task set is_gone = true",
    "update task set is_gone = false",
    "delete from task",
];

async fn a_row_marked_as_deleted_is_deleted_and_restored(capture: Capture) {
    let full = "alter table note replica identity full; alter table task replica identity full";
    let fixture = Fixture::new(capture, &format!("{SOFT} {full}"), SOFT_TABLES).await;
    execute(&fixture.database, &SOFT_CHANGES).await;
    let events = fixture.events(SOFT_CHANGES.len()).await;
    assert_eq!(
        names(&events),
        [
            "note.created",
            "note.updated",
            "note.deleted",
            "note.updated",
            "note.restored",
            "note.deleted",
            "task.created",
            "task.updated",
            "task.deleted",
            "task.restored",
            "task.deleted",
        ]
    );
    let at = "2024-02-29T12:00:00+00:00";
    assert_eq!(events[2]["data"], json!({"id": 1, "title": "c", "deleted_at": at}));
    assert_eq!(events[2]["previous"], json!({"title": "b", "deleted_at": null}));
    assert_eq!(events[2]["updatedFields"], json!(["title", "deleted_at"]));
    assert_eq!(events[4]["data"], json!({"id": 1, "title": "d", "deleted_at": null}));
    assert_eq!(events[4]["previous"], json!({"deleted_at": at}));
    assert_eq!(events[8]["data"], json!({"id": 1, "title": "a"}));
}

/// Without old values, a mark that is there counts as new, and one that is not there as never set.
#[tokio::test(flavor = "multi_thread")]
async fn without_old_values_a_row_may_be_deleted_twice_and_is_never_restored() {
    let fixture = Fixture::new(Capture::Replication, SOFT, SOFT_TABLES).await;
    execute(&fixture.database, &SOFT_CHANGES[..5]).await;
    let events = fixture.events(5).await;
    let expected = ["note.created", "note.updated", "note.deleted", "note.deleted", "note.updated"];
    assert_eq!(names(&events), expected);
    assert!(events[2].get("previous").is_none());
}

/// Setup puts triggers on the tables that there are; those made later want another.
#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_follows_the_tables_that_setup_finds() {
    let schema = r#"create schema crm; create schema other;
        create table crm.people (id int primary key, secret text);
        create table crm."order items" (id int primary key, unit_price numeric);
        create table crm.audit_log (id int primary key);
        create table other.people (id int primary key)"#;
    let fixture = Fixture::new(Capture::Outbox, schema, PATTERNS).await;
    let statements = [
        "insert into crm.people values (1, 'x')",
        r#"insert into crm."order items" values (1, 2.50)"#,
        "insert into other.people values (1)",
        "insert into crm.audit_log values (1)",
        "create table crm.late (id int primary key); insert into crm.late values (1)",
    ];
    execute(&fixture.database, &statements).await;
    fixture.workspace.run(&["setup"]).await.assert(0, &[]);
    execute(&fixture.database, &["insert into crm.late values (2)"]).await;
    let events = fixture.events(4).await;
    let told: Vec<_> = events.iter().map(|it| format!("{} {}", it["event"], it["data"])).collect();
    let expected = [
        r#""person.created" {"id":1}"#,
        r#""order_items.created" {"id":1,"unitPrice":2.50}"#,
        r#""audit_log.created" {"id":1}"#,
        r#""late.created" {"id":2}"#,
    ];
    assert_eq!(told, expected);
}

const PATTERNS: &str = "
    [[table]]
    name = 'crm.*'
    case = 'camel'
    [[table]]
    name = 'crm.people'
    record = 'person'
    exclude = ['secret']
    [[table]]
    name = '*.audit_*'
    exclude = ['id']";

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_follows_many_tables_each_under_its_own_name() {
    let database = Database::create().await;
    let name = database.name().to_owned();
    let schema = r#"create schema crm; create schema other;
        create table crm.people (id int primary key, secret text);
        create table crm."order items" (id int primary key, unit_price numeric);
        create table crm.audit_log (id int primary key);
        create table other.people (id int primary key)"#;
    let slot = format!("select pg_create_logical_replication_slot('{name}', 'pgoutput')");
    execute(&database, &[schema, &format!("create publication {name} for all tables"), &slot])
        .await;
    let tables = format!("[source]\ncreate = false\n{PATTERNS}");
    let fixture = Fixture::on(database, |workspace| workspace.toml(&tables)).await;
    let statements = [
        "insert into crm.people values (1, 'x')",
        r#"insert into crm."order items" values (1, 2.50)"#,
        "insert into other.people values (1)",
        "insert into crm.audit_log values (1)",
        "create table crm.late (id int primary key); insert into crm.late values (1)",
        "create table other.audit_late (id int primary key); insert into other.audit_late values (1)",
        r#"alter table crm.late rename to "late comers"; insert into crm."late comers" values (2)"#,
    ];
    execute(&fixture.database, &statements).await;
    let events = fixture.events(6).await;
    let told: Vec<_> = events.iter().map(|it| format!("{} {}", it["event"], it["data"])).collect();
    let expected = [
        r#""person.created" {"id":1}"#,
        r#""order_items.created" {"id":1,"unitPrice":2.50}"#,
        // Two patterns match: the first counts.
        r#""audit_log.created" {"id":1}"#,
        r#""late.created" {"id":1}"#,
        r#""audit_late.created" {}"#,
        r#""late_comers.created" {"id":2}"#,
    ];
    assert_eq!(told, expected);
    assert_eq!(events[1]["source"]["table"], "order items");
}

async fn a_column_that_is_not_there_is_said_once_and_harms_nothing(capture: Capture) {
    let schema = "create table person (id int primary key, email text)";
    let tables = "[[table]]
                  name = 'person'
                  exclude = ['emial']
                  soft_delete = 'gone'";
    let fixture = Fixture::new(capture, schema, tables).await;
    let statements = [
        "insert into person values (1, 'a')",
        // The server describes the table again.
        "alter table person add age int; update person set age = 7",
    ];
    execute(&fixture.database, &statements).await;
    fixture.receiver.wait_for(2, PATIENCE).await;
    fixture.daemon.says("has no column \"gone\"", PATIENCE).await;
    let log = fixture.daemon.stderr();
    for (column, key, hint) in
        [("emial", "exclude", "did you mean"), ("gone", "soft_delete", "it has")]
    {
        let column = format!("has no column {column:?}, which `{key}` names");
        let lines: Vec<_> = log.lines().filter(|line| line.contains(&column)).collect();
        assert!(lines.first().is_some_and(|line| line.contains(hint)), "{column}: {log}");
        assert!(log.contains("table \"public\".\"person\" has no column"), "{log}");
        // Of triggers there is no publication.
        assert_eq!(
            log.contains("the publication leaves"),
            capture == Capture::Replication,
            "{log}"
        );
    }
    assert_eq!(log.matches("has no column \"emial\"").count(), 1, "{log}");
    let events = fixture.events(2).await;
    assert_eq!(names(&events), ["person.created", "person.updated"]);
    assert_eq!(events[1]["data"], json!({"id": 1, "email": "a", "age": 7}));
}

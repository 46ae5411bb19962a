//! What every format, method and way of packing makes of the same changes, as it reaches receivers.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use flate2::read::GzDecoder;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use walhook::delivery::signature::{Scheme, Verifier};

use crate::harness::{
    Capture, Receiver, Request, SECRET, Workspace, eventually, under_both_captures,
};

under_both_captures!(
    every_format_tells_the_same_story,
    methods_templates_compression_and_batches_keep_what_they_carry,
    a_template_that_fails_for_one_event_holds_up_its_record_alone
);

const PATIENCE: Duration = Duration::from_secs(60);

const PAY: &str = "12345678901234567890.12345678901234567890";
const BIG: &str = "9223372036854775807";

/// What happens, in order, and what it is called.
const STORY: [&str; 6] = [
    "insert into person values (9223372036854775807, 'Zoë',
         12345678901234567890.12345678901234567890, null, repeat('x', 3000)),
         (2, 'Bob', 1.10, null, ''), (3, 'Eve', 0, null, '')",
    "update person set name = 'Rob' where id = 2",
    "update person set deleted_at = '2025-01-01T00:00:00Z' where id = 3",
    "delete from person where id = 2",
    "select walhook.emit('invoice.paid', '42', '{\"total\":99.50}')",
    "truncate person",
];
const NAMES: [&str; 8] = [
    "person.created",
    "person.created",
    "person.created",
    "person.updated",
    "person.deleted",
    "person.deleted",
    "invoice.paid",
    "person.truncated",
];
const CREATED: &str = "events = ['person.created']";

const TEMPLATE: &str = r#"
method = 'PUT'
content_type = 'application/json'
template = '''
{{ set_path("/rows/" ~ data.id | default("all") | urlencode) }}{{ set_header("x-event", event) }}
{"id": {{ data.id | default(none) }}, "pay": {{ data.pay | default(none) }}, "who": "{{ data.name | default("?") }}"}
'''
"#;

/// Checks it with walhook's own verifier; the receiver does with another one.
#[track_caller]
fn assert_genuine(request: &Request) {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let now_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    let verifier = Verifier::new(Scheme::Standard, &[SECRET.into()]).unwrap();
    let tolerance = Some(Duration::from_secs(300));
    verifier.verify(&headers, &request.body, now_ms, tolerance).unwrap();
}

fn text(request: &Request) -> &str {
    std::str::from_utf8(&request.body).unwrap()
}

fn unpacked(request: &Request) -> Vec<u8> {
    let mut body = Vec::new();
    GzDecoder::new(&request.body[..]).read_to_end(&mut body).unwrap();
    body
}

/// All requests, and the database's name.
struct Told {
    requests: Vec<Arc<Request>>,
    database: String,
}

impl Told {
    /// Those to an endpoint, by its path as far as the query.
    fn to(&self, path: &str) -> Vec<Arc<Request>> {
        let is_its = |request: &&Arc<Request>| request.path.split('?').next() == Some(path);
        self.requests.iter().filter(is_its).cloned().collect()
    }

    fn members(&self, path: &str, key: &str) -> Vec<Value> {
        self.to(path).iter().map(|request| request.json()[key].take()).collect()
    }
}

async fn told(capture: Capture, endpoints: &[(&str, &str)], due: usize) -> Told {
    let database = capture.database().await;
    database
        .execute(
            "create table person (id bigint primary key, name text, pay numeric,
                 deleted_at timestamptz, bio text);
             alter table person replica identity full",
        )
        .await;
    let receiver = Receiver::start().await;
    let table = "[[table]]\nname = 'public.person'\nrecord = 'person'\nsoft_delete = 'deleted_at'";
    let mut workspace = Workspace::new(&database).toml(table);
    for (name, more) in endpoints {
        let url = receiver.url(&format!("/{name}"));
        // So that requests arrive in the order of the story.
        let order = if more.contains("batch") { "" } else { "ordering = 'strict'\n" };
        workspace = workspace.endpoint(name, &url, &format!("{order}{more}"));
    }
    workspace.run(&["check"]).await.assert(0, &[]);
    workspace.run(&["setup"]).await.assert(0, &[]);
    let daemon = workspace.start(&database).await;
    for statement in STORY {
        database.execute(statement).await;
    }
    let requests = receiver.wait_for(due, PATIENCE).await;
    daemon.stop().await;
    assert_eq!(receiver.count(), due);
    receiver.assert_all_signed();
    for request in &requests {
        assert_genuine(request);
    }
    Told { requests, database: database.name().to_owned() }
}

async fn every_format_tells_the_same_story(capture: Capture) {
    let formats =
        ["walhook", "standard", "twenty", "cloudevents", "cloudevents-binary", "debezium"];
    let configs = formats.map(|format| format!("format = '{format}'"));
    let endpoints: Vec<_> = formats.into_iter().zip(configs.iter().map(String::as_str)).collect();
    let told = told(capture, &endpoints, formats.len() * NAMES.len()).await;

    let ids: Vec<String> = told.to("/walhook").iter().map(|one| one.id().to_owned()).collect();
    for format in formats {
        let sent = told.to(&format!("/{format}"));
        let its_ids: Vec<_> = sent.iter().map(|one| one.id()).collect();
        assert_eq!(its_ids, ids, "{format}");
        // No digit is lost anywhere.
        let first = text(&sent[0]);
        assert!(first.contains(&format!("\"id\":{BIG}")), "{format}: {first}");
        assert!(first.contains(&format!("\"pay\":{PAY}")), "{format}: {first}");
    }
    assert_eq!(told.members("/walhook", "event"), NAMES);
    assert_eq!(told.members("/standard", "type"), NAMES);
    assert_eq!(told.members("/twenty", "eventName"), NAMES);
    assert_eq!(told.members("/cloudevents", "type"), NAMES);
    assert_eq!(told.members("/debezium", "op"), ["c", "c", "c", "u", "d", "d", "m", "t"]);

    let twenty = told.to("/twenty")[3].json();
    assert_eq!(twenty["objectMetadata"]["nameSingular"], "person");
    assert_eq!(twenty["updatedFields"], json!(["name"]));
    assert_eq!(twenty["record"]["name"], "Rob");
    assert!(twenty["targetUrl"].as_str().unwrap().ends_with("/twenty"));

    let binary = told.to("/cloudevents-binary");
    for (at, structured) in told.to("/cloudevents").iter().enumerate() {
        let binary = &binary[at];
        assert_eq!(structured.header("content-type"), Some("application/cloudevents+json"));
        assert_eq!(binary.header("content-type"), Some("application/json"));
        assert_eq!(binary.header("ce-type"), Some(NAMES[at]));
        assert_eq!(binary.header("ce-id"), Some(binary.id()));
        let event = structured.json();
        assert_eq!(event["id"], binary.id());
        assert_eq!(event["source"], binary.header("ce-source").unwrap());
        assert_eq!(event["time"], binary.header("ce-time").unwrap());
        assert_eq!(event["data"], binary.json());
    }
    assert_eq!(binary[0].header("ce-subject"), Some(BIG));
    let source = format!("/{}/public/person", told.database);
    assert_eq!(binary[0].header("ce-source"), Some(&*source));

    let debezium: Vec<Value> = told.to("/debezium").iter().map(|one| one.json()).collect();
    assert_eq!(debezium[0]["before"], Value::Null);
    assert_eq!(debezium[3]["before"]["name"], "Bob");
    assert_eq!(debezium[3]["after"]["name"], "Rob");
    // The soft delete, and the real one.
    assert_eq!(debezium[4]["before"]["deleted_at"], Value::Null);
    assert_eq!(debezium[5]["before"]["name"], "Rob");
    assert_eq!(debezium[5]["after"], Value::Null);
    assert_eq!(debezium[3]["source"]["table"], "person");
    assert_eq!(debezium[3]["source"]["db"], told.database.as_str());
    assert_eq!(debezium[6]["message"]["prefix"], "walhook");
    assert_eq!(debezium[7]["after"], Value::Null);
}

async fn methods_templates_compression_and_batches_keep_what_they_carry(capture: Capture) {
    let get = format!("method = 'GET'\nformat = 'standard'\n{CREATED}");
    let gzip = format!("compress = true\n{CREATED}");
    let batch = format!("batch = {{ max_events = 3, max_wait = '60s' }}\n{CREATED}");
    let batch_of_cloudevents = format!("{batch}\nformat = 'cloudevents'\ncompress = true");
    let endpoints = [
        ("template", TEMPLATE),
        ("patch", "method = 'PATCH'"),
        ("delete", "method = 'DELETE'\nformat = 'standard'"),
        ("get", &get),
        ("gzip", &gzip),
        ("batch", &batch),
        ("batch-of-cloudevents", &batch_of_cloudevents),
    ];
    let told = told(capture, &endpoints, 3 * NAMES.len() + 3 + 3 + 1 + 1).await;

    let rows: Vec<_> =
        told.requests.iter().filter(|request| request.path.starts_with("/rows/")).collect();
    assert_eq!(rows.len(), NAMES.len());
    for (request, name) in rows.iter().zip(NAMES) {
        assert_eq!((request.method.as_str(), request.header("x-event")), ("PUT", Some(name)));
        assert_eq!(request.header("content-type"), Some("application/json"));
    }
    assert_eq!(rows[0].path, format!("/rows/{BIG}"));
    let first = format!(r#"{{"id": {BIG}, "pay": {PAY}, "who": "Zoë"}}"#);
    assert_eq!(text(rows[0]).trim(), first);
    assert_eq!(rows[6].path, "/rows/all");

    for (path, method) in [("/patch", "PATCH"), ("/delete", "DELETE")] {
        let sent = told.to(path);
        assert_eq!(sent.len(), NAMES.len());
        assert!(sent.iter().all(|one| one.method == method && !one.body.is_empty()), "{path}");
    }

    let get = told.to("/get");
    assert_eq!((get.len(), get[0].method.as_str(), get[0].body.len()), (3, "GET", 0));
    assert_eq!(get[0].header("content-type"), None);
    let (_, query) = get[0].path.split_once('?').unwrap();
    let query: HashMap<String, String> =
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    assert_eq!(query["type"], "person.created");
    assert!(query["data"].contains(&format!("\"id\":{BIG}")), "{query:?}");
    assert!(query["data"].contains(&format!("\"pay\":{PAY}")), "{query:?}");

    // What is small stays as it is.
    let gzip = told.to("/gzip");
    let encodings: Vec<_> = gzip.iter().map(|one| one.header("content-encoding")).collect();
    assert_eq!(encodings, [Some("gzip"), None, None]);
    assert!(gzip[0].body.len() < 1_000);
    assert_eq!(unpacked(&gzip[0]), told.to("/patch")[0].body);

    let batch = told.to("/batch");
    let events = batch[0].json();
    let ids: Vec<_> = events.as_array().unwrap().iter().map(|event| event["id"].clone()).collect();
    assert_eq!(ids, told.to("/patch")[..3].iter().map(|one| one.id()).collect::<Vec<_>>());
    assert_eq!(batch[0].header("webhook-sequence"), Some("1-3"));
    assert!(batch[0].id().starts_with("batch_") && text(&batch[0]).contains(PAY));
    let batch = &told.to("/batch-of-cloudevents")[0];
    assert_eq!(batch.header("content-type"), Some("application/cloudevents-batch+json"));
    let unpacked = String::from_utf8(unpacked(batch)).unwrap();
    let events: Vec<Value> = serde_json::from_str(&unpacked).unwrap();
    assert!(events.iter().all(|e| e["type"] == "person.created" && e["specversion"] == "1.0"));
    assert!(unpacked.contains(PAY) && events.len() == 3);
}

/// Both the log of attempts and the daemon say what is wrong, without showing the row.
async fn a_template_that_fails_for_one_event_holds_up_its_record_alone(capture: Capture) {
    let database = capture.database().await;
    database.execute("create table person (id int primary key, name text)").await;
    let receiver = Receiver::start().await;
    let template = "template = '{{ set_header(\"x-name\", data.name) }}{{ data.id }}'";
    let workspace = Workspace::new(&database).table("public.person", "person").endpoint(
        "crm",
        &receiver.url("/"),
        template,
    );
    let daemon = workspace.start(&database).await;
    database.execute("insert into person values (1, 'hush' || chr(10) || 'x: y')").await;
    database.execute("update person set name = 'fine' where id = 1").await;
    database.execute("insert into person values (2, 'Bob'), (3, 'Eve')").await;
    receiver.wait_for(2, PATIENCE).await;
    let list = ["deliveries", "list", "--state", "waiting", "--json"];
    let listed = eventually(PATIENCE, "the failure is listed", async || {
        let listed = workspace.run(&list).await.stdout;
        listed.contains("evt_").then_some(listed)
    })
    .await;
    let at = listed.find("evt_").unwrap();
    let id: String =
        listed[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    let listed = eventually(PATIENCE, "the insert and the update behind it", async || {
        let all = ["deliveries", "list", "--state", "all", "--json"];
        let listed = workspace.run(&all).await.stdout;
        (listed.lines().count() == 2).then_some(listed)
    })
    .await;
    let shown = workspace.run(&["deliveries", "show", "--endpoint", "crm", &id]).await.stdout;
    assert!(shown.contains("no request was made: the template"), "{shown}");
    daemon.says("no request was made: the template", PATIENCE).await;
    let said = daemon.stderr();
    daemon.stop().await;
    let mut bodies: Vec<_> =
        receiver.requests_to("/").iter().map(|one| text(one).to_owned()).collect();
    bodies.sort();
    assert_eq!(bodies, ["2", "3"]);
    assert!(!said.contains("hush") && !listed.contains("hush"), "{said}{listed}");
}

mod hostile;
mod speed;
mod templates;

use serde_json::Value;

use super::*;

const COMMITTED_AT_US: i64 = 1_739_201_450_123_456;

/// Where the events of a table come from.
const TABLE: &str = r#""source":{"database":"crm","schema":"public","table":"people","lsn":"0/16B3748","commitLsn":"0/16B3790","xid":743,"ordinal":0,"capture":"replication"}"#;
const MESSAGE: &str = r#""source":{"database":"crm","lsn":"0/16B3748","commitLsn":"0/16B3790","xid":743,"ordinal":0,"capture":"replication"}"#;

const CREATED: (&str, &str, &str) = (
    "person.created",
    r#""data":{"id":9223372036854775807,"name":"Ann","pay":12345678901234567890.1234567890}"#,
    TABLE,
);
const UPDATED: (&str, &str, &str) = (
    "person.updated",
    r#""data":{"id":42,"name":"Ann","email":"a@b"},"previous":{"email":null},"updatedFields":["email"]"#,
    TABLE,
);
/// Without old values, and a large one untouched.
const TOUCHED: (&str, &str, &str) =
    ("person.updated", r#""data":{"id":42,"name":"Ann"},"unchanged":["bio"]"#, TABLE);
/// Without old values but the key's, which changed.
const MOVED: (&str, &str, &str) =
    ("person.updated", r#""data":{"id":43,"name":"Ann"},"previous":{"id":42}"#, TABLE);
const DELETED: (&str, &str, &str) = ("person.deleted", r#""data":{"id":42}"#, TABLE);
const SOFT_DELETED: (&str, &str, &str) = (
    "person.deleted",
    r#""data":{"id":42,"gone":"2025"},"previous":{"gone":null},"updatedFields":["gone"]"#,
    TABLE,
);
const RESTORED: (&str, &str, &str) = (
    "person.restored",
    r#""data":{"id":42,"gone":null},"previous":{"gone":"2025"},"updatedFields":["gone"]"#,
    TABLE,
);
const TRUNCATED: (&str, &str, &str) = ("person.truncated", r#""data":{}"#, TABLE);
const CUSTOM: (&str, &str, &str) = ("invoice.paid", r#""data":{ "total": [99.50] }"#, MESSAGE);
/// What walhook tells of itself comes from no database.
const REPORT: (&str, &str, &str) = ("walhook.gap", r#""data":{"endpoint":"a"}"#, "");

const ALL: [(&str, &str, &str); 10] =
    [CREATED, UPDATED, TOUCHED, MOVED, DELETED, SOFT_DELETED, RESTORED, TRUNCATED, CUSTOM, REPORT];

fn id() -> EventId {
    EventId::from_bytes([0; 20])
}

fn envelope((name, members, source): (&str, &str, &str)) -> Bytes {
    let comma = if source.is_empty() { "" } else { "," };
    let name = serde_json::to_string(name).unwrap();
    format!(
        r#"{{"id":"{}","event":{name},"timestamp":"2025-02-10T15:30:50.123456Z",{members}{comma}{source}}}"#,
        id()
    )
    .into()
}

fn subject<'a>(name: &'a str, envelope: &'a Bytes) -> Subject<'a> {
    Subject { id: id(), name, committed_at_us: COMMITTED_AT_US, envelope }
}

fn render(format: &Format, event: (&str, &str, &str)) -> Rendered {
    let envelope = envelope(event);
    format.render(&subject(event.0, &envelope)).unwrap()
}

fn body(format: &Format, event: (&str, &str, &str)) -> String {
    String::from_utf8(render(format, event).body.to_vec()).unwrap()
}

fn named(name: &str) -> Format {
    Format::named(name, "crm-sync", "https://example.com/hooks?key=1").unwrap()
}

#[test]
fn walhook_is_the_journal_s_own_bytes() {
    let envelope = envelope(UPDATED);
    let rendered = Format::Walhook.render(&subject(UPDATED.0, &envelope)).unwrap();
    assert_eq!(rendered.body.as_ptr(), envelope.as_ptr(), "nothing is copied");
    assert_eq!(rendered.content_type, "application/json");
    assert!(rendered.headers.is_empty() && rendered.path.is_none());
    let (name, whatever) = ("a.b", Bytes::from_static(b"\xff not even JSON"));
    assert_eq!(Format::Walhook.render(&subject(name, &whatever)).unwrap().body, whatever);
}

#[test]
fn standard_has_three_members() {
    let format = named("standard");
    for (event, expected) in [
        (
            CREATED,
            r#"{"type":"person.created","timestamp":"2025-02-10T15:30:50.123456Z","data":{"id":9223372036854775807,"name":"Ann","pay":12345678901234567890.1234567890}}"#,
        ),
        (
            UPDATED,
            r#"{"type":"person.updated","timestamp":"2025-02-10T15:30:50.123456Z","data":{"id":42,"name":"Ann","email":"a@b"}}"#,
        ),
        (
            TRUNCATED,
            r#"{"type":"person.truncated","timestamp":"2025-02-10T15:30:50.123456Z","data":{}}"#,
        ),
        (
            CUSTOM,
            r#"{"type":"invoice.paid","timestamp":"2025-02-10T15:30:50.123456Z","data":{ "total": [99.50] }}"#,
        ),
    ] {
        assert_eq!(body(&format, event), expected);
    }
}

#[test]
fn twenty_is_what_its_server_posts() {
    let format = named("twenty");
    let head = r#"{"targetUrl":"https://example.com/hooks?key=1","eventName":"#;
    let ids = r#""workspaceId":"WORKSPACE","webhookId":"WEBHOOK","eventDate":"2025-02-10T15:30:50.123Z","record":"#;
    for (event, expected) in [
        (
            CREATED,
            r#""person.created","objectMetadata":{"id":"PEOPLE","nameSingular":"person"},IDS{"id":9223372036854775807,"name":"Ann","pay":12345678901234567890.1234567890}}"#,
        ),
        (
            UPDATED,
            r#""person.updated","objectMetadata":{"id":"PEOPLE","nameSingular":"person"},IDS{"id":42,"name":"Ann","email":"a@b"},"updatedFields":["email"]}"#,
        ),
        (
            DELETED,
            r#""person.deleted","objectMetadata":{"id":"PEOPLE","nameSingular":"person"},IDS{"id":42}}"#,
        ),
        (
            RESTORED,
            r#""person.restored","objectMetadata":{"id":"PEOPLE","nameSingular":"person"},IDS{"id":42,"gone":null},"updatedFields":["gone"]}"#,
        ),
        (
            TRUNCATED,
            r#""person.truncated","objectMetadata":{"id":"PEOPLE","nameSingular":"person"},IDS{}}"#,
        ),
        (
            CUSTOM,
            r#""invoice.paid","objectMetadata":{"id":"INVOICE","nameSingular":"invoice"},IDS{ "total": [99.50] }}"#,
        ),
    ] {
        // Python: uuid.uuid5(uuid.NAMESPACE_URL, "walhook:/crm/public/people"), and so on.
        let expected = format!("{head}{expected}")
            .replace("IDS", ids)
            .replace("PEOPLE", "0ed368a9-be09-51d1-bd70-5764a4797515")
            .replace("INVOICE", "0c35010a-fead-5543-985b-6374d816da6f")
            .replace("WORKSPACE", "1c499fb5-681b-537b-9594-09909becc9db")
            .replace("WEBHOOK", "89ebbd08-1342-5c5a-8d7e-703c0581508e");
        assert_eq!(body(&format, event), expected);
    }
}

#[test]
fn debezium_tells_before_and_after() {
    let format = named("debezium");
    let source = r#""source":{"version":"VERSION","connector":"postgresql","name":"walhook","ts_ms":1739201450123,"snapshot":"false","db":"crm","sequence":"[\"23803792\",\"23803720\"]","ts_us":1739201450123456,"ts_ns":1739201450123456000,"schema":"public","table":"people","txId":743,"lsn":23803720,"xmin":null},"transaction":null,"op":"#;
    let source = source.replace("VERSION", env!("CARGO_PKG_VERSION"));
    let times = r#","ts_ms":1739201450123,"ts_us":1739201450123456,"ts_ns":1739201450123456000}"#;
    for (event, before, after, op) in [
        (
            CREATED,
            "null",
            r#"{"id":9223372036854775807,"name":"Ann","pay":12345678901234567890.1234567890}"#,
            "c",
        ),
        (
            UPDATED,
            r#"{"id":42,"name":"Ann","email":null}"#,
            r#"{"id":42,"name":"Ann","email":"a@b"}"#,
            "u",
        ),
        (TOUCHED, "null", r#"{"id":42,"name":"Ann","bio":"__debezium_unavailable_value"}"#, "u"),
        (MOVED, r#"{"id":42}"#, r#"{"id":43,"name":"Ann"}"#, "u"),
        (DELETED, r#"{"id":42}"#, "null", "d"),
        (SOFT_DELETED, r#"{"id":42,"gone":null}"#, "null", "d"),
        (RESTORED, "null", r#"{"id":42,"gone":null}"#, "c"),
        (TRUNCATED, "null", "null", "t"),
    ] {
        let expected = format!(r#"{{"before":{before},"after":{after},{source}"{op}"{times}"#);
        assert_eq!(body(&format, event), expected);
    }
    let message: Value = serde_json::from_str(&body(&format, CUSTOM)).unwrap();
    assert_eq!(message["op"], "m");
    assert_eq!(message["message"]["prefix"], "walhook");
    use base64::Engine as _;
    let content = message["message"]["content"].as_str().unwrap();
    let content = base64::engine::general_purpose::STANDARD.decode(content).unwrap();
    assert_eq!(content, br#"{"event":"invoice.paid","data":{ "total": [99.50] }}"#);
    assert_eq!(message["source"]["table"], "");
    assert_eq!(message["source"]["txId"], 743);
    let report: Value = serde_json::from_str(&body(&format, REPORT)).unwrap();
    assert_eq!((&report["op"], &report["source"]["lsn"]), (&"m".into(), &Value::Null));
}

#[test]
fn structured_cloud_events_meet_the_schema() {
    let schema: Value = serde_json::from_str(include_str!("tests/cloudevent.schema.json")).unwrap();
    let schema = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    let wrong = r#"{"specversion":"1.0","id":"","source":"/a b","type":"x","time":"soon"}"#;
    assert_eq!(schema.iter_errors(&serde_json::from_str(wrong).unwrap()).count(), 3);
    let format = named("cloudevents");
    for event in ALL {
        let rendered = render(&format, event);
        assert_eq!(rendered.content_type, "application/cloudevents+json");
        assert!(rendered.headers.is_empty());
        let value: Value = serde_json::from_slice(&rendered.body).unwrap();
        let errors: Vec<_> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?} {value}");
    }
    for (event, expected) in [
        (
            UPDATED,
            r#"{"specversion":"1.0","id":"ID","source":"/crm/public/people","type":"person.updated","subject":"42","lsn":"0/16B3748","commitlsn":"0/16B3790","xid":"743","ordinal":"0","updatedfields":"[\"email\"]","time":"2025-02-10T15:30:50.123456Z","datacontenttype":"application/json","data":{"id":42,"name":"Ann","email":"a@b"}}"#,
        ),
        (
            CUSTOM,
            r#"{"specversion":"1.0","id":"ID","source":"/crm","type":"invoice.paid","lsn":"0/16B3748","commitlsn":"0/16B3790","xid":"743","ordinal":"0","time":"2025-02-10T15:30:50.123456Z","datacontenttype":"application/json","data":{ "total": [99.50] }}"#,
        ),
        (
            REPORT,
            r#"{"specversion":"1.0","id":"ID","source":"/walhook","type":"walhook.gap","time":"2025-02-10T15:30:50.123456Z","datacontenttype":"application/json","data":{"endpoint":"a"}}"#,
        ),
    ] {
        assert_eq!(body(&format, event), expected.replace("ID", &id().to_string()));
    }
}

#[test]
fn binary_cloud_events_are_headers_and_the_row() {
    let format = named("cloudevents-binary");
    let source = TABLE.replace("people", "Größe \\\"1%\\\"");
    let event = (
        "größe.created",
        r#""data":{"id":"a b","n":12345678901234567890.10},"unchanged":["x y"]"#,
        source.as_str(),
    );
    let rendered = render(&format, event);
    assert_eq!(&rendered.body[..], br#"{"id":"a b","n":12345678901234567890.10}"#);
    assert_eq!(rendered.content_type, "application/json");
    let id = id().to_string();
    let expected = [
        ("ce-specversion", "1.0"),
        ("ce-id", &id),
        // A percent sign of the attribute's own is encoded once more.
        ("ce-source", "/crm/public/Gr%25C3%25B6%25C3%259Fe%2520%25221%2525%2522"),
        ("ce-type", "gr%C3%B6%C3%9Fe.created"),
        ("ce-subject", "a%20b"),
        ("ce-lsn", "0/16B3748"),
        ("ce-commitlsn", "0/16B3790"),
        ("ce-xid", "743"),
        ("ce-ordinal", "0"),
        ("ce-unchanged", "[%22x%20y%22]"),
        ("ce-time", "2025-02-10T15:30:50.123456Z"),
    ];
    let headers: Vec<_> =
        rendered.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(headers, expected);
}

#[test]
fn batches_are_arrays() {
    let (a, b) = (envelope(CREATED), envelope(DELETED));
    let events = [subject(CREATED.0, &a), subject(DELETED.0, &b)];
    for name in Format::NAMES {
        let format = named(name);
        assert_eq!(format.name(), name);
        if name == "cloudevents-binary" {
            assert!(!format.can_batch());
            let error = format.render_batch(&events).unwrap_err().to_string();
            assert!(error.contains("2 events"), "{error}");
            assert_eq!(format.render_batch(&events[..1]), format.render(&events[0]));
            continue;
        }
        assert!(format.can_batch());
        let (first, second) = (body(&format, CREATED), body(&format, DELETED));
        let batch = format.render_batch(&events).unwrap();
        assert_eq!(batch.body, format!("[{first},{second}]"));
        let one = format.render_batch(&events[..1]).unwrap();
        assert_eq!(one.body, format!("[{first}]"));
        let content_type = match name {
            "cloudevents" => "application/cloudevents-batch+json",
            _ => "application/json",
        };
        assert_eq!((&*batch.content_type, &*one.content_type), (content_type, content_type));
    }
    assert!(Format::named("slack", "a", "b").is_none());
}

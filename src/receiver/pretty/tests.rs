use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use hyper::{Method, StatusCode};

use super::*;
use crate::delivery::signature::Scheme;

fn received(body: &str) -> Received {
    let mut headers = HeaderMap::new();
    headers.insert("webhook-id", "evt_1".parse().unwrap());
    headers.insert("webhook-attempt", "1".parse().unwrap());
    Received {
        at: UNIX_EPOCH + Duration::from_millis(1_739_201_450_127),
        method: Method::POST,
        path: "/hooks".into(),
        headers,
        body: Bytes::copy_from_slice(body.as_bytes()),
        verdict: Verdict::Genuine(vec![Scheme::Standard]),
        status: StatusCode::OK,
        note: None,
    }
}

/// Without the time of day, which is the machine's local one.
fn text(received: &Received, again: bool) -> String {
    let text = Printer { colour: false }.text(received, again);
    text["00:00:00.000".len()..].to_owned()
}

#[test]
fn shows_a_new_record_in_the_order_of_its_columns() {
    let body = r#"{"id":"evt_1","event":"person.created","timestamp":"2025-02-10T15:30:50.123Z",
        "data":{"id":7,"name":"Ann","big":12345678901234567890.10,"tags":["a"]}}"#;
    assert_eq!(
        text(&received(body), false),
        " ✓ person.created  evt_1  4.0 ms after the commit\n    \
         id    7\n    name  \"Ann\"\n    big   12345678901234567890.10\n    tags  [\"a\"]\n"
    );
}

#[test]
fn shows_what_an_update_changed() {
    let body = r#"{"event":"person.updated","data":{"id":7,"name":"Ann","mail":"new"},
        "previous":{"mail":"old"},"updatedFields":["mail"],"unchanged":["bio"]}"#;
    assert_eq!(
        text(&received(body), true),
        " ✓ person.updated  evt_1  repeated\n    id    7\n    mail  \"old\" → \"new\"\n    \
         (unchanged and not sent: bio)\n"
    );
}

#[test]
fn shows_what_went_wrong() {
    let mut request = received("not json\x1b[2J\u{202e}");
    request.verdict = Verdict::Wrong("no".into());
    request.status = StatusCode::UNAUTHORIZED;
    request.note = Some("no".into());
    request.headers.insert("webhook-attempt", "3".parse().unwrap());
    assert_eq!(
        text(&request, false),
        " ✗ POST /hooks  evt_1  attempt 3  answered 401  no\n    not json\\u{1b}[2J\\u{202e}\n"
    );
}

#[test]
fn nothing_hostile_reaches_the_terminal() {
    let body = "{\"event\":\"a\\u001b[31m\",\"data\":{\"\\u0007k\\u009b\":\"v\u{9b}\"}}";
    let text = Printer { colour: false }.text(&received(body), false);
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}

#[test]
fn long_values_and_many_fields_are_cut() {
    let fields: Vec<String> =
        (0..100).map(|i| format!("\"f{i}\":\"{}\"", "é".repeat(1_000))).collect();
    let body = format!("{{\"event\":\"a.created\",\"data\":{{{}}}}}", fields.join(","));
    let text = text(&received(&body), false);
    assert_eq!(text.lines().count(), MAX_FIELDS + 2);
    assert!(text.contains("… and 60 more fields"));
    assert!(text.lines().all(|line| line.chars().count() < 200));
}

#[test]
fn colours_only_when_asked() {
    let body = r#"{"event":"person.deleted","data":{"id":7}}"#;
    assert!(
        Printer { colour: true }.text(&received(body), false).contains("\x1b[31mperson.deleted")
    );
    assert!(!text(&received(body), false).contains('\x1b'));
}

#[test]
fn a_json_line_keeps_the_body_as_it_came() {
    let line = json_line(&received("{\"event\":\"x\",\n \"data\":{\"n\":1.10,\"a\":1}}"));
    assert_eq!(line.matches('\n').count(), 1);
    assert!(line.ends_with("\"body\":{\"event\":\"x\",  \"data\":{\"n\":1.10,\"a\":1}}}\n"));
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["verified"], true);
    assert_eq!(value["schemes"][0], "standard");
    assert_eq!(value["headers"]["webhook-id"], "evt_1");

    let value: serde_json::Value =
        serde_json::from_str(&json_line(&received("not \"json\""))).unwrap();
    assert_eq!(value["body"], "not \"json\"");
}

fn gzipped(text: &[u8]) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, text).unwrap();
    encoder.finish().unwrap().into()
}

#[test]
fn shows_each_event_of_a_batch() {
    let body = r#"[{"id":"evt_1","event":"person.created","timestamp":"2025-02-10T15:30:50.123Z",
        "data":{"id":7,"n":1.10}},{"type":"x","data":[1]},3]"#;
    let mut batch = received(body);
    batch.headers.insert("webhook-id", "batch_1".parse().unwrap());
    let expected = " ✓ POST /hooks  batch_1\n  \
         1/3 person.created  evt_1  4.0 ms after the commit\n    id  7\n    n   1.10\n  \
         2/3 \n    type  \"x\"\n    data  [1]\n  3/3 \n    3\n";
    assert_eq!(text(&batch, false), expected.replace("/3 \n", "/3\n"));
    let many = received(&format!("[{}0]", "0,".repeat(MAX_EVENTS)));
    assert!(text(&many, false).ends_with("… and 1 more events\n"));
    let hostile = received("[{\"id\":\"\u{9b}\",\"event\":\"\\u001b\",\"data\":{}}]");
    let text = Printer { colour: false }.text(&hostile, false);
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}

#[test]
fn shows_what_was_compressed() {
    let mut request = received("");
    request.headers.insert("content-encoding", "gzip".parse().unwrap());
    request.body = gzipped(br#"{"event":"person.created","data":{"id":7}}"#);
    assert_eq!(text(&request, false), " ✓ person.created  evt_1\n    id  7\n");
    assert!(
        json_line(&request)
            .ends_with(",\"body\":{\"event\":\"person.created\",\"data\":{\"id\":7}}}\n")
    );
    // Neither what is none nor what never ends does any harm.
    request.body = Bytes::from_static(b"no gzip");
    assert!(text(&request, false).ends_with("    no gzip\n"));
    request.body = gzipped(&vec![b' '; MAX_UNPACKED_BYTES as usize + 1]);
    assert!(text(&request, false).starts_with(" ✓ POST /hooks"));
}

#[test]
fn shows_the_query_of_a_request_without_a_body() {
    let mut request = received("");
    request.method = Method::GET;
    request.path = "/hooks?event=person.created&data=%7B%22id%22%3A7%7D&x=%1B".into();
    assert_eq!(
        text(&request, false),
        " ✓ GET /hooks  evt_1\n    event  person.created\n    data  {\"id\":7}\n    x  \\u{1b}\n"
    );
}

//! The harness's own parts do what tests rely on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use crate::harness::{Answer, Counters, Database, Receiver, TpcB};

const SOON: Duration = Duration::from_secs(20);

fn post(receiver: &Receiver, path: &str, body: &str) -> std::io::Result<String> {
    let url = receiver.url(path);
    let address = url.trim_start_matches("http://").trim_end_matches(path);
    let mut stream = TcpStream::connect(address)?;
    let len = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}"
    )?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_records_and_answers_as_told() {
    let receiver = Receiver::start().await;
    assert!(post(&receiver, "/a", "one").unwrap().starts_with("HTTP/1.1 200 "));
    receiver.answer(|request| match request.body.as_slice() {
        b"two" => Answer::After(Duration::from_millis(1), Box::new(Answer::Status(503))),
        b"three" => Answer::Raw(b"nonsense".to_vec()),
        _ => Answer::Reset,
    });
    assert!(post(&receiver, "/b", "two").unwrap().starts_with("HTTP/1.1 503 "));
    assert_eq!(post(&receiver, "/b", "three").unwrap(), "nonsense");
    assert!(post(&receiver, "/b", "four").is_err());

    let requests = receiver.wait_for(4, SOON).await;
    let bodies: Vec<_> = requests.iter().map(|request| request.body.as_slice()).collect();
    assert_eq!(bodies, [&b"one"[..], b"two", b"three", b"four"]);
    assert_eq!(receiver.requests_to("/b").len(), 3);

    receiver.down().await;
    assert!(post(&receiver, "/a", "five").is_err());
    receiver.up();
    receiver.answer(|_| Answer::Status(200));
    assert!(post(&receiver, "/a", "six").unwrap().starts_with("HTTP/1.1 200 "));
    assert_eq!(receiver.count(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loads_do_what_they_say() {
    let database = Arc::new(Database::create().await);
    Counters::create_table(&database).await;
    let counters = Counters::start(&database, 2);
    counters.commits_more(50).await;
    counters.stop().await;
    assert!(Counters::events_due(&database).await >= 50);

    let load = TpcB { scale: 1 };
    load.create_tables(&database).await;
    load.fill(&database).await;
    load.run(&database, 2, 20).await;
    let client = database.client().await;
    assert!(TpcB::content(&client, "pgbench_history").await.len() > 20);
}

//! What requests look like.

use std::io::Read as _;

use super::*;

fn standard() -> Vec<Signer> {
    let secret = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    vec![Signer::new(Scheme::Standard, &[secret]).unwrap()]
}

fn verify(options: &EndpointOptions, received: &crate::delivery::receiver::Received) {
    let now_ms = unix_ms(SystemTime::now());
    for signer in &options.signers {
        signer.verify(&received.headers, &received.body, now_ms, Some(DEFAULT_TOLERANCE)).unwrap();
    }
}

fn with_body(body: &str) -> Parcel {
    let mut parcel = parcel(1);
    parcel.events[0].event.body = Bytes::from(body.to_owned());
    parcel
}

#[tokio::test]
async fn every_method_with_a_body_carries_the_event() {
    let receiver = Receiver::start(|_| answer(200)).await;
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        let mut options =
            EndpointOptions { method, signers: standard(), ..options(receiver.url()) };
        options.url.set_query(Some("token=a%20b"));
        assert_eq!(one(options.clone()).await.verdict, Verdict::Succeeded);
        let received = receiver.received().pop().unwrap();
        assert_eq!(received.method, options.method);
        assert_eq!(received.target, "/hooks?token=a%20b");
        assert_eq!(received.body, event().body);
        assert_eq!(received.header("content-type"), "application/json");
        assert_eq!(received.header("webhook-sequence"), "7");
        assert_eq!(received.header("content-encoding"), "");
        verify(&options, &received);
    }
}

#[tokio::test]
async fn get_puts_the_members_of_the_event_into_the_query() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let mut options =
        EndpointOptions { method: Method::GET, signers: standard(), ..options(receiver.url()) };
    options.url.set_query(Some("token=1"));
    let sender = Sender::new(&options).unwrap();
    let body = r#" {"z":"é & \"ü\"", "a b":12345678901234567890.10, "n":null,
        "data":{"id": 1,"x":[true]}, "empty":""} "#;
    assert_eq!(sender.attempt(&with_body(body)).await.verdict, Verdict::Succeeded);
    let received = receiver.received().pop().unwrap();
    assert_eq!(received.method, Method::GET);
    assert!(received.body.is_empty());
    assert_eq!(received.header("content-type"), "");
    assert_eq!(received.header("content-length"), "");
    let url: Url = format!("http://x{}", received.target).parse().unwrap();
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let expected = [
        ("token", "1"),
        ("z", "é & \"ü\""),
        ("a b", "12345678901234567890.10"),
        ("n", "null"),
        ("data", r#"{"id": 1,"x":[true]}"#),
        ("empty", ""),
    ];
    assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    verify(&options, &received);
}

#[tokio::test]
async fn what_no_query_can_hold_is_a_failure_without_a_request() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let options = EndpointOptions { method: Method::GET, ..options(receiver.url()) };
    let sender = Sender::new(&options).unwrap();
    let long = format!(r#"{{"data":"{}"}}"#, "x".repeat(8_000));
    let huge = format!(r#"{{"data":"{}"}}"#, "x".repeat(100_000));
    for (body, text) in [
        (long.as_str(), "8000"),
        (&huge, "8000"),
        ("[1]", "JSON object"),
        ("7", "JSON object"),
        ("{\"a\":", "JSON object"),
        ("{} {}", "JSON object"),
    ] {
        let attempt = sender.attempt(&with_body(body)).await;
        assert_eq!(attempt.verdict, Verdict::Retry { after: None });
        assert_eq!((attempt.host, attempt.record.status), (HostAnswer::None, None));
        assert_eq!(attempt.record.failed_events, 1);
        let error = error(&attempt);
        assert!(error.contains(text) && error.starts_with("no request was made"), "{error}");
    }
    let fits = format!(r#"{{"data":"{}"}}"#, "x".repeat(7_900));
    assert_eq!(sender.attempt(&with_body(&fits)).await.verdict, Verdict::Succeeded);
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn bodies_are_compressed_where_it_is_worth_it_and_signed_as_sent() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let options =
        EndpointOptions { compress: true, signers: standard(), ..options(receiver.url()) };
    let sender = Sender::new(&options).unwrap();
    for (length, compressed) in [(20, false), (1_100, true), (300_000, true)] {
        let body = format!(r#"{{"data":"{}"}}"#, "walhook ".repeat(length / 8));
        assert_eq!(sender.attempt(&with_body(&body)).await.verdict, Verdict::Succeeded);
        let received = receiver.received().pop().unwrap();
        verify(&options, &received);
        assert_eq!(received.header("content-type"), "application/json");
        let mut unpacked = String::new();
        if compressed {
            assert_eq!(received.header("content-encoding"), "gzip");
            assert!(received.body.len() < body.len() / 4);
            let mut decoder = flate2::read::GzDecoder::new(&received.body[..]);
            decoder.read_to_string(&mut unpacked).unwrap();
        } else {
            assert_eq!(received.header("content-encoding"), "");
            unpacked = received.json().to_string();
        }
        assert_eq!(unpacked, body);
    }
}

#[tokio::test]
async fn a_batch_is_an_array_with_an_id_of_its_own() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let mut options = EndpointOptions { signers: standard(), ..options(receiver.url()) };
    options.batch.max_events = 10;
    let sender = Sender::new(&options).unwrap();
    let mut parcel = batch(5);
    parcel.events.remove(2);
    parcel.events[0].sequence = 0;
    for _ in 0..2 {
        let attempt = sender.attempt(&parcel).await;
        assert_eq!(attempt.verdict, Verdict::Succeeded);
        assert_eq!(attempt.record.seq, Seq(1));
        assert_eq!(attempt.record.others, [Seq(2), Seq(4), Seq(5)]);
    }
    parcel.events.truncate(1);
    sender.attempt(&parcel).await;
    let received = receiver.received();
    for request in &received {
        verify(&options, request);
        let id = request.header("webhook-id");
        assert!(id.starts_with("batch_") && !id.contains('.'), "{id}");
        assert_eq!(request.header("webhook-attempt"), "2");
    }
    assert_eq!(received[0].json().as_array().map(Vec::len), Some(4));
    assert_eq!(received[0].header("webhook-sequence"), "2,4-5");
    assert_eq!(received[0].header("webhook-id"), received[1].header("webhook-id"));
    assert_eq!(received[2].json().as_array().map(Vec::len), Some(1), "an array of one");
    assert_ne!(received[0].header("webhook-id"), received[2].header("webhook-id"));
    assert!(!received[2].headers.contains_key("webhook-sequence"), "it has none");
}

#[tokio::test]
async fn headers_of_the_configuration_go_before_walhooks_defaults() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let mut options = options(receiver.url());
    let own = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
    options.headers = vec![own("content-type", "application/vnd.x+json"), own("user-agent", "us")];
    one(options).await;
    let received = &receiver.received()[0];
    assert_eq!(received.header("content-type"), "application/vnd.x+json");
    assert_eq!(received.header("user-agent"), "us");
    assert_eq!(received.headers.get_all("content-type").iter().count(), 1);
}

//! What receivers may answer to several events at once.

use super::*;

/// What an answer with this status and body comes to, for five events.
async fn answered(status: u16, body: String) -> Attempt {
    let receiver = Receiver::start(move |_| {
        let mut answer = answer(status);
        *answer.body_mut() = Full::from(body.clone());
        answer
    })
    .await;
    attempt(receiver.url(), LONG).await
}

async fn attempt(url: Url, timeout: Duration) -> Attempt {
    let mut options = EndpointOptions { timeout, ..options(url) };
    options.batch.max_events = 5;
    Sender::new(&options).unwrap().attempt(&batch(5)).await
}

fn id(number: u8) -> EventId {
    numbered(number).event.id
}

#[tokio::test]
async fn events_that_are_named_come_again() {
    let unknown = id(77);
    let body =
        format!(r#" {{"ok":false, "failed":["{}","{}","{unknown}","evt_x",3]}} "#, id(4), id(2));
    let attempt = answered(200, body).await;
    assert_eq!(attempt.verdict, Verdict::Partly { failed: vec![id(2), id(4)] });
    assert_eq!(attempt.record.failed_events, 2);
    assert!(error(&attempt).contains("2 of 5"), "{}", error(&attempt));
    assert!(attempt.record.head.is_some() && attempt.record.response.is_some());
    assert_eq!(attempt.host, HostAnswer::Alive);

    let all: Vec<String> = (1..=5).map(|number| id(number).to_string()).collect();
    let attempt = answered(202, serde_json::json!({ "failed": all }).to_string()).await;
    assert_eq!(attempt.verdict, Verdict::Retry { after: None });
    assert_eq!(attempt.record.failed_events, 5);
}

#[tokio::test]
async fn any_other_answer_with_2xx_is_a_success() {
    for body in [
        String::new(),
        "ok".into(),
        "{}".into(),
        "[]".into(),
        r#"{"failed":[]}"#.into(),
        r#"{"failed":false}"#.into(),
        r#"{"failed":0,"ok":5}"#.into(),
        format!(r#"{{"failed":["{}"]}}"#, id(77)),
        format!(r#"{{"failed":["{}"]"#, id(1)),
        format!(r#"["{}"]"#, id(1)),
        "x".repeat(1_000_000),
        format!("{{\"{}", "x".repeat(1_000_000)),
    ] {
        let attempt = answered(200, body.clone()).await;
        assert_eq!(attempt.verdict, Verdict::Succeeded, "{}", &body[..body.len().min(60)]);
        assert!(attempt.record.succeeded() && attempt.record.failed_events == 0);
    }
}

#[tokio::test]
async fn a_list_is_read_to_its_end() {
    // Longer than what is read of any other answer.
    let many: Vec<String> = (0..200).map(|_| id(3).to_string()).collect();
    let body = serde_json::json!({ "failed": many }).to_string();
    assert!(body.len() > 4_096 + 5 * 64);
    let attempt = answered(200, body).await;
    assert_eq!(attempt.verdict, Verdict::Retry { after: None }, "nobody names 200 of 5");
    assert!(error(&attempt).contains("broke off"), "{}", error(&attempt));

    let mut options = options("http://127.0.0.1/".parse().unwrap());
    options.batch.max_events = 255;
    let failed: Vec<EventId> = (1..=250).map(id).collect();
    let body = serde_json::json!({
        "failed": failed.iter().map(ToString::to_string).collect::<Vec<_>>()
    });
    let body = body.to_string();
    assert!(body.len() > 8_192);
    let receiver = Receiver::start(move |_| {
        let mut answer = answer(200);
        *answer.body_mut() = Full::from(body.clone());
        answer
    })
    .await;
    options.url = receiver.url();
    let attempt = Sender::new(&options).unwrap().attempt(&batch(255)).await;
    assert_eq!(attempt.verdict, Verdict::Partly { failed });
}

#[tokio::test]
async fn a_list_that_breaks_off_fails_all_of_them() {
    let cut: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{\"failed\":[\"evt_";
    for behaviour in [Raw::Write(cut), Raw::Drip(cut)] {
        let (url, task) = raw_receiver(behaviour).await;
        let attempt = attempt(url, Duration::from_secs(3)).await;
        task.abort();
        assert_eq!(attempt.verdict, Verdict::Retry { after: None });
        assert_eq!((attempt.record.status, attempt.record.failed_events), (Some(200), 5));
        assert!(error(&attempt).contains("broke off"), "{}", error(&attempt));
    }
    let other: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{\"ok\":";
    for behaviour in [Raw::Write(other), Raw::Drip(other)] {
        let (url, task) = raw_receiver(behaviour).await;
        let attempt = attempt(url, Duration::from_secs(3)).await;
        task.abort();
        assert_eq!(attempt.verdict, Verdict::Succeeded, "the answer need not end");
    }
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_split() {
    let attempt = answered(413, "too large".into()).await;
    assert_eq!(attempt.verdict, Verdict::Split);
    assert_eq!((attempt.record.failed_events, attempt.host), (5, HostAnswer::Alive));
    assert!(error(&attempt).contains("smaller requests"), "{}", error(&attempt));
    let receiver = Receiver::start(|_| answer(413)).await;
    let mut options = options(receiver.url());
    options.batch.max_events = 5;
    let alone = Sender::new(&options).unwrap().attempt(&batch(1)).await;
    assert_eq!(alone.verdict, Verdict::Retry { after: None }, "one cannot be split");
}

#[tokio::test]
async fn whoever_fails_some_and_wants_no_more_gets_them_again_one_day() {
    let body = format!(r#"{{"failed":["{}"]}}"#, id(1));
    let receiver = Receiver::start(move |_| {
        let mut answer = answer(200);
        answer.headers_mut().insert("webhook-delivery", "disable".parse().unwrap());
        *answer.body_mut() = Full::from(body.clone());
        answer
    })
    .await;
    let attempt = attempt(receiver.url(), LONG).await;
    assert_eq!(attempt.verdict, Verdict::Disable { delivered: false });
}

#[tokio::test]
async fn a_single_events_answer_is_never_a_list() {
    let receiver = Receiver::start(|_| {
        let mut answer = answer(200);
        *answer.body_mut() = Full::from(format!(r#"{{"failed":["{}"]}}"#, event().id));
        answer
    })
    .await;
    assert_eq!(one(options(receiver.url())).await.verdict, Verdict::Succeeded);
}

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use secrecy::SecretString;

use super::*;
use crate::delivery::receiver::{Raw, Receiver, answer, raw_receiver};
use crate::delivery::signature::{DEFAULT_TOLERANCE, Scheme};
use crate::event::Lanes;
use crate::event::id::TransactionTag;

mod batches;
mod connections;
mod network;
mod requests;
mod tls;
mod unasked;

fn event() -> StoredEvent {
    numbered(7).event
}

/// The event with that number in the journal, and in the sequence.
fn numbered(number: u8) -> Numbered {
    let tag = TransactionTag::new("test", 1, 1, 1, 1);
    let event = StoredEvent {
        seq: Seq(number.into()),
        id: EventId::new(u64::from(number), 0, tag),
        name: Arc::from("person.created"),
        lanes: Lanes::one(1),
        committed_at_us: 0,
        body: Bytes::from_static(br#"{"event":"person.created"}"#),
    };
    Numbered { event, sequence: number.into() }
}

fn parcel(number: u32) -> Parcel {
    Parcel { events: vec![numbered(7)], number }
}

/// Events 1 to `count`.
fn batch(count: u8) -> Parcel {
    Parcel { events: (1..=count).map(numbered).collect(), number: 2 }
}

fn options(url: Url) -> EndpointOptions {
    let mut options = EndpointOptions::new("test", url);
    options.networks.private = true;
    options.connect_timeout = Duration::from_secs(60);
    options.timeout = Duration::from_secs(60);
    options
}

async fn one(options: EndpointOptions) -> Attempt {
    Sender::new(&options).unwrap().attempt(&parcel(3)).await
}

async fn raw(behaviour: Raw, timeout: Duration) -> Attempt {
    let (url, task) = raw_receiver(behaviour).await;
    let attempt = one(EndpointOptions { timeout, ..options(url) }).await;
    task.abort();
    attempt
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

fn error(attempt: &Attempt) -> &str {
    attempt.record.error.as_deref().unwrap_or_default()
}

#[tokio::test]
async fn request_is_signed_and_carries_what_it_must() {
    let receiver = Receiver::start(|_| answer(204)).await;
    let standard = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let signers = vec![
        Signer::new(Scheme::Standard, &[standard]).unwrap(),
        Signer::new(Scheme::Twenty, &[SecretString::from("secret")]).unwrap(),
    ];
    let mut options = options(receiver.url());
    options.url.set_username("us%65r").unwrap();
    options.url.set_password(Some("p:w")).unwrap();
    options.signers = signers.clone();
    let header = HeaderName::from_static("x-tenant");
    options.headers = vec![(header, HeaderValue::from_static("7"))];
    let attempt = one(options).await;
    assert_eq!(attempt.verdict, Verdict::Succeeded);
    let record = &attempt.record;
    assert_eq!((record.seq, record.attempt, record.status), (Seq(7), 3, Some(204)));
    assert!(record.succeeded() && record.response.is_none() && record.duration_us > 0);
    let received = &receiver.received()[0];
    assert_eq!(received.header("user-agent"), concat!("walhook/", env!("CARGO_PKG_VERSION")));
    assert_eq!(received.header("content-type"), "application/json");
    assert_eq!(received.header("webhook-id"), event().id.to_string());
    assert_eq!(received.header("webhook-attempt"), "3");
    assert_eq!(received.header("x-tenant"), "7");
    assert_eq!(received.header("authorization"), "Basic dXNlcjpwOnc=");
    assert_eq!(received.header("accept-encoding"), "");
    assert_eq!(received.body, event().body);
    let now_ms = unix_ms(SystemTime::now());
    for signer in signers {
        signer.verify(&received.headers, &received.body, now_ms, Some(DEFAULT_TOLERANCE)).unwrap();
    }
}

#[tokio::test]
async fn every_status_has_its_meaning() {
    let retry = |seconds: Option<u64>| Verdict::Retry { after: seconds.map(Duration::from_secs) };
    let cases = [
        (200, None, Verdict::Succeeded, ""),
        (299, None, Verdict::Succeeded, ""),
        (301, None, retry(None), "never followed"),
        (308, None, retry(None), "never followed"),
        (400, Some("5"), retry(None), "400 Bad Request"),
        (401, None, retry(None), "secret"),
        (410, None, Verdict::Disable { delivered: false }, "enables it again"),
        (413, None, retry(None), "limit"),
        (429, Some("7"), retry(Some(7)), "429"),
        (500, None, retry(None), "500 Internal Server Error"),
        (503, Some("99999999999999999999999"), retry(Some(86_400)), "503"),
        (503, Some("Fri, 31 Dec 9999 23:59:59 GMT"), retry(Some(86_400)), "503"),
        (503, Some("Thu, 01 Jan 1970 00:00:00 GMT"), retry(Some(0)), "503"),
        (503, Some("soon"), retry(None), "503"),
        (503, Some("-1"), retry(None), "503"),
        (799, None, retry(None), "799"),
    ];
    for (status, retry_after, verdict, text) in cases {
        let receiver = Receiver::start(move |_| {
            let mut answer = answer(status);
            if let Some(value) = retry_after {
                answer.headers_mut().insert("retry-after", value.parse().unwrap());
            }
            answer.headers_mut().insert("location", "/elsewhere".parse().unwrap());
            answer
        })
        .await;
        let attempt = one(options(receiver.url())).await;
        assert_eq!(attempt.verdict, verdict, "{status} {retry_after:?}");
        assert_eq!(attempt.record.status, Some(status));
        assert_eq!(attempt.record.succeeded(), verdict == Verdict::Succeeded);
        assert!(error(&attempt).contains(text), "{}", error(&attempt));
        assert_eq!(receiver.count(), 1, "{status} is asked once");
    }
}

#[tokio::test]
async fn only_the_beginning_of_a_failures_body_is_kept() {
    let receiver = Receiver::start(|_| {
        let mut answer = answer(500);
        // Every byte is worth three as a replacement character.
        *answer.body_mut() = Full::from(vec![0xFF; 100_000]);
        answer
    })
    .await;
    let attempt = one(options(receiver.url())).await;
    assert_eq!(attempt.host, HostAnswer::Failing);
    let response = attempt.record.response.unwrap();
    assert!((4_000..=4_096).contains(&response.len()), "{}", response.len());
    assert!(std::str::from_utf8(&response).is_ok());
}

/// What an answer with this status and these headers comes to.
async fn answering(status: u16, headers: &'static [(&'static str, &'static str)]) -> Attempt {
    let receiver = Receiver::start(move |_| {
        let mut answer = answer(status);
        for (name, value) in headers {
            answer.headers_mut().append(*name, value.parse().unwrap());
        }
        answer
    })
    .await;
    one(options(receiver.url())).await
}

#[tokio::test]
async fn receivers_steer() {
    let wish = |attempt: &Attempt| (attempt.verdict.clone(), attempt.record.succeeded());
    let disabled = |delivered| Verdict::Disable { delivered };
    let retry = Verdict::Retry { after: None };
    let attempt = answering(500, &[("webhook-delivery", "disable")]).await;
    assert_eq!(wish(&attempt), (disabled(false), false));
    assert!(error(&attempt).contains("webhook-delivery: disable"), "{}", error(&attempt));
    let attempt = answering(200, &[("webhook-delivery", " Disable ")]).await;
    assert_eq!(wish(&attempt), (disabled(true), true));
    let attempt = answering(400, &[("webhook-delivery", "abort-message")]).await;
    assert_eq!(wish(&attempt), (Verdict::Abort, false));
    assert!(error(&attempt).contains("abort-message"), "{}", error(&attempt));
    let attempt = answering(200, &[("webhook-delivery", "abort-message")]).await;
    assert_eq!(wish(&attempt), (Verdict::Succeeded, true));
    let attempt = answering(400, &[("webhook-delivery", "faster")]).await;
    assert_eq!(wish(&attempt), (retry, false));

    let attempt = answering(429, &[("retry-after", "7")]).await;
    assert!(error(&attempt).contains("alone for 7 s"), "{}", error(&attempt));
    assert!(attempt.steering.throttle && attempt.host == HostAnswer::Failing);
    let limits = &[("x-rate-limit-remaining", "3"), ("x-rate-limit-reset", "9")];
    let attempt = answering(200, limits).await;
    let allowance = Allowance { remaining: 3, reset: Duration::from_secs(9) };
    assert_eq!(attempt.steering, Steering { throttle: false, allowance: Some(allowance) });
    assert_eq!(attempt.host, HostAnswer::Alive);
}

#[tokio::test]
async fn the_head_of_a_failure_is_kept_without_what_is_secret() {
    let attempt = answering(
        404,
        &[
            ("x-request-id", "r-1"),
            ("set-cookie", "session=hush"),
            ("set-cookie", "other=hush"),
            ("authorization", "hush"),
            ("x-api-key", "hush"),
            ("x-csrf-token", "hush"),
        ],
    )
    .await;
    let head = attempt.record.head.unwrap();
    assert!(head.starts_with("HTTP/1.1 404 Not Found\n"), "{head}");
    assert!(head.contains("\nx-request-id: r-1"), "{head}");
    assert!(head.contains("\nset-cookie: (redacted)") && !head.contains("hush"), "{head}");
    assert_eq!(attempt.host, HostAnswer::Alive);
    assert_eq!(answering(200, &[("x", "y")]).await.record.head, None);

    let receiver = Receiver::start(|_| {
        let mut answer = answer(500);
        for _ in 0..50 {
            let value = HeaderValue::from_bytes("\u{e9}".repeat(100).as_bytes()).unwrap();
            answer.headers_mut().append("x-long", value);
        }
        answer
    })
    .await;
    let head = one(options(receiver.url())).await.record.head.unwrap();
    assert!((4_000..=4_096).contains(&head.len()), "{}", head.len());
}

#[tokio::test]
async fn bombs_are_not_unpacked() {
    let receiver = Receiver::start(|_| {
        let mut answer = answer(500);
        answer.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut bomb, &vec![0; 10_000_000]).unwrap();
        *answer.body_mut() = Full::from(bomb.finish().unwrap());
        answer
    })
    .await;
    let attempt = one(options(receiver.url())).await;
    assert_eq!(attempt.record.status, Some(500));
    let response = attempt.record.response.unwrap();
    assert!(response.len() <= 4_096 && response.starts_with(b"\x1f"), "{}", response.len());
}

/// The sender takes what the sockets hold, and no more.
#[tokio::test]
async fn endless_answers_are_left_after_their_beginning() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    for status in [200, 500] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: 4000000000\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut sent = 0;
            while stream.write_all(&[b'x'; 65_536]).await.is_ok() {
                sent += 65_536;
            }
            sent
        });
        let attempt = one(EndpointOptions { timeout: LONG, ..options(url) }).await;
        assert_eq!(attempt.record.status, Some(status));
        let sent = tokio::time::timeout(LONG, server).await.expect("the connection stays").unwrap();
        assert!(sent < 32 << 20, "took {sent} bytes");
    }
}

#[tokio::test]
async fn gigabytes_and_drops_after_a_success_change_nothing() {
    let huge: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4000000000\r\n\r\n";
    let started = Instant::now();
    let attempt = raw(Raw::Flood(huge, &[b'x'; 65_536]), LONG).await;
    assert_eq!(attempt.verdict, Verdict::Succeeded);
    let attempt = raw(Raw::Drip(huge), LONG).await;
    assert_eq!(attempt.verdict, Verdict::Succeeded, "the answer need not end");
    assert!(started.elapsed() < Duration::from_secs(10));
    let attempt = raw(Raw::Write(huge), LONG).await;
    assert_eq!(attempt.verdict, Verdict::Succeeded, "the connection may drop after the status");
    let failed: &[u8] = b"HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\nffff\r\n";
    let attempt = raw(Raw::Flood(failed, &[b'x'; 65_536]), LONG).await;
    assert_eq!(attempt.record.status, Some(500));
    assert_eq!(attempt.record.response.as_deref().map(<[u8]>::len), Some(4_096));
}

#[tokio::test]
async fn whoever_does_not_speak_http_is_tried_again() {
    let reads: [&[u8]; 6] = [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\0\xFF\xFE garbage \r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbroken header\r\n\r\n",
        b"",
    ];
    for bytes in reads {
        let attempt = raw(Raw::Write(bytes), LONG).await;
        assert_eq!(attempt.verdict, Verdict::Retry { after: None }, "{bytes:?}");
        assert_eq!(attempt.record.status, None);
        assert!(!error(&attempt).is_empty() && !error(&attempt).contains("http://"));
    }
    let attempt = raw(Raw::Reset, LONG).await;
    assert_eq!(attempt.verdict, Verdict::Retry { after: None });
    let attempt = raw(Raw::Flood(b"HTTP/1.1 200 OK\r\nx: ", &[b'h'; 65_536]), LONG).await;
    assert_eq!(attempt.verdict, Verdict::Retry { after: None }, "an endless header");
}

#[tokio::test]
async fn nobody_keeps_it_longer_than_the_timeout() {
    for behaviour in [
        Raw::Silence,
        Raw::Drip(b"HTTP/1.1 200 OK\r\nx-slow: "),
        Raw::Flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        Raw::Flood(b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
    ] {
        let started = Instant::now();
        let attempt = raw(behaviour, SHORT).await;
        assert_eq!(attempt.verdict, Verdict::Retry { after: None });
        assert!(started.elapsed() < Duration::from_secs(5));
    }
    // Long enough that the head and something of the body have come by then.
    let dripping = Raw::Drip(b"HTTP/1.1 500 No\r\ncontent-length: 99\r\n\r\n");
    let attempt = raw(dripping, Duration::from_secs(3)).await;
    assert_eq!(attempt.record.status, Some(500), "the status stands");
    assert!(attempt.record.response.is_some_and(|response| response.starts_with(b"x")));
}

#[tokio::test]
async fn unreachable_hosts_are_tried_again_and_said_plainly() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let attempt = one(options(format!("http://{closed}/?token=hush").parse().unwrap())).await;
    assert_eq!(attempt.verdict, Verdict::Retry { after: None });
    assert!(error(&attempt).contains("could not connect"), "{}", error(&attempt));
    assert!(!error(&attempt).contains("hush"));
    let attempt = one(options("http://nowhere.invalid/".parse().unwrap())).await;
    assert_eq!(attempt.verdict, Verdict::Retry { after: None });
    assert!(error(&attempt).contains("cannot be resolved"), "{}", error(&attempt));
}

#[test]
fn urls_that_cannot_work_are_refused() {
    for (url, text) in [("ftp://example.com/", "http://"), ("mailto:a@example.com", "http://")] {
        let error = Sender::new(&options(url.parse().unwrap())).err().unwrap().to_string();
        assert!(error.contains(text), "{error}");
    }
    let mut hidden = options("http://user:hush@example.com/?key=hush".parse().unwrap());
    hidden.headers = vec![(AUTHORIZATION, HeaderValue::from_static("hush"))];
    assert!(!format!("{hidden:?}").contains("hush"));
}

use std::sync::Arc;

use http_body_util::Full;
use secrecy::SecretString;

use super::*;
use crate::delivery::client::install_crypto_provider;
use crate::delivery::receiver::{Raw, Receiver, answer, raw_receiver};
use crate::delivery::signature::{DEFAULT_TOLERANCE, Scheme};
use crate::event::id::TransactionTag;
use crate::event::{EventId, Lanes};
use crate::journal::Seq;

fn event() -> StoredEvent {
    let tag = TransactionTag::new("test", 1, 1, 1, 1);
    StoredEvent {
        seq: Seq(7),
        id: EventId::new(1, 0, tag),
        name: Arc::from("person.created"),
        lanes: Lanes::one(1),
        committed_at_us: 0,
        body: Bytes::from_static(br#"{"event":"person.created"}"#),
    }
}

fn parcel(number: u32) -> Parcel {
    Parcel { events: vec![Numbered { event: event(), sequence: 1 }], number }
}

fn options(url: Url) -> EndpointOptions {
    let mut options = EndpointOptions::new("test", url);
    options.networks.private = true;
    options.timeout = Duration::from_secs(10);
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
        (410, None, Verdict::Disable { delivered: false }, "enabled again"),
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
    let response = attempt.record.response.unwrap();
    assert!((4_000..=4_096).contains(&response.len()), "{}", response.len());
    assert!(std::str::from_utf8(&response).is_ok());
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
    let started = Instant::now();
    let attempt = raw(Raw::Drip(b"HTTP/1.1 500 No\r\ncontent-length: 99\r\n\r\n"), SHORT).await;
    assert_eq!(attempt.record.status, Some(500), "the status stands");
    assert!(attempt.record.response.is_some_and(|response| response.starts_with(b"x")));
    assert!(started.elapsed() < Duration::from_secs(5));
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

#[tokio::test]
async fn private_addresses_need_permission() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let mut options = options(receiver.url());
    options.networks.private = false;
    let refused = Sender::new(&options).err().unwrap();
    assert!(refused.is_configuration());
    assert!(refused.to_string().contains("allow_private_network"), "{refused}");
    options.url.set_host(Some("localhost")).unwrap();
    let attempt = one(options).await;
    assert_eq!(attempt.verdict, Verdict::Retry { after: None });
    assert!(error(&attempt).contains("allow_private_network"), "{}", error(&attempt));
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn connections_are_used_again() {
    use std::sync::Mutex;
    let ports = Arc::new(Mutex::new(Vec::new()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let seen = Arc::clone(&ports);
    let task = tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            seen.lock().unwrap().push(peer);
            let service = hyper::service::service_fn(|_| async {
                let body = Full::new(Bytes::from_static(b"thanks"));
                Ok::<_, std::convert::Infallible>(hyper::Response::new(body))
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(io, service));
        }
    });
    let sender = Sender::new(&options(url)).unwrap();
    for number in 1..=5 {
        assert_eq!(sender.attempt(&parcel(number)).await.verdict, Verdict::Succeeded);
    }
    assert_eq!(ports.lock().unwrap().len(), 1);
    task.abort();
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

#[tokio::test]
async fn a_certificate_nobody_vouches_for_is_refused() {
    install_crypto_provider();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    let attempt = one(options(format!("https://localhost:{port}/").parse().unwrap())).await;
    assert_eq!(attempt.verdict, Verdict::Retry { after: None });
    assert!(error(&attempt).contains("certificate"), "{}", error(&attempt));
    task.abort();
}

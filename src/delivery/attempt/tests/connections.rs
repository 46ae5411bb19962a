//! Connections that are kept, shared, lost and closed.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::*;

/// Returns once everything that came in over the network before has been noticed.
pub(super) async fn network_is_seen() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::try_join!(TcpStream::connect(address), listener.accept()).unwrap();
}

/// Answers one request of a connection, and keeps that open.
async fn answer_once(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    stream
}

async fn listen() -> (TcpListener, EndpointOptions) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    (listener, options(url))
}

#[tokio::test]
async fn connections_that_were_closed_meanwhile_cost_no_attempt() {
    let (listener, options) = listen().await;
    let (closed, mut closings) = mpsc::channel(1);
    let server = tokio::spawn(async move {
        for goodbye in [&b""[..], b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n"] {
            let mut stream = answer_once(&listener).await;
            stream.write_all(goodbye).await.unwrap();
            drop(stream);
            closed.send(()).await.unwrap();
        }
        answer_once(&listener).await
    });
    let sender = Sender::new(&options).unwrap();
    for number in 1..=3 {
        let attempt = sender.attempt(&parcel(number)).await;
        assert_eq!(attempt.verdict, Verdict::Succeeded, "{number}: {}", error(&attempt));
        if number < 3 {
            closings.recv().await.unwrap();
            network_is_seen().await;
        }
    }
    server.await.unwrap();
}

#[tokio::test]
async fn idle_connections_are_closed_after_a_while() {
    let (listener, options) = listen().await;
    let server = tokio::spawn(async move { answer_once(&listener).await });
    let sender = Sender::new(&options).unwrap();
    assert_eq!(sender.attempt(&parcel(1)).await.verdict, Verdict::Succeeded);
    let started = Instant::now();
    let mut stream = server.await.unwrap();
    let read = tokio::time::timeout(LONG, stream.read(&mut [0; 64])).await;
    assert_eq!(read.expect("it stays open").unwrap(), 0);
    assert!(started.elapsed() > Duration::from_secs(3), "it could have been used again");
}

#[tokio::test]
async fn nothing_stays_open_when_the_sender_goes() {
    let (listener, options) = listen().await;
    let server = tokio::spawn(async move { answer_once(&listener).await });
    let sender = Sender::new(&options).unwrap();
    assert_eq!(sender.attempt(&parcel(1)).await.verdict, Verdict::Succeeded);
    drop(sender);
    let started = Instant::now();
    let mut stream = server.await.unwrap();
    assert_eq!(stream.read(&mut [0; 64]).await.unwrap(), 0);
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn an_attempt_that_is_given_up_closes_its_connection() {
    let (listener, options) = listen().await;
    let (arrived, arrival) = oneshot::channel();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        arrived.send(()).unwrap();
        while stream.read(&mut [0; 4096]).await.unwrap() > 0 {}
    });
    let sender = Sender::new(&options).unwrap();
    let parcel = parcel(1);
    tokio::select! {
        _ = sender.attempt(&parcel) => panic!("nobody answers"),
        arrived = arrival => arrived.unwrap(),
    }
    tokio::time::timeout(LONG, server).await.expect("the connection stays").unwrap();
}

#[tokio::test]
async fn an_answer_of_several_pieces_leaves_the_connection_usable() {
    let (listener, options) = listen().await;
    let answered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answered);
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        while stream.read(&mut [0; 4096]).await.unwrap() > 0 {
            let pieces = [
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n",
                "\r\n3\r\nyes\r",
                "\n0\r\n",
                "\r\n",
            ];
            for piece in pieces {
                stream.write_all(piece.as_bytes()).await.unwrap();
                network_is_seen().await;
            }
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let sender = Sender::new(&options).unwrap();
    for number in 1..=3 {
        assert_eq!(sender.attempt(&parcel(number)).await.verdict, Verdict::Succeeded);
    }
    drop(sender);
    server.await.unwrap();
    assert_eq!(answered.load(Ordering::SeqCst), 3, "on one connection");
}

#[tokio::test]
async fn requests_name_host_and_length() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let mut options = options(receiver.url());
    let mut empty = parcel(1);
    empty.events[0].event.body = Bytes::new();
    Sender::new(&options).unwrap().attempt(&empty).await;
    let host = HeaderName::from_static("host");
    options.headers = vec![(host, HeaderValue::from_static("virtual.example"))];
    one(options).await;
    let received = receiver.received();
    let port = receiver.url().port().unwrap();
    assert_eq!(received[0].header("host"), format!("127.0.0.1:{port}"));
    assert_eq!(received[0].header("content-length"), "0");
    assert_eq!(received[1].header("host"), "virtual.example");
    assert_eq!(received[1].header("content-length"), event().body.len().to_string());
}

#[tokio::test]
async fn addresses_of_both_families_can_be_hosts() {
    // Not every system has it.
    let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let attempt = one(options(format!("http://{address}/a?b=c").parse().unwrap())).await;
    assert_eq!(attempt.verdict, Verdict::Succeeded, "{}", error(&attempt));
    let request = server.await.unwrap();
    assert!(request.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("\r\nhost: {address}\r\n")), "{request}");
}

/// More than the sockets of both ends hold.
const LONG_BODY_BYTES: usize = 16 << 20;

fn long_parcel() -> Parcel {
    let mut parcel = parcel(1);
    parcel.events[0].event.body = Bytes::from(vec![b'x'; LONG_BODY_BYTES]);
    parcel
}

#[tokio::test]
async fn a_request_is_sent_to_its_end_although_an_interim_answer_came() {
    let (listener, options) = listen().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </>\r\n\r\n").await.unwrap();
        network_is_seen().await;
        tokio::io::copy(&mut (&mut stream).take(LONG_BODY_BYTES as u64), &mut tokio::io::sink())
            .await
            .unwrap();
        stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0, "it is used again");
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    });
    let sender = Sender::new(&options).unwrap();
    let attempt = sender.attempt(&long_parcel()).await;
    assert_eq!(attempt.record.status, Some(202), "{}", error(&attempt));
    let attempt = sender.attempt(&parcel(1)).await;
    assert_eq!(attempt.record.status, Some(204), "{}", error(&attempt));
    server.await.unwrap();
}

#[tokio::test]
async fn an_answer_counts_that_comes_before_the_request_was_sent_whole() {
    let (listener, options) = listen().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        let answer = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        // The rest of that request is not taken for the beginning of the next one.
        answer_once(&listener).await;
        drop(stream);
    });
    let sender = Sender::new(&options).unwrap();
    let attempt = sender.attempt(&long_parcel()).await;
    assert_eq!(attempt.record.status, Some(413), "{}", error(&attempt));
    let attempt = sender.attempt(&parcel(1)).await;
    assert_eq!(attempt.record.status, Some(200), "{}", error(&attempt));
    server.await.unwrap();
}

#[tokio::test]
async fn an_answer_may_come_byte_by_byte() {
    let (listener, options) = listen().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        for _ in 0..2 {
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0, "it is used again");
            for byte in answer {
                stream.write_u8(*byte).await.unwrap();
                network_is_seen().await;
            }
        }
    });
    let sender = Sender::new(&options).unwrap();
    for number in 1..=2 {
        let attempt = sender.attempt(&parcel(number)).await;
        assert_eq!(attempt.verdict, Verdict::Succeeded, "{number}: {}", error(&attempt));
    }
    server.await.unwrap();
}

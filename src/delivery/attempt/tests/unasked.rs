//! What comes without having been asked for, or just before it is.
//!
//! The servers are threads, and the tests block the runtime while it waits for them: so what they
//! did has reached the socket, and the runtime has not been told yet.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender as Signal, channel};
use std::thread::{JoinHandle, spawn};

use super::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const FAILED: &[u8] = b"HTTP/1.1 500 Oh\r\ncontent-length: 2\r\n\r\nno";

fn listen() -> (TcpListener, EndpointOptions) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    (listener, options(url))
}

/// Answers one request. False where the connection ends instead.
fn answer_one(stream: &mut TcpStream, answer: &[u8]) -> bool {
    let mut request = [0; 4096];
    if !stream.read(&mut request).is_ok_and(|length| length > 0) {
        return false;
    }
    stream.write_all(answer).unwrap();
    true
}

/// Returns once what was sent to this machine before has arrived.
fn arrived() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    listener.accept().unwrap();
}

/// Answers a request; does something with the connection when told to; answers the next connection's
/// request with a failure.
fn server(
    listener: TcpListener,
    then: impl FnOnce(TcpStream) -> Option<TcpStream> + Send + 'static,
) -> (Signal<()>, Receiver<()>, JoinHandle<()>) {
    let (go, told) = channel::<()>();
    let (done, is_done) = channel();
    let thread = spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        assert!(answer_one(&mut first, OK));
        told.recv().unwrap();
        let first = then(first);
        arrived();
        done.send(()).unwrap();
        let (mut second, _) = listener.accept().unwrap();
        assert!(answer_one(&mut second, FAILED));
        drop(first);
    });
    (go, is_done, thread)
}

#[tokio::test]
async fn an_answer_nobody_asked_for_is_not_taken_for_that_of_the_next_request() {
    let (listener, options) = listen();
    let (go, is_done, thread) = server(listener, |mut stream| {
        stream.write_all(OK).unwrap();
        Some(stream)
    });
    let sender = Sender::new(&options).unwrap();
    assert_eq!(sender.attempt(&parcel(1)).await.verdict, Verdict::Succeeded);
    go.send(()).unwrap();
    is_done.recv().unwrap();
    let attempt = sender.attempt(&parcel(2)).await;
    assert_eq!(attempt.record.status, Some(500), "{}", error(&attempt));
    thread.join().unwrap();
}

#[tokio::test]
async fn a_connection_closed_a_moment_ago_costs_no_attempt() {
    let (listener, options) = listen();
    let (go, is_done, thread) = server(listener, |stream| {
        drop(stream);
        None
    });
    let sender = Sender::new(&options).unwrap();
    assert_eq!(sender.attempt(&parcel(1)).await.verdict, Verdict::Succeeded);
    go.send(()).unwrap();
    is_done.recv().unwrap();
    let attempt = sender.attempt(&parcel(2)).await;
    assert_eq!(attempt.record.status, Some(500), "{}", error(&attempt));
    thread.join().unwrap();
}

#[tokio::test]
async fn what_follows_an_answer_without_a_body_ends_the_connection() {
    for head in ["204 No Content", "304 Not Modified", "200 OK\r\ncontent-length: 0"] {
        let (listener, options) = listen();
        let thread = spawn(move || {
            let (mut first, _) = listener.accept().unwrap();
            let answer = format!("HTTP/1.1 {head}\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
            assert!(answer_one(&mut first, answer.as_bytes()));
            let (mut second, _) = listener.accept().unwrap();
            assert!(answer_one(&mut second, FAILED));
            assert!(!answer_one(&mut first, OK), "{head}: it was used again");
        });
        let sender = Sender::new(&options).unwrap();
        sender.attempt(&parcel(1)).await;
        assert_eq!(sender.attempt(&parcel(2)).await.record.status, Some(500), "{head}");
        thread.join().unwrap();
    }
}

#[tokio::test]
async fn switching_protocols_is_no_success() {
    let (listener, options) = listen();
    let thread = spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let answer =
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n";
        assert!(answer_one(&mut stream, answer));
        let (mut second, _) = listener.accept().unwrap();
        assert!(answer_one(&mut second, OK));
    });
    let sender = Sender::new(&options).unwrap();
    let attempt = sender.attempt(&parcel(1)).await;
    assert_eq!(attempt.verdict, Verdict::Retry { after: None });
    assert_eq!(sender.attempt(&parcel(2)).await.verdict, Verdict::Succeeded);
    thread.join().unwrap();
}

#[tokio::test]
async fn a_flood_of_interim_answers_does_not_outlast_the_timeout() {
    let (listener, options) = listen();
    let thread = spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let flood = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(10_000);
        // The end of the connection ends it.
        if answer_one(&mut stream, b"HTTP/1.1 100 Continue\r\n\r\n") {
            while stream.write_all(&flood).is_ok() {}
        }
    });
    let started = Instant::now();
    let attempt = one(EndpointOptions { timeout: SHORT, ..options }).await;
    assert_eq!(attempt.record.status, None);
    assert!(error(&attempt).contains("no answer within"), "{}", error(&attempt));
    assert!(started.elapsed() < LONG / 4, "{:?}", started.elapsed());
    thread.join().unwrap();
}

#[tokio::test]
async fn an_answer_of_some_length_leaves_the_connection_usable() {
    let (listener, options) = listen();
    let thread = spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for status in ["200 OK", "500 Oh"] {
            let mut answer = format!("HTTP/1.1 {status}\r\ncontent-length: 15000\r\n\r\n");
            answer.push_str(&"x".repeat(15_000));
            assert!(answer_one(&mut stream, answer.as_bytes()));
        }
        let long = "HTTP/1.1 200 OK\r\ncontent-length: 150000\r\n\r\nxxxx";
        assert!(answer_one(&mut stream, long.as_bytes()));
        let (mut second, _) = listener.accept().unwrap();
        assert!(answer_one(&mut second, OK));
    });
    let sender = Sender::new(&options).unwrap();
    for status in [200, 500, 200, 200] {
        let attempt = sender.attempt(&parcel(1)).await;
        assert_eq!(attempt.record.status, Some(status), "{}", error(&attempt));
        assert!(attempt.record.response.is_none_or(|body| body.len() == 4096));
    }
    thread.join().unwrap();
}

/// All attempts of an endpoint share what one task may do at a time. Where that ends in the midst of
/// reading an answer, it goes on with the next turn, and not at the deadline.
#[tokio::test]
async fn an_answer_is_read_however_little_was_left_to_do_in_a_turn() {
    /// What a task may do at a time, by the runtime's own count.
    const BUDGET: usize = 128;
    // Little in one turn, as the others' answers were read before, and much again in the next.
    for (turn, left) in (0..6).flat_map(|turn| (1..=4).map(move |left| (turn, left))) {
        let (listener, mut options) = listen();
        options.timeout = Duration::from_secs(60);
        let thread = spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(answer_one(&mut stream, OK));
            // Open until the attempt is over, so that nothing else wakes it.
            let _ = stream.read(&mut [0; 1]);
        });
        let sender = Sender::new(&options).unwrap();
        let parcel = parcel(1);
        let mut attempt = Box::pin(sender.attempt(&parcel));
        let mut turns = 0..;
        let scarce = std::future::poll_fn(|cx| {
            let spent = if turns.next() == Some(turn) { BUDGET - left } else { 0 };
            for _ in 0..spent {
                let _ = std::pin::pin!(tokio::task::coop::consume_budget()).poll(cx);
            }
            attempt.as_mut().poll(cx)
        });
        // Whatever wakes it at the deadline must not be what it goes on by.
        let ended = tokio::select! {
            biased;
            () = tokio::time::sleep(Duration::from_secs(10)) => {
                panic!("it stands still: turn {turn}, {left} left")
            }
            ended = scarce => ended,
        };
        assert_eq!(ended.verdict, Verdict::Succeeded, "{turn} {left}: {}", error(&ended));
        drop(attempt);
        drop(sender);
        thread.join().unwrap();
    }
}

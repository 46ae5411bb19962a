//! Servers that aren't, or that mean harm.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::*;
use crate::postgres::connection::ConnectionOptions;
use crate::postgres::error::PgError;
use crate::postgres::lsn::Lsn;

/// Takes one connection and hands it to `script`, on a thread.
fn server(script: impl FnOnce(TcpStream) + Send + 'static) -> (ConnectionOptions, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = thread::spawn(move || script(listener.accept().unwrap().0));
    let url = format!("postgres://u:Secret1@127.0.0.1:{port}/d?sslmode=disable&connect_timeout=30");
    (url.parse().unwrap(), thread)
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![tag];
    frame.extend((body.len() as i32 + 4).to_be_bytes());
    frame.extend(body);
    frame
}

fn refusal(severity_code_message: (&str, &str)) -> Vec<u8> {
    let (code, message) = severity_code_message;
    frame(b'E', format!("SFATAL\0C{code}\0M{message}\0\0").as_bytes())
}

/// What one message of the client holds; the first has no tag.
fn receive(stream: &mut TcpStream, tagged: bool) -> Vec<u8> {
    let mut header = vec![0; if tagged { 5 } else { 4 }];
    stream.read_exact(&mut header).unwrap();
    let length = u32::from_be_bytes(header[header.len() - 4..].try_into().unwrap());
    let mut body = vec![0; length as usize - 4];
    stream.read_exact(&mut body).unwrap();
    body
}

const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
const READY: &[u8] = b"Z\0\0\0\x05I";

/// Lets the client in, answers its session settings, agrees to stream, and sends `bytes`.
fn stream_of(stream: &mut TcpStream, bytes: &[u8]) {
    receive(stream, false);
    stream.write_all(&[OK, READY].concat()).unwrap();
    receive(stream, true);
    stream.write_all(READY).unwrap();
    receive(stream, true);
    stream.write_all(&frame(b'W', b"\0\0\0")).unwrap();
    stream.write_all(bytes).unwrap();
}

/// Connects to a server that answers the startup packet with `bytes` and then stays silent.
fn connect_to(bytes: Vec<u8>) -> PgError {
    connect_within(Duration::from_secs(30), bytes)
}

fn connect_within(timeout: Duration, bytes: Vec<u8>) -> PgError {
    let (mut options, thread) = server(move |mut stream| {
        receive(&mut stream, false);
        let _ = stream.write_all(&bytes);
        // Until the client gives up.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    options.connect_timeout = Some(timeout);
    let started = Instant::now();
    let error = ReplicationClient::connect(&options).map(drop).unwrap_err();
    assert!(started.elapsed() < timeout + Duration::from_secs(10), "{error}");
    thread.join().unwrap();
    assert!(!error.to_string().contains("Secret1"), "{error}");
    assert!(error.to_string().contains("u@127.0.0.1:"), "{error}");
    error
}

fn open(options: &ConnectionOptions) -> ReplicationStream {
    let client = ReplicationClient::connect(options).unwrap();
    client.start("s", Lsn::ZERO, &["p".to_owned()], StartOptions::default()).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

#[test]
fn nonsense_while_logging_in_is_refused() {
    for bytes in [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        frame(b'R', &99_u32.to_be_bytes()),
        frame(b'R', b""),
        frame(b'R', &5_u32.to_be_bytes()),
        frame(b'R', &[&10_u32.to_be_bytes()[..], b"SCRAM-SHA-256"].concat()),
        frame(b'R', &[&10_u32.to_be_bytes()[..], b"OTHER\0\0"].concat()),
        frame(b'R', &7_u32.to_be_bytes()),
        frame(b'D', b"\0\x01"),
        frame(b'W', b"\0\0\0"),
        [OK, &frame(b'T', b"")[..]].concat(),
        b"R\x7f\xff\xff\xff".to_vec(),
        b"R\0\0\0\x03".to_vec(),
        b"R\xff\xff\xff\xff".to_vec(),
    ] {
        let error = connect_to(bytes.clone());
        assert!(!error.is_retryable(), "{bytes:?}: {error}");
    }
}

#[test]
fn silence_ends_with_the_connect_timeout() {
    for bytes in [b"".to_vec(), b"R\0\0".to_vec(), b"R\0\0\0\x08\0".to_vec(), OK.to_vec()] {
        let error = connect_within(Duration::from_secs(2), bytes);
        assert!(error.is_retryable(), "{error}");
        assert!(error.to_string().contains("in time"), "{error}");
    }
}

#[test]
fn endless_notices_end() {
    let notice = frame(b'N', b"SNOTICE\0Mhello\0\0");
    let error = connect_to(notice.repeat(20_000));
    assert!(error.to_string().contains("notices"), "{error}");
}

#[test]
fn an_impostor_can_not_skip_the_proof_of_scram() {
    // Says "you're in" instead of proving that it knows the password.
    let (options, thread) = server(|mut stream| {
        receive(&mut stream, false);
        let offer = frame(b'R', &[&10_u32.to_be_bytes()[..], b"SCRAM-SHA-256\0\0"].concat());
        stream.write_all(&offer).unwrap();
        receive(&mut stream, true);
        stream.write_all(&[OK, READY].concat()).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let error = ReplicationClient::connect(&options).map(drop).unwrap_err();
    assert!(error.to_string().contains("out of turn"), "{error}");
    thread.join().unwrap();
}

#[test]
fn refusals_are_told_with_their_remedy() {
    let pooler = connect_to(refusal(("08P01", "unsupported startup parameter: replication")));
    assert!(pooler.to_string().contains("pooler"), "{pooler}");
    assert!(!pooler.is_retryable());
    let starting = connect_to(refusal(("57P03", "the database system is starting up")));
    assert!(starting.is_retryable());
    let odd = connect_to(refusal(("XX000", "evil\x1b[2J\nlog line")));
    assert!(!odd.to_string().contains(['\x1b', '\n']), "{odd}");
    assert_eq!(odd.sqlstate(), Some("XX000"));
}

#[test]
fn broken_frames_end_the_stream_with_an_error() {
    let xlog = |data: &[u8]| frame(b'd', &[&b"w"[..], &[0; 24], data].concat());
    for broken in [
        frame(b'd', b""),
        frame(b'd', b"w"),
        frame(b'd', &[&b"w"[..], &[0; 23]].concat()),
        frame(b'd', &[&b"k"[..], &[0; 16]].concat()),
        frame(b'd', &[&b"k"[..], &[0; 18]].concat()),
        frame(b'd', b"x"),
        frame(b'?', b""),
        b"d\0\0\0\0".to_vec(),
        b"d\x7f\xff\xff\xff".to_vec(),
        b"d\x80\0\0\0".to_vec(),
    ] {
        let bytes = [xlog(b"fine"), broken.clone()].concat();
        let (options, thread) = server(move |mut stream| {
            stream_of(&mut stream, &bytes);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let mut stream = open(&options);
        let first = stream.next(soon()).unwrap().unwrap();
        assert!(matches!(first, ReplicationMessage::XLogData { data: b"fine", .. }));
        let error = stream.next(soon()).unwrap_err();
        assert!(error.to_string().contains("\"s\""), "{broken:?}: {error}");
        drop(stream);
        thread.join().unwrap();
    }
}

/// Whatever language the server speaks.
#[test]
fn a_warning_that_the_publication_is_missing_is_no_mere_notice() {
    for (routine, missing) in [("LoadPublications", true), ("SomethingElse", false)] {
        let fields = format!("SWARNUNG\0VWARNING\0C55000\0Müberspringe\0R{routine}\0\0");
        let notice = frame(b'N', fields.as_bytes());
        let (options, thread) = server(move |mut stream| stream_of(&mut stream, &notice));
        let mut stream = open(&options);
        let error = stream.next(soon()).unwrap_err();
        assert_eq!(error.is_publication_missing(), missing, "{error}");
        drop(stream);
        thread.join().unwrap();
    }
}

#[test]
fn messages_that_come_byte_by_byte_are_put_together() {
    let keepalive = frame(b'd', &[&b"k"[..], &7_u64.to_be_bytes(), &[0; 8], &[1]].concat());
    let notice = frame(b'N', b"SNOTICE\0Mhello\0\0");
    let mut bytes = [notice, keepalive.clone(), keepalive].concat();
    // And then the connection is gone in the middle of a message.
    bytes.extend(b"d\0\0\0\x20w");
    let (options, thread) = server(move |mut stream| {
        stream_of(&mut stream, b"");
        stream.set_nodelay(true).unwrap();
        for byte in bytes {
            stream.write_all(&[byte]).unwrap();
            thread::yield_now();
        }
    });
    let mut stream = open(&options);
    let mut keepalives = 0;
    let error = loop {
        // Deadlines that keep cutting the messages in two.
        match stream.next(Instant::now() + Duration::from_micros(50)) {
            Ok(Some(ReplicationMessage::Keepalive { wal_end, reply_requested, .. })) => {
                assert_eq!((wal_end, reply_requested), (Lsn(7), true));
                keepalives += 1;
            }
            Ok(Some(other)) => panic!("{other:?}"),
            Ok(None) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(keepalives, 2);
    assert!(error.is_retryable(), "{error}");
    thread.join().unwrap();
}

#[test]
fn a_deadline_is_kept_and_one_in_the_past_takes_what_is_there() {
    let keepalive = frame(b'd', &[&b"k"[..], &[0; 17]].concat());
    let (options, thread) = server(move |mut stream| {
        stream_of(&mut stream, &keepalive.repeat(2));
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let mut stream = open(&options);
    assert!(stream.next(soon()).unwrap().is_some());
    let past = Instant::now();
    let mut second = false;
    while !second {
        second = stream.next(past).unwrap().is_some();
    }
    assert!(!stream.has_buffered());
    for wait_ms in [0, 1, 7, 120] {
        let started = Instant::now();
        let wait = Duration::from_millis(wait_ms);
        assert!(stream.next(started + wait).unwrap().is_none());
        assert!(started.elapsed() >= wait);
    }
    drop(stream);
    thread.join().unwrap();
}

#[test]
fn what_answers_a_request_for_tls_is_not_believed() {
    for answer in [&b"E\0\0\0\x10Cxxxx\0Mevil\0\0"[..], b"H", b""] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            receive(&mut stream, false);
            let _ = stream.write_all(answer);
        });
        let url = format!("postgres://u@127.0.0.1:{port}/d?sslmode=require&connect_timeout=30");
        let error = ReplicationClient::connect(&url.parse().unwrap()).map(drop).unwrap_err();
        assert!(!error.to_string().contains("evil"), "{error}");
        thread.join().unwrap();
    }
    // Without TLS where it is asked for: an error, not a fallback.
    for mode in ["require", "verify-full", "prefer&channel_binding=require"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            receive(&mut stream, false);
            stream.write_all(b"N").unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            assert!(rest.is_empty(), "it went on without TLS");
        });
        let url = format!("postgres://u@127.0.0.1:{port}/d?sslmode={mode}&connect_timeout=30");
        let error = ReplicationClient::connect(&url.parse().unwrap()).map(drop).unwrap_err();
        assert!(error.to_string().contains("ssl = off"), "{error}");
        thread.join().unwrap();
    }
}

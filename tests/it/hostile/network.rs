//! What lies between the daemon and a receiver: proxies, certificates, bad lines.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::harness::eventually;

/// How a request is answered at random, the same each time.
fn chance(id: &str, attempt: u32) -> u64 {
    let mut hash = DefaultHasher::new();
    (id, attempt, "walhook").hash(&mut hash);
    hash.finish() % 24
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_receiver_does_at_random_it_gets_everything() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key, n int)").await;
    let receiver = Receiver::start().await;
    let raw = |text: &str| Answer::Raw(text.as_bytes().to_vec());
    receiver.answer(move |request| match chance(request.id(), request.attempt()) {
        0 => Answer::Status(500),
        1 => Answer::Full(503, vec![("retry-after", "0".to_owned())], vec![]),
        2 => Answer::Status(502),
        3 => Answer::Reset,
        4 => Answer::Silence,
        // Ends in the middle of its head, and of its body.
        5 => raw("HTTP/1.1 200 OK\r\ncontent-le"),
        6 => raw("HTTP/1.1 500 No\r\ncontent-length: 1000\r\n\r\nbut then"),
        7 => raw("nonsense\r\n\r\n"),
        _ => Answer::Status(200),
    });
    // What is taken later than that is sent again.
    let more = "timeout = '10s'\nretry = { initial = '20ms', factor = 1.5, max = '200ms', \
                give_up_after = '24h' }";
    let workspace = Workspace::new(&database).table("public.person", "person").endpoint(
        "main",
        &receiver.url("/"),
        more,
    );
    let daemon = workspace.start(&database).await;
    database.execute("insert into person select g, 0 from generate_series(1, 20) g").await;
    for n in 1..=2 {
        database.execute(&format!("update person set n = {n}")).await;
    }
    let taken = |requests: &[Arc<crate::harness::Request>]| -> Vec<(String, u64, i64)> {
        let taken = requests.iter().filter(|one| chance(one.id(), one.attempt()) >= 8);
        taken
            .map(|one| {
                let data = one.json()["data"].take();
                (one.id().to_owned(), data["id"].as_u64().unwrap(), data["n"].as_i64().unwrap())
            })
            .collect()
    };
    let distinct = |requests: &[Arc<crate::harness::Request>]| {
        taken(requests).into_iter().map(|(id, ..)| id).collect::<HashSet<_>>().len()
    };
    let requests = receiver
        .wait_until(4 * PATIENCE, "all is taken", |requests| distinct(requests) == 60)
        .await;
    daemon.stop().await;
    // Each record's changes in order, none twice.
    let taken = taken(&requests);
    assert_eq!(taken.len(), 60);
    for record in 1..=20 {
        let seen: Vec<i64> =
            taken.iter().filter(|(_, id, _)| *id == record).map(|(_, _, n)| *n).collect();
        assert_eq!(seen, [0, 1, 2], "record {record}");
    }
    receiver.assert_all_signed();
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_in_the_environment_are_ignored() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key)").await;
    let (receiver, proxy) = (Receiver::start().await, Receiver::start().await);
    let workspace = Workspace::new(&database).table("public.person", "person").endpoint(
        "main",
        &receiver.url("/"),
        "",
    );
    let mut command = workspace.command(&["run"]);
    for variable in
        ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    {
        command.env(variable, proxy.url(""));
    }
    let daemon = Daemon::spawn(command);
    daemon.streams(&database.client().await, workspace.slot(), None).await;
    database.execute("insert into person values (1)").await;
    receiver.wait_for(1, PATIENCE).await;
    daemon.stop().await;
    assert_eq!((receiver.count(), proxy.count()), (1, 0));

    // The one that is configured is not.
    let workspace = workspace.endpoint(
        "far",
        "http://far.invalid/hooks",
        &format!("proxy = '{}'", proxy.url("")),
    );
    let daemon = workspace.start(&database).await;
    let requests = proxy.wait_for(1, PATIENCE).await;
    daemon.stop().await;
    assert_eq!(requests[0].path, "http://far.invalid/hooks");
    proxy.assert_all_signed();
}

#[tokio::test(flavor = "multi_thread")]
async fn large_events_are_compressed_and_signed_as_they_are_sent() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key, bio text)").await;
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(&database).table("public.person", "person").endpoint(
        "main",
        &receiver.url("/"),
        "method = 'PUT'\ncompress = true",
    );
    let daemon = workspace.start(&database).await;
    database.execute("insert into person values (1, repeat('walhook ', 50000))").await;
    let requests = receiver.wait_for(1, PATIENCE).await;
    daemon.stop().await;
    assert_eq!(requests[0].method, "PUT");
    assert_eq!(requests[0].header("content-encoding"), Some("gzip"));
    assert!(requests[0].body.len() < 20_000);
    let mut body = String::new();
    flate2::read::GzDecoder::new(&requests[0].body[..]).read_to_string(&mut body).unwrap();
    let event: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(event["data"]["bio"].as_str().map(str::len), Some(400_000));
    receiver.assert_all_signed();
}

/// Writes `ca.pem`, and certificate and key of a client of that authority; yields how to serve
/// `localhost` to such clients.
fn certificates(folder: &Path) -> ServerConfig {
    walhook::delivery::install_crypto_provider();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let signed = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &issuer).unwrap(), key)
    };
    let (client, client_key) = signed("walhook");
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(folder.join("client.pem"), client.pem()).unwrap();
    std::fs::write(folder.join("client.key"), client_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let (server, server_key) = signed("localhost");
    let mut config = ServerConfig::builder()
        .with_client_cert_verifier(WebPkiClientVerifier::builder(roots.into()).build().unwrap())
        .with_single_cert(
            vec![server.der().clone()],
            PrivateKeyDer::try_from(server_key.serialize_der()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_prove_themselves_by_certificates() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key)").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let workspace = |tls: &str| {
        Workspace::new(&database).table("public.person", "person").endpoint("main", &url, tls)
    };
    let proven =
        workspace("tls = { ca = 'ca.pem', client_cert = 'client.pem', client_key = 'client.key' }");
    let config = certificates(proven.config_path().parent().unwrap());
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let received: Arc<Mutex<Vec<(Version, Bytes)>>> = Arc::default();
    let log = Arc::clone(&received);
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, log) = (acceptor.clone(), Arc::clone(&log));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request: Request<Incoming>| {
                    let log = Arc::clone(&log);
                    async move {
                        let version = request.version();
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        log.lock().unwrap().push((version, body));
                        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
                    }
                });
                let connection = http2::Builder::new(TokioExecutor::new());
                let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    let checked = proven.run(&["check"]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.contains("its certificate is good"), "{checked:?}");
    let unproven = workspace("").run(&["check"]).await;
    assert_eq!(unproven.code, Some(1), "{unproven:?}");
    assert!(unproven.stdout.contains("tls.ca"), "{unproven:?}");

    let daemon = proven.start(&database).await;
    database.execute("insert into person values (1)").await;
    eventually(PATIENCE, "the event arrives", async || {
        (!received.lock().unwrap().is_empty()).then_some(())
    })
    .await;
    daemon.stop().await;
    server.abort();
    let (version, body) = received.lock().unwrap()[0].clone();
    assert_eq!(version, Version::HTTP_2);
    assert!(String::from_utf8(body.to_vec()).unwrap().contains("person.created"));

    let wrong = workspace("tls = { ca = 'missing.pem' }").run(&["run"]).await;
    wrong.assert(USAGE, &["tls.ca", "missing.pem", "cannot be read"]);
    assert_one_sentence(&wrong.stderr);
}

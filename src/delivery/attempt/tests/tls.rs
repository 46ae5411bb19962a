//! Certificates and HTTP/2.

use hyper::Version;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::network::proxy;
use super::*;
use crate::delivery::client::install_crypto_provider;
use crate::delivery::endpoint::EndpointTls;

/// A certificate authority.
struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Authority {
        install_crypto_provider();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    fn identity(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (vec![certificate.der().clone()], key)
    }

    fn trusted(&self) -> EndpointTls {
        EndpointTls { ca: Some(vec![self.certificate.clone()]), identity: None }
    }

    /// Serves `localhost`; asks for a certificate of the authority `clients`.
    fn server(&self, clients: Option<&Authority>, h2: bool) -> ServerConfig {
        let (chain, key) = self.identity("localhost");
        let builder = match clients {
            None => ServerConfig::builder().with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.certificate.clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
                ServerConfig::builder().with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).unwrap();
        if h2 {
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        }
        config
    }
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_over_both_versions_of_http() {
    let authority = Authority::new();
    for (h2, version) in [(false, Version::HTTP_11), (true, Version::HTTP_2)] {
        let receiver = Receiver::start_tls(authority.server(None, h2), |_| answer(200)).await;
        let options = EndpointOptions { tls: authority.trusted(), ..options(receiver.url()) };
        let attempt = one(options).await;
        assert_eq!(attempt.verdict, Verdict::Succeeded, "{}", error(&attempt));
        let received = &receiver.received()[0];
        assert_eq!(received.version, version);
        assert_eq!(received.body, event().body);
        assert_eq!(received.header("webhook-id"), event().id.to_string());
    }
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let receiver = Receiver::start_tls(authority.server(None, true), |_| answer(200)).await;
    for tls in [EndpointTls::default(), other.trusted()] {
        let attempt = one(EndpointOptions { tls, ..options(receiver.url()) }).await;
        assert_eq!(attempt.verdict, Verdict::Retry { after: None });
        assert_eq!(attempt.host, HostAnswer::Failing);
        assert!(error(&attempt).contains("certificate"), "{}", error(&attempt));
        assert!(error(&attempt).contains("`tls.ca`"), "{}", error(&attempt));
    }
    let mut other_name = EndpointOptions { tls: authority.trusted(), ..options(receiver.url()) };
    other_name.url.set_host(Some("127.0.0.1")).unwrap();
    let attempt = one(other_name).await;
    assert!(error(&attempt).contains("host in `url`"), "{}", error(&attempt));
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn walhook_proves_itself_with_its_certificate() {
    let (authority, clients) = (Authority::new(), Authority::new());
    for h2 in [false, true] {
        let server = authority.server(Some(&clients), h2);
        let receiver = Receiver::start_tls(server, |_| answer(200)).await;
        let with = |identity: Option<Identity>| EndpointOptions {
            tls: EndpointTls { identity: identity.map(Arc::new), ..authority.trusted() },
            ..options(receiver.url())
        };
        let attempt = one(with(Some(clients.identity("walhook")))).await;
        assert_eq!(attempt.verdict, Verdict::Succeeded, "{}", error(&attempt));
        for identity in [None, Some(authority.identity("walhook"))] {
            let attempt = one(with(identity)).await;
            assert_eq!(attempt.verdict, Verdict::Retry { after: None });
            assert!(!error(&attempt).is_empty());
        }
        assert_eq!(receiver.count(), 1);
    }
}

#[tokio::test]
async fn one_connection_of_http2_carries_all_requests() {
    let authority = Authority::new();
    let receiver = Receiver::start_tls(authority.server(None, true), |_| answer(200)).await;
    let options = EndpointOptions { tls: authority.trusted(), ..options(receiver.url()) };
    let sender = Arc::new(Sender::new(&options).unwrap());
    assert_eq!(sender.attempt(&parcel(1)).await.verdict, Verdict::Succeeded);
    receiver.open(false);
    let mut attempts = tokio::task::JoinSet::new();
    for number in 1..=16 {
        let sender = Arc::clone(&sender);
        attempts.spawn(async move { sender.attempt(&parcel(number)).await.verdict });
    }
    let started = Instant::now();
    while receiver.count() < 17 {
        assert!(started.elapsed() < LONG, "they do not all arrive");
        tokio::task::yield_now().await;
    }
    receiver.open(true);
    while let Some(verdict) = attempts.join_next().await {
        assert_eq!(verdict.unwrap(), Verdict::Succeeded);
    }
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn requests_at_once_wait_for_one_connection_of_http2() {
    let authority = Authority::new();
    let receiver = Receiver::start_tls(authority.server(None, true), |_| answer(200)).await;
    let mut options = EndpointOptions { tls: authority.trusted(), ..options(receiver.url()) };
    let host = HeaderValue::from_str(&format!("localhost:{}", options.url.port().unwrap()));
    options.headers = vec![(HeaderName::from_static("host"), host.unwrap())];
    let sender = Arc::new(Sender::new(&options).unwrap());
    let mut attempts = tokio::task::JoinSet::new();
    for number in 1..=8 {
        let sender = Arc::clone(&sender);
        attempts.spawn(async move { sender.attempt(&parcel(number)).await.verdict });
    }
    while let Some(verdict) = attempts.join_next().await {
        assert_eq!(verdict.unwrap(), Verdict::Succeeded);
    }
    assert_eq!((receiver.connections(), receiver.count()), (1, 8));
    let received = &receiver.received()[0];
    assert!(received.target.starts_with("https://localhost:"), "{}", received.target);
    assert_eq!(received.header("host"), "", "`:authority` says it");
}

/// Without HTTP/2 each needs one of its own, and none waits for another's.
#[tokio::test]
async fn requests_at_once_each_get_a_connection_of_http1() {
    let authority = Authority::new();
    let receiver = Receiver::start_tls(authority.server(None, false), |_| answer(200)).await;
    let options = EndpointOptions { tls: authority.trusted(), ..options(receiver.url()) };
    let sender = Arc::new(Sender::new(&options).unwrap());
    receiver.open(false);
    let mut attempts = tokio::task::JoinSet::new();
    for number in 1..=8 {
        let sender = Arc::clone(&sender);
        attempts.spawn(async move { sender.attempt(&parcel(number)).await.verdict });
    }
    let started = Instant::now();
    while receiver.count() < 8 {
        assert!(started.elapsed() < LONG, "they do not all arrive");
        tokio::task::yield_now().await;
    }
    receiver.open(true);
    while let Some(verdict) = attempts.join_next().await {
        assert_eq!(verdict.unwrap(), Verdict::Succeeded);
    }
    assert_eq!(receiver.connections(), 8);
}

#[tokio::test]
async fn a_connection_of_http2_that_is_lost_is_replaced() {
    let authority = Authority::new();
    let mut urls = Vec::new();
    let mut receivers = Vec::new();
    for _ in 0..2 {
        let receiver = Receiver::start_tls(authority.server(None, true), |_| answer(200)).await;
        urls.push(receiver.url());
        receivers.push(receiver);
    }
    // What stands between cuts the first connection, and leads to the second receiver then.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = EndpointOptions { tls: authority.trusted(), ..options(urls[0].clone()) };
    options.url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    let (cut, is_cut) = tokio::sync::oneshot::channel::<()>();
    let (done, is_done) = tokio::sync::oneshot::channel::<()>();
    let ports: Vec<u16> = urls.iter().map(|url| url.port().unwrap()).collect();
    let between = tokio::spawn(async move {
        let pass = async |port: u16| {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut onward = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
        };
        tokio::select! { () = pass(ports[0]) => {}, _ = is_cut => {} }
        done.send(()).unwrap();
        pass(ports[1]).await;
    });
    let sender = Sender::new(&options).unwrap();
    assert_eq!(sender.attempt(&parcel(1)).await.verdict, Verdict::Succeeded);
    cut.send(()).unwrap();
    is_done.await.unwrap();
    super::connections::network_is_seen().await;
    let attempt = sender.attempt(&parcel(2)).await;
    assert_eq!(attempt.verdict, Verdict::Succeeded, "{}", error(&attempt));
    assert_eq!((receivers[0].count(), receivers[1].count()), (1, 1));
    between.abort();
}

#[tokio::test]
async fn over_http2_too_only_the_beginning_of_an_answer_is_read() {
    let authority = Authority::new();
    let receiver = Receiver::start_tls(authority.server(None, true), |received| {
        let status = if received.header("webhook-attempt") == "1" { 200 } else { 500 };
        let mut answer = answer(status);
        *answer.body_mut() = Full::from(vec![b'x'; 20_000_000]);
        answer
    })
    .await;
    let options = EndpointOptions { tls: authority.trusted(), ..options(receiver.url()) };
    let sender = Sender::new(&options).unwrap();
    let attempt = sender.attempt(&parcel(1)).await;
    assert_eq!(attempt.verdict, Verdict::Succeeded);
    let attempt = sender.attempt(&parcel(2)).await;
    assert_eq!(attempt.record.status, Some(500));
    assert_eq!(attempt.record.response.as_deref().map(<[u8]>::len), Some(4_096));
    assert!(attempt.record.head.unwrap().starts_with("HTTP/2.0 500"));
    assert_eq!(receiver.connections(), 1, "the connection outlives what is left unread");
}

#[tokio::test]
async fn https_goes_through_a_tunnel_of_the_proxy() {
    let authority = Authority::new();
    let receiver = Receiver::start_tls(authority.server(None, true), |_| answer(200)).await;
    let port = receiver.url().port().unwrap();
    let (address, heads) = proxy(([127, 0, 0, 1], port).into()).await;
    let mut options = EndpointOptions { tls: authority.trusted(), ..options(receiver.url()) };
    options.networks.private = false;
    options.proxy = Some(format!("http://user:pass@{address}").parse().unwrap());
    let attempt = one(options).await;
    assert_eq!(attempt.verdict, Verdict::Succeeded, "{}", error(&attempt));
    assert_eq!(receiver.received()[0].version, Version::HTTP_2);
    let head = heads.lock().unwrap()[0].to_ascii_lowercase();
    assert!(head.starts_with(&format!("connect localhost:{port} http/1.1\r\n")), "{head}");
    assert!(head.contains("proxy-authorization: basic dxnlcjpwyxnz\r\n"), "{head}");
    assert!(!head.contains("webhook-"), "the proxy sees nothing of the event");
}

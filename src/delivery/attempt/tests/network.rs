//! Where connections go.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

#[tokio::test]
async fn private_addresses_need_permission() {
    let receiver = Receiver::start(|_| answer(200)).await;
    let mut options = options(receiver.url());
    options.networks.private = false;
    let refused = Sender::new(&options).err().unwrap();
    assert!(refused.is_configuration());
    assert!(refused.to_string().contains("allow_private_network"), "{refused}");
    // Not every system has a resolver that knows this one.
    options.url.set_host(Some("localhost.")).unwrap();
    let attempt = one(options.clone()).await;
    assert_eq!((attempt.verdict, attempt.record.status), (Verdict::Retry { after: None }, None));
    options.url.set_host(Some("localhost")).unwrap();
    let attempt = one(options.clone()).await;
    assert_eq!(attempt.verdict, Verdict::Retry { after: None });
    assert_eq!(attempt.host, HostAnswer::None);
    assert!(error(&attempt).contains("allow_private_network"), "{}", error(&attempt));
    options.networks.private = true;
    options.networks.deny = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
    let attempt = one(options.clone()).await;
    assert!(error(&attempt).contains("deny_networks"), "{}", error(&attempt));
    options.url = receiver.url();
    let refused = Sender::new(&options).err().unwrap().to_string();
    assert!(refused.contains("deny_networks"), "{refused}");
    assert_eq!(receiver.count(), 0);
}

/// A sender whose host's name resolves as told, and to which of the loopback addresses 127.0.0.2
/// alone is allowed: it stands for a public one.
fn resolving(port: u16, script: impl Fn() -> Vec<&'static str> + Send + Sync + 'static) -> Sender {
    let mut options = options(format!("http://rebinding.example:{port}/").parse().unwrap());
    options.networks.private = false;
    options.networks.allow = vec!["127.0.0.2/32".parse().unwrap()];
    let script = move |name: &str| {
        assert_eq!(name, "rebinding.example");
        script().into_iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect::<Vec<_>>()
    };
    Sender::with_lookup(&options, Lookup::Script(Arc::new(script))).unwrap()
}

/// Answers and closes each connection.
async fn closing_receiver(ip: &str) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = accept_and_close(&mut stream).await;
        }
    });
    (port, count)
}

async fn accept_and_close(stream: &mut TcpStream) -> std::io::Result<()> {
    let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    // What was left unread would reset the connection, and the answer with it.
    while stream.read(&mut [0; 4096]).await? > 0 {}
    Ok(())
}

#[tokio::test]
async fn a_name_that_changes_its_answer_leads_nowhere_else() {
    let (port, count) = closing_receiver("0.0.0.0").await;
    let asked = Arc::new(AtomicUsize::new(0));
    let times = Arc::clone(&asked);
    let sender = resolving(port, move || match times.fetch_add(1, Ordering::SeqCst) {
        0 | 2 => vec!["127.0.0.2"],
        1 => vec!["127.0.0.1"],
        3 => vec!["169.254.169.254", "::1", "10.0.0.1", "::ffff:127.0.0.1"],
        _ => vec![],
    });
    let mut verdicts = Vec::new();
    let mut errors = Vec::new();
    for number in 1..=5 {
        let attempt = sender.attempt(&parcel(number)).await;
        verdicts.push(attempt.verdict == Verdict::Succeeded);
        errors.push(error(&attempt).to_owned());
    }
    assert_eq!(verdicts, [true, false, true, false, false], "{errors:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 5, "each new connection asks anew");
    assert_eq!(count.load(Ordering::SeqCst), 2, "only what is allowed was connected to");
    assert!(errors[1].contains("127.0.0.1") && errors[1].contains("private"), "{errors:?}");
    assert!(errors[3].contains("169.254.169.254"), "{errors:?}");
    assert!(errors[4].contains("no address"), "{errors:?}");
}

#[tokio::test]
async fn of_mixed_answers_only_the_allowed_ones_are_tried() {
    let (port, count) = closing_receiver("127.0.0.1").await;
    let sender = resolving(port, || vec!["127.0.0.1", "127.0.0.2", "::1"]);
    let attempt = sender.attempt(&parcel(1)).await;
    assert!(error(&attempt).contains("could not connect"), "{}", error(&attempt));
    assert_eq!(attempt.host, HostAnswer::Failing);
    assert_eq!(count.load(Ordering::SeqCst), 0, "127.0.0.1 is off limits");
}

#[tokio::test]
async fn redirects_to_private_addresses_are_not_followed() {
    let inside = Receiver::start_at("127.0.0.1", None, |_| answer(200)).await;
    let to = inside.url().to_string();
    let outside = Receiver::start_at("127.0.0.2", None, move |_| {
        let mut answer = answer(307);
        answer.headers_mut().insert("location", to.parse().unwrap());
        answer
    })
    .await;
    let port = outside.url().port().unwrap();
    let attempt = resolving(port, || vec!["127.0.0.2"]).attempt(&parcel(1)).await;
    assert_eq!(attempt.verdict, Verdict::Retry { after: None });
    assert!(error(&attempt).contains("never followed"), "{}", error(&attempt));
    assert_eq!((outside.count(), inside.count()), (1, 0));
}

#[tokio::test]
async fn connections_are_used_again() {
    let receiver = Receiver::start(|_| {
        let mut answer = answer(200);
        *answer.body_mut() = Full::from("thanks");
        answer
    })
    .await;
    let sender = Arc::new(Sender::new(&options(receiver.url())).unwrap());
    for number in 1..=5 {
        assert_eq!(sender.attempt(&parcel(number)).await.verdict, Verdict::Succeeded);
    }
    assert_eq!(receiver.connections(), 1);
    // As many as are needed at once, and those again.
    for _ in 0..3 {
        receiver.open(false);
        let mut attempts = tokio::task::JoinSet::new();
        let before = receiver.count();
        for number in 1..=8 {
            let sender = Arc::clone(&sender);
            attempts.spawn(async move { sender.attempt(&parcel(number)).await.verdict });
        }
        let started = Instant::now();
        while receiver.count() < before + 8 {
            assert!(started.elapsed() < LONG, "they do not all arrive");
            tokio::task::yield_now().await;
        }
        receiver.open(true);
        while let Some(verdict) = attempts.join_next().await {
            assert_eq!(verdict.unwrap(), Verdict::Succeeded);
        }
    }
    // A few more, perhaps: one that is just being given back is not used again yet.
    assert!(receiver.connections() < 16, "{} connections", receiver.connections());
}

/// A proxy that notes the head of each request, connects CONNECTs to `target` and answers all else
/// itself.
pub(super) async fn proxy(target: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(pass(stream, target, Arc::clone(&noted)));
        }
    });
    (address, heads)
}

async fn pass(
    mut stream: TcpStream,
    target: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let connect = head.starts_with("CONNECT ");
    heads.lock().unwrap().push(head);
    if !connect {
        return accept_and_close(&mut stream).await;
    }
    let mut onward = TcpStream::connect(target).await?;
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut stream, &mut onward).await.map(|_| ())
}

#[tokio::test]
async fn requests_go_through_the_proxy_that_is_configured() {
    let (address, heads) = proxy("127.0.0.1:9".parse().unwrap()).await;
    // Only the proxy could resolve that, and its own address may be private.
    let mut options = options("http://inside.invalid/hooks?token=1".parse().unwrap());
    options.networks.private = false;
    options.proxy = Some(format!("http://us%65r:p%40ss@{address}/").parse().unwrap());
    let attempt = one(options.clone()).await;
    assert_eq!(attempt.verdict, Verdict::Succeeded, "{}", error(&attempt));
    let head = heads.lock().unwrap()[0].to_ascii_lowercase();
    assert!(head.starts_with("post http://inside.invalid/hooks?token=1 http/1.1\r\n"), "{head}");
    // user:p@ss
    assert!(head.contains("proxy-authorization: basic dxnlcjpwqhnz\r\n"), "{head}");
    assert!(head.contains("\r\nhost: inside.invalid\r\n"), "{head}");

    let debug = format!("{options:?}");
    assert!(!debug.contains("p%40ss") && !debug.contains("p@ss"), "{debug}");
    options.url = "http://10.0.0.1/".parse().unwrap();
    let refused = Sender::new(&options).err().unwrap().to_string();
    assert!(refused.contains("10.0.0.1"), "{refused}");
    assert_eq!(heads.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_said_plainly() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (proxy, text) in [
        (format!("http://user:hush@{closed}"), "could not connect"),
        ("http://user:hush@nowhere.invalid:3128".to_owned(), "`proxy` cannot be resolved"),
    ] {
        let mut options = options("https://inside.invalid/".parse().unwrap());
        options.proxy = Some(proxy.parse().unwrap());
        let attempt = one(options).await;
        assert_eq!(attempt.verdict, Verdict::Retry { after: None });
        assert!(error(&attempt).contains(text), "{}", error(&attempt));
        assert!(!error(&attempt).contains("hush"));
    }
}

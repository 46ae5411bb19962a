use super::*;
use crate::config::error::Place;

fn located<T>(key: &'static str, value: T) -> Located<T> {
    Located { value, place: Place::Flag(key) }
}

fn list(key: &'static str, items: &[&str]) -> Option<List> {
    let items = items.iter().map(|item| located(key, (*item).to_owned())).collect();
    Some(located(key, items))
}

#[test]
fn networks_are_ranges_or_addresses() {
    let networks = build(
        true,
        list("allow_networks", &["10.1.2.3/8", " fd00::/8 ", "10.9.9.9"]),
        list("deny_networks", &["::1", "::ffff:192.168.1.2/112", "::ffff:8.8.8.8", "fe80::/10"]),
    )
    .unwrap();
    let text = |list: &[IpNet]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(networks.private);
    assert_eq!(text(&networks.allow), ["10.0.0.0/8", "fd00::/8", "10.9.9.9/32"]);
    assert_eq!(text(&networks.deny), ["::1/128", "192.168.0.0/16", "8.8.8.8/32", "fe80::/10"]);
    for wrong in ["", "10.0.0.0/33", "example.com", "10.0.0"] {
        let error = build(false, None, list("deny_networks", &[wrong])).unwrap_err().to_string();
        let expected = format!("`deny_networks` names {wrong:?}, which is no network: write one");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn proxies_are_urls_of_a_host() {
    let url =
        |text: &str| proxy(located("proxy", text.to_owned())).map_err(|error| error.to_string());
    assert_eq!(url("http://user:pass@proxy:3128").unwrap().port(), Some(3128));
    assert!(url("https://proxy").is_ok());
    for (text, problem) in [
        ("proxy:3128", "begins with neither"),
        ("socks5://user:hunter2@proxy", "begins with neither"),
        ("http://user:hunter2@", "is no URL"),
        ("", "is no URL"),
        ("http://user:hunter2@proxy/path", "goes on behind"),
    ] {
        let error = url(text).unwrap_err();
        assert!(error.starts_with("`proxy` ") && error.contains(problem), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn certificates_and_keys_come_from_files_beside_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = made.signing_key.serialize_pem();
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    for (name, text) in [
        ("cert.pem", made.cert.pem()),
        ("key.pem", key.clone()),
        ("both.pem", format!("{}\n{key}", made.cert.pem())),
        ("other.pem", other.signing_key.serialize_pem()),
        ("encrypted.pem", encrypted),
        ("broken.pem", key.replace("-----BEGIN", "----BEGIN")),
        ("text.pem", "-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n".into()),
        ("empty.pem", String::new()),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let url = |text| Url::parse(text).unwrap();
    let https = url("https://example.com/");
    let build = |ca: &str, cert: &str, key: &str| {
        let file = |key, name: &str| (!name.is_empty()).then(|| located(key, name.to_owned()));
        let raw = RawTls {
            place: Place::Flag("tls"),
            ca: file("ca", ca),
            client_cert: file("client_cert", cert),
            client_key: file("client_key", key),
        };
        tls(raw, &https, None, folder.path()).map_err(|error| error.to_string())
    };
    let both = build("cert.pem", "cert.pem", "key.pem").unwrap();
    assert_eq!(both.ca.map(|ca| ca.len()), Some(1));
    assert!(both.identity.is_some());
    // On the way to an http:// URL, only a proxy can be spoken to by TLS.
    for (proxy, fine) in
        [(None, false), (Some("http://proxy/"), false), (Some("https://proxy/"), true)]
    {
        let ca = Some(located("ca", "cert.pem".to_owned()));
        let raw = RawTls { place: Place::Flag("tls"), ca, client_cert: None, client_key: None };
        let built = tls(raw, &url("http://example.com/"), proxy.map(url).as_ref(), folder.path());
        match built {
            Ok(_) => assert!(fine),
            Err(error) => assert!(!fine && error.to_string().contains("no effect"), "{error}"),
        }
    }
    assert!(build("", "both.pem", "both.pem").is_ok());
    assert!(build("both.pem", "", "").is_ok());
    for (ca, cert, client_key, words) in [
        ("", "", "", ["`tls` says nothing", "ca = "]),
        ("missing.pem", "", "", ["`ca` names the file", "missing.pem, which cannot be read"]),
        ("empty.pem", "", "", ["`ca` names the file", "empty.pem, which holds no certificate"]),
        ("key.pem", "", "", ["`ca` names the file", "key.pem, which holds no certificate"]),
        ("text.pem", "", "", ["`ca` names the file", "text.pem, "]),
        ("", "cert.pem", "", ["`client_cert` stands without", "`client_key`"]),
        ("", "", "key.pem", ["`client_key` stands without", "`client_cert`"]),
        ("", "cert.pem", "other.pem", ["`client_key` names the file", "does not belong"]),
        ("", "cert.pem", "cert.pem", ["`client_key` names the file", "holds no private key"]),
        ("", "cert.pem", "broken.pem", ["`client_key` names the file", "holds no private key"]),
        ("", "cert.pem", "encrypted.pem", ["`client_key` names the file", "is encrypted"]),
        ("", "key.pem", "key.pem", ["`client_cert` names the file", "holds no certificate"]),
    ] {
        let error = build(ca, cert, client_key).err().unwrap();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        // Nothing of what the files hold.
        let secret = key.lines().filter(|line| !line.starts_with("-----"));
        for line in secret.chain(["hunter2"]) {
            assert!(!error.contains(line), "{error}");
        }
    }
}

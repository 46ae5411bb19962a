//! Requests of the daemon, checked by the libraries that receivers verify webhooks with.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::harness::{Database, Receiver, Request, SECRET, Workspace};

const PATIENCE: Duration = Duration::from_secs(60);
/// What `make test` has not installed yet is installed by the test itself.
const INSTALL_PATIENCE: Duration = Duration::from_secs(600);

const PRIVATE: &str =
    "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
const PUBLIC: &str = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// An endpoint's configuration, and what its receivers check: the scheme and the secrets, each of
/// which has to do.
struct Case {
    name: &'static str,
    config: String,
    checks: Vec<(&'static str, Vec<&'static str>)>,
}

fn cases() -> Vec<Case> {
    let case = |name, config: &str, checks: &[(&'static str, &[&'static str])]| Case {
        name,
        config: config.to_owned(),
        checks: checks.iter().map(|(scheme, secrets)| (*scheme, secrets.to_vec())).collect(),
    };
    let list = |first: &str, second: &str| format!("secrets = ['{first}', '{second}']");
    vec![
        case("hmac", "", &[("standard", &[SECRET])]),
        case("rotated", &list(SECRET, OLD), &[("standard", &[SECRET, OLD])]),
        case("ed25519", &list(PRIVATE, OLD), &[("ed25519", &[PUBLIC]), ("standard", &[OLD])]),
        case(
            "stripe",
            &format!("signature = ['stripe']\n{}", list("whsec_test_secret", "the old one")),
            &[("stripe", &["whsec_test_secret", "the old one"])],
        ),
        case(
            "github",
            "signature = ['github']\nsecret = \"It's a Secret to Everybody\"",
            &[("github", &["It's a Secret to Everybody"])],
        ),
        case(
            "all",
            "signature = ['standard', 'twenty', 'stripe', 'github']",
            &[
                ("standard", &[SECRET]),
                ("twenty", &[SECRET]),
                ("stripe", &[SECRET]),
                ("github", &[SECRET]),
            ],
        ),
    ]
}

fn line(scheme: &str, secrets: &[&str], request: &Request) -> String {
    let headers: serde_json::Map<_, _> =
        request.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let body = std::str::from_utf8(&request.body).unwrap();
    json!({"scheme": scheme, "secrets": secrets, "headers": headers, "body": body}).to_string()
}

/// Where the libraries are.
async fn installed() -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/install-verifiers");
    let mut command = Command::new(script);
    command.arg("--print").stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = tokio::time::timeout(INSTALL_PATIENCE, command.output());
    let output = output.await.expect("the installation does not end").unwrap();
    assert!(output.status.success(), "{script} failed");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// Runs a checking program and returns what it says.
async fn check(mut command: Command, requests: &str) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(requests.as_bytes()).await.unwrap();
    drop(stdin);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaints}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn published_libraries_accept_what_the_daemon_sends() {
    let folder = installed().await;
    let database = Database::create().await;
    database.execute("create table person (id int primary key, name text)").await;
    let receiver = Receiver::start().await;
    let mut workspace = Workspace::new(&database).table("public.person", "person");
    let cases = cases();
    for Case { name, config, .. } in &cases {
        // A list of secrets stands instead of the one that every endpoint has.
        let url = receiver.url(&format!("/{name}"));
        workspace = match config.contains("secrets =") {
            true => workspace.endpoint_without_secret(name, &url, config),
            false => workspace.endpoint(name, &url, config),
        };
    }
    let daemon = workspace.start(&database).await;
    database.execute("insert into person values (1, 'Zoë \"Ω\" 🦀')").await;
    receiver.wait_for(cases.len(), PATIENCE).await;
    daemon.stop().await;

    let mut requests = String::new();
    for case in &cases {
        let sent = receiver.requests_to(&format!("/{}", case.name));
        assert_eq!(sent.len(), 1, "{}", case.name);
        if case.checks.iter().any(|(scheme, _)| *scheme == "github") {
            assert_eq!(sent[0].header("x-github-event"), Some("person.created"));
            assert_eq!(sent[0].header("x-github-delivery"), Some(sent[0].id()));
        }
        for (scheme, secrets) in &case.checks {
            requests.push_str(&line(scheme, secrets, &sent[0]));
            requests.push('\n');
        }
    }

    let mut node = Command::new("node");
    // As a text and in that folder, so that it finds the packages there.
    node.args(["--input-type=module", "-e", include_str!("../verifiers/verify.mjs")]);
    node.current_dir(&folder);
    let said = check(node, &requests).await;
    for library in ["standardwebhooks", "svix", "stripe", "octokit", "crypto"] {
        assert!(said.contains(&format!("ok: {library} accepts secret 1")), "{said}");
    }

    let mut python = Command::new(folder.join("venv/bin/python"));
    python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/verifiers/verify.py"));
    let said = check(python, &requests).await;
    assert!(said.contains("ok: standardwebhooks accepts secret 2"), "{said}");
}

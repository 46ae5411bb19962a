//! Commands that need no daemon.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::harness::{Database, Finished, Receiver, Workspace, eventually, slot_state};

/// A scheme, its secret, and what it makes of an id, a timestamp and a body.
struct Vector {
    scheme: &'static str,
    secret: &'static str,
    id: &'static str,
    timestamp: &'static str,
    body: &'static str,
    header: &'static str,
    signature: &'static str,
}

const VECTORS: [Vector; 6] = [
    Vector {
        scheme: "standard",
        secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp: "1614265330",
        body: r#"{"test": 2432232314}"#,
        header: "webhook-signature",
        signature: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    },
    Vector {
        scheme: "standard",
        secret: "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        id: "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        timestamp: "1649367553",
        body: r#"{"email":"test@example.com","username":"test_user"}"#,
        header: "webhook-signature",
        signature: "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    },
    Vector {
        scheme: "twenty",
        secret: "secret",
        id: "unused",
        timestamp: "1735066639761",
        body: r#"{"eventName":"person.created"}"#,
        header: "x-twenty-webhook-signature",
        signature: "d8c3fbb769758a0e405b897e92a6ca8a33aea312f3e958f25fb4ed33adb9f9c0",
    },
    Vector {
        scheme: "standard",
        secret: "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==",
        id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp: "1614265330",
        body: r#"{"test": 2432232314}"#,
        header: "webhook-signature",
        signature: "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
    },
    Vector {
        scheme: "stripe",
        secret: "whsec_test_secret",
        id: "unused",
        timestamp: "1492774577",
        body: "{\n  \"id\": \"evt_test_webhook\",\n  \"object\": \"event\"\n}",
        header: "stripe-signature",
        signature: "t=1492774577,v1=c2f890decbc5ede7c5060bb9a6d31e0626a4342bacb9aeae2adb1bcea72f9812",
    },
    Vector {
        scheme: "github",
        secret: "It's a Secret to Everybody",
        id: "unused",
        timestamp: "1",
        body: "Hello, World!",
        header: "x-hub-signature-256",
        signature: "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
    },
];

async fn walhook(arguments: &[&str], input: &str) -> Finished {
    let mut command = Command::new(env!("CARGO_BIN_EXE_walhook"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    // A command that refuses its arguments may leave before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
    let output = child.wait_with_output().await.unwrap();
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[tokio::test]
async fn sign_and_verify_agree_with_the_published_vectors() {
    for vector in VECTORS {
        let Vector { scheme, secret, id, timestamp, body, header, signature } = vector;
        let common = ["--scheme", scheme, "--secret", secret, "--id", id, "--timestamp", timestamp];
        let signed = walhook(&[&["sign"], &common[..]].concat(), body).await;
        signed.assert(0, &[]);
        let said = signed.stdout.lines().filter_map(|line| line.split_once(": "));
        let value = said.filter(|(name, _)| name.eq_ignore_ascii_case(header)).map(|(_, v)| v);
        assert_eq!(value.collect::<Vec<_>>(), [signature], "{}", signed.stdout);

        let verify = [&["verify"], &common[..], &["--signature", signature]].concat();
        walhook(&verify, body).await.assert(0, &[]);
        let verified = walhook(&verify, &format!("{body} ")).await;
        verified.assert(1, &[]);
    }
}

#[tokio::test]
async fn a_generated_key_pair_signs_with_one_half_and_verifies_with_the_other() {
    let pair = walhook(&["secret", "--scheme", "ed25519"], "").await;
    pair.assert(0, &[]);
    let lines: Vec<&str> = pair.stdout.lines().collect();
    let [private, public] = lines[..] else { panic!("{}", pair.stdout) };
    assert!(private.starts_with("whsk_") && public.starts_with("whpk_"), "{}", pair.stdout);
    let common = ["--id", "evt_1", "--timestamp", "1614265330"];
    let signed = walhook(&[&["sign", "--secret", private], &common[..]].concat(), "{}").await;
    signed.assert(0, &[]);
    let (_, signature) = signed.stdout.trim().rsplit_once(": ").unwrap();
    assert!(signature.starts_with("v1a,"), "{signature}");
    let verify = [&["verify", "--secret", public, "--signature", signature], &common[..]].concat();
    walhook(&verify, "{}").await.assert(0, &[]);
    walhook(&verify, "{ }").await.assert(1, &["no signature"]);
    let refused = walhook(&[&["sign", "--secret", public], &common[..]].concat(), "{}").await;
    refused.assert(2, &["public key"]);
}

#[tokio::test]
async fn a_generated_secret_signs() {
    let secret = walhook(&["secret"], "").await;
    secret.assert(0, &[]);
    let secret = secret.stdout.trim();
    assert!(secret.starts_with("whsec_"), "{secret}");
    let sign =
        ["sign", "--scheme", "standard", "--secret", secret, "--id", "a", "--timestamp", "1"];
    walhook(&sign, "{}").await.assert(0, &[]);
}

/// Set up, looked at, torn down; and a dry run that touches nothing.
#[tokio::test(flavor = "multi_thread")]
async fn setup_status_and_teardown() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key)").await;
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(&database)
        .table("public.person", "person")
        .endpoint("main", &receiver.url("/"), "")
        .toml("[source]\ncreate = false");
    let client = database.client().await;

    let checked = workspace.run(&["check"]).await;
    assert_eq!(checked.code, Some(1), "nothing is set up: {checked:?}");
    let said = format!("{}{}", checked.stdout, checked.stderr);
    assert!(said.contains("walhook setup"), "{said}");

    let dry = workspace.run(&["setup", "--dry-run"]).await;
    dry.assert(0, &[]);
    assert!(dry.stdout.to_lowercase().contains("create publication"), "{}", dry.stdout);
    assert!(slot_state(&client, workspace.slot()).await.is_none());

    workspace.run(&["setup"]).await.assert(0, &[]);
    assert!(slot_state(&client, workspace.slot()).await.is_some());
    workspace.run(&["setup"]).await.assert(0, &[]);
    workspace.run(&["check"]).await.assert(0, &[]);

    let daemon = workspace.start(&database).await;
    database.execute("insert into person values (1)").await;
    receiver.wait_for(1, std::time::Duration::from_secs(60)).await;
    let status = workspace.run(&["status", "--json"]).await;
    status.assert(0, &[]);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert!(status.to_string().contains(workspace.slot()), "{status}");
    daemon.stop().await;
    // The server may take its time to notice.
    eventually(std::time::Duration::from_secs(60), "nobody reads the slot", async || {
        slot_state(&client, workspace.slot()).await.unwrap().reader.is_none().then_some(())
    })
    .await;

    workspace.run(&["teardown"]).await.assert(0, &[]);
    assert!(slot_state(&client, workspace.slot()).await.is_none());
    let left = "select count(*) from pg_publication";
    assert_eq!(client.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
}

/// Without a file: what the flags say, and the setup is done by itself.
#[tokio::test(flavor = "multi_thread")]
async fn run_with_flags_alone() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key)").await;
    let receiver = Receiver::start().await;
    let workspace = Workspace::new(&database);
    let mut command = workspace.bare_command(&["run", "--source", &database.url()]);
    command.args(["--table", "public.person=human", "--to", &receiver.url("/")]);
    command.args(["--secret", crate::harness::SECRET]);
    let daemon = crate::harness::Daemon::spawn(command);
    let client = database.client().await;
    daemon.streams(&client, "walhook", None).await;
    database.execute("insert into person values (1)").await;
    let requests = receiver.wait_for(1, std::time::Duration::from_secs(60)).await;
    assert_eq!(requests[0].json()["event"], "human.created");
    daemon.stop().await;
    receiver.assert_all_signed();
}

//! Nothing that lets somebody in anywhere comes out of walhook but on its way to the endpoint.

use std::time::Duration;

use crate::harness::{Answer, Database, Receiver, Workspace, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

/// What must not be seen anywhere, each a part of some secret.
const HUSH: [&str; 10] = [
    "HUSHPATH",
    "HUSHQUERY",
    "HUSHHEADER",
    "HUSHPROXY",
    "HUSHTEMPLATE",
    "HUSHCOOKIE",
    "HUSHTOKEN",
    "HUSHSECRET",
    "6Xb/dCcHpPea21PS1N9VY",
    "d2FsaG9vayB0ZXN0cyBzaWdu",
];

const ED25519: &str =
    "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";

#[track_caller]
fn assert_hush(what: &str, said: &str) {
    for hush in HUSH {
        if let Some(at) = said.find(hush) {
            let start = said.floor_char_boundary(at.saturating_sub(200));
            let end = said.floor_char_boundary((at + 60).min(said.len()));
            panic!("{what} shows {hush}: {}", &said[start..end]);
        }
    }
}

/// Endpoints fail in every way there is, with the log at its most talkative.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_told_anywhere() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key, name text)").await;
    let receiver = Receiver::start().await;
    let closed = Receiver::start().await;
    closed.down().await;
    // A host of its own: others' failures would keep it from ever dying.
    let dying = Receiver::start().await;
    dying.answer(|_| Answer::Status(503));
    receiver.answer(|request| match request.path.split('?').next() {
        Some("/fine/HUSHPATH" | "/ops") => Answer::Status(200),
        _ => Answer::Full(
            500,
            vec![
                ("set-cookie", "session=HUSHCOOKIE".to_owned()),
                ("x-auth-token", "HUSHTOKEN".to_owned()),
            ],
            b"no".to_vec(),
        ),
    });
    let header = "headers = { Authorization = 'Bearer HUSHHEADER', X-Key = 'HUSHHEADER' }";
    let path = "/HUSHPATH?token=HUSHQUERY";
    let proxy = |at: &Receiver| {
        let address = at.url("");
        format!("proxy = 'http://user:HUSHPROXY@{}'", address.trim_start_matches("http://"))
    };
    let elsewhere = format!("http://endpoint.example{path}");
    let template = "template = 'HUSHTEMPLATE {{ data.nothing }}'";
    let missing = "timeout = '2s'\nconnect_timeout = '1s'";
    let workspace = Workspace::new(&database)
        .table("public.person", "person")
        .endpoint("fine", &receiver.url(&format!("/fine{path}")), header)
        .endpoint("twenty", &receiver.url(&format!("/fine{path}")), "format = 'twenty'")
        .endpoint("refuses", &receiver.url(path), header)
        .endpoint("closed", &closed.url(path), header)
        .endpoint("template", &receiver.url(path), template)
        .endpoint("proxied", &elsewhere, &proxy(&receiver))
        .endpoint("no-proxy", &elsewhere, &proxy(&closed))
        .endpoint("nowhere", &format!("http://nowhere.invalid{path}"), missing)
        .endpoint("no-tls", &format!("https{}", &receiver.url(path)[4..]), missing)
        .endpoint(
            "private",
            &format!("http://localhost.{path}"),
            "deny_networks = ['127.0.0.0/8', '::1']",
        )
        .endpoint("legacy", &receiver.url(path), "signature = ['stripe']\nsecret = 'HUSHSECRET'")
        .endpoint_without_secret(
            "asymmetric",
            &dying.url(path),
            &format!("secrets = ['{ED25519}']\nretry = {{ schedule = ['50ms'] }}"),
        )
        .endpoint("ops", &receiver.url("/ops"), "events = ['walhook.*']");
    let check = workspace.run(&["check"]).await;
    assert_hush("check", &(check.stdout + &check.stderr));
    let mut command = workspace.command(&["run"]);
    command.env("RUST_LOG", "walhook=trace,debug");
    let daemon = crate::harness::Daemon::spawn(command);
    database.execute("select 1").await;
    eventually(PATIENCE, "the daemon follows", async || {
        let client = database.client().await;
        crate::harness::slot_state(&client, workspace.slot()).await?.reader
    })
    .await;
    database.execute("insert into person values (1, 'Ann')").await;
    let listed = eventually(PATIENCE, "all have failed, and one is dead", async || {
        let listed =
            workspace.run(&["deliveries", "list", "--state", "all", "--json"]).await.stdout;
        let failing = [
            "refuses",
            "closed",
            "template",
            "proxied",
            "no-proxy",
            "nowhere",
            "no-tls",
            "private",
            "legacy",
            "asymmetric",
        ];
        let all = failing.iter().all(|name| listed.contains(&format!("\"{name}\"")));
        (all && listed.contains("\"dead\"")).then_some(listed)
    })
    .await;
    eventually(PATIENCE, "the dead delivery is reported", async || {
        (!receiver.requests_to("/ops").is_empty()).then_some(())
    })
    .await;
    assert_hush("deliveries list", &listed);
    let at = listed.find("evt_").unwrap();
    let id: String =
        listed[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    for arguments in [
        &["deliveries", "show", &id][..],
        &["deliveries", "show", "--json", &id],
        &["endpoints", "list", "--json"],
        &["endpoints", "list"],
        &["status", "--json"],
        &["status"],
    ] {
        let finished = workspace.run(arguments).await;
        assert_eq!(finished.code, Some(0), "{arguments:?}: {}", finished.stderr);
        assert_hush(&arguments.join(" "), &(finished.stdout + &finished.stderr));
    }
    for report in receiver.requests_to("/ops") {
        assert_hush("a report", std::str::from_utf8(&report.body).unwrap());
    }
    daemon.sigterm();
    let finished = daemon.finished(PATIENCE).await;
    assert!(finished.stderr.contains("DEBUG"), "it was to be talkative");
    assert_hush("the log", &finished.stderr);
    for entry in std::fs::read_dir(workspace.config_path().parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && path != workspace.config_path() {
            let bytes = std::fs::read(&path).unwrap();
            assert_hush(&path.display().to_string(), &String::from_utf8_lossy(&bytes));
        }
    }
}

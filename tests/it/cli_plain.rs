//! The commands that need no database: secret, sign, verify, listen, completions; and what every
//! command says about a wrong command line or configuration.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);
const FIRST: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const FIRST_BODY: &str = r#"{"test": 2432232314}"#;

/// A body, how it is signed, and the headers that come of it.
struct Vector {
    arguments: &'static [&'static str],
    body: &'static str,
    signature: &'static str,
    headers: &'static str,
}

const VECTORS: [Vector; 3] = [
    Vector {
        arguments: &[
            "--scheme",
            "standard",
            "--secret",
            FIRST,
            "--id",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "--timestamp",
            "1614265330",
        ],
        body: FIRST_BODY,
        signature: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        headers: "webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek\nwebhook-timestamp: 1614265330\n\
                  webhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=\n",
    },
    Vector {
        arguments: &[
            "--secret",
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "--id",
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            "--timestamp",
            "1649367553",
        ],
        body: r#"{"email":"test@example.com","username":"test_user"}"#,
        signature: "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        headers: "webhook-id: msg_27UH4WbU6Z5A5EzD8u03UvzRbpk\nwebhook-timestamp: 1649367553\n\
                  webhook-signature: v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=\n",
    },
    Vector {
        arguments: &["--scheme", "twenty", "--secret", "secret", "--timestamp", "1735066639761"],
        body: r#"{"eventName":"person.created"}"#,
        signature: "d8c3fbb769758a0e405b897e92a6ca8a33aea312f3e958f25fb4ed33adb9f9c0",
        headers: "X-Twenty-Webhook-Timestamp: 1735066639761\nX-Twenty-Webhook-Signature: \
                  d8c3fbb769758a0e405b897e92a6ca8a33aea312f3e958f25fb4ed33adb9f9c0\n",
    },
];

fn walhook(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_walhook"));
    command.args(arguments);
    for variable in ["RUST_LOG", "WALHOOK_SECRET", "NO_COLOR"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(command: &mut Command, stdin: &str) -> Output {
    let mut child = command.spawn().unwrap();
    // A command that reads no stdin may be gone before it is written.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn assert_says(output: &Output, code: i32, words: &str) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(words), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "not one sentence: {said}");
}

#[test]
fn signs_and_verifies_the_vectors() {
    for vector in VECTORS {
        let signed = run(walhook(&["sign"]).args(vector.arguments), vector.body);
        assert_eq!(stdout(&signed), vector.headers, "{}", stderr(&signed));
        assert!(signed.status.success());

        let verify = |signature: &str, more: &[&str], body: &str| {
            let mut command = walhook(&["verify", "--signature", signature]);
            run(command.args(vector.arguments).args(more), body)
        };
        let right = verify(vector.signature, &[], vector.body);
        assert_eq!(right.status.code(), Some(0), "{}", stderr(&right));

        let changed = vector.body.replace('e', "E");
        assert_says(&verify(vector.signature, &[], &changed), 1, "no signature in `");
        assert_says(&verify("v1,AAAA", &[], vector.body), 1, "the signature is wrong");
        assert_says(&verify("", &[], vector.body), 1, "the signature is wrong");
        let line = format!("{}\n", vector.body);
        assert_says(&verify(vector.signature, &[], &line), 1, "without the line break");
        assert_says(&verify(vector.signature, &[], ""), 1, "stdin was empty");
        let stale = verify(vector.signature, &["--tolerance", "5m"], vector.body);
        assert_says(&stale, 1, "behind the clock");
    }
}

#[test]
fn verifies_one_of_several_signatures() {
    let list = "v1,AAAA v1a,BBBB v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    let mut command = walhook(&["verify", "--signature", list]);
    let output = run(command.args(VECTORS[0].arguments), FIRST_BODY);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn the_header_prefix_of_twenty_is_configurable() {
    let arguments = ["--signature-header-prefix", "X-Crm"];
    let mut command = walhook(&["sign"]);
    let signed = run(command.args(VECTORS[2].arguments).args(arguments), VECTORS[2].body);
    assert!(stdout(&signed).contains("X-Crm-Signature: d8c3fb"), "{}", stderr(&signed));
}

#[test]
fn a_secret_is_generated_and_may_come_from_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    for scheme in ["standard", "twenty"] {
        let secret = stdout(&run(&mut walhook(&["secret", "--scheme", scheme]), ""));
        let other = stdout(&run(&mut walhook(&["secret", "--scheme", scheme]), ""));
        assert_ne!(secret, other);
        assert_eq!(secret.lines().count(), 1);
        let secret = secret.trim();
        let path = folder.path().join(scheme);
        std::fs::write(&path, format!("{secret}\n")).unwrap();

        let sign = ["sign", "--scheme", scheme, "--id", "evt_1", "--timestamp", "1"];
        let given = run(walhook(&sign).args(["--secret", secret]), "{}");
        let from_file = run(walhook(&sign).arg("--secret-file").arg(&path), "{}");
        let from_environment = run(walhook(&sign).env("WALHOOK_SECRET", secret), "{}");
        assert!(given.status.success(), "{}", stderr(&given));
        assert_eq!(stdout(&given), stdout(&from_file));
        assert_eq!(stdout(&given), stdout(&from_environment));
    }
    assert!(stdout(&run(&mut walhook(&["secret"]), "")).starts_with("whsec_"));
}

#[test]
fn wrong_use_gets_one_sentence_and_2() {
    let sign = |more: &[&str]| run(walhook(&["sign"]).args(more), "{}");
    assert_says(&sign(&["--id", "x"]), 2, "there is no secret");
    assert_says(&sign(&["--secret", FIRST]), 2, "--id");
    assert_says(&sign(&["--id", "x", "--secret", "hunter2"]), 2, "whsec_");
    assert!(!stderr(&sign(&["--id", "x", "--secret", "hunter2"])).contains("hunter2"));
    assert_says(&sign(&["--id", "a\nb", "--secret", FIRST]), 2, "id");
    assert_says(&sign(&["--id", "x", "--secret-file", "/missing"]), 2, "/missing");
    let far = sign(&["--id", "x", "--secret", FIRST, "--timestamp", "9223372036854775807"]);
    assert_says(&far, 2, "too far off");
    let verify = run(&mut walhook(&["verify", "--signature", "x", "--secret", FIRST]), "");
    assert_says(&verify, 2, "--id");
    let no_time = ["verify", "--signature", "x", "--secret", FIRST, "--id", "x"];
    assert_says(&run(&mut walhook(&no_time), ""), 2, "--timestamp");
    assert_says(&run(walhook(&["secret"]).env("RUST_LOG", "walhook=loud"), ""), 2, "RUST_LOG");

    for wrong in [
        &["secret", "--scheme", "strange"][..],
        &["frobnicate"],
        &[],
        &["sign", "--timestamp", "soon"],
        &["demo", "--for", "soon"],
        &["run", "--table", "a"],
        &["listen", "--status", "42"],
        &["listen", "--forward-to", "ftp://h"],
        &["listen", "--max-body", "big"],
    ] {
        let output = run(&mut walhook(wrong), "");
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", stderr(&output));
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
    for fine in [&["--help"][..], &["--version"], &["run", "--help"], &["help", "listen"]] {
        let output = run(&mut walhook(fine), "");
        assert!(output.status.success() && output.stderr.is_empty(), "{fine:?}");
    }
}

#[test]
fn a_wrong_configuration_gets_one_sentence_and_2() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        run(walhook(arguments).current_dir(folder.path()).env_remove("DATABASE_URL"), "")
    };
    assert_says(&run(&["run"]), 2, "walhook.toml");
    assert_says(&run(&["run", "-c", "missing.toml"]), 2, "missing.toml");
    let both = ["run", "-c", "a.toml", "--source", "postgres://ann@h/x"];
    assert_says(&run(&both), 2, "keep one of them");
    assert_says(&run(&["run", "--source", "postgres://ann@h/x"]), 2, "add --table");
    for (text, words) in [
        (&b"[source]\nulr = 'x'"[..], "walhook.toml:2: `source.ulr` is an unknown key"),
        (b"[source]\nurl = '${DATABASE_URL}'", "DATABASE_URL, which is not set"),
        (b"\xff\xfe", "walhook.toml"),
        (b"", "source"),
    ] {
        std::fs::write(folder.path().join("walhook.toml"), text).unwrap();
        for command in ["run", "check", "setup", "teardown", "status"] {
            assert_says(&run(&[command]), 2, words);
        }
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&run(&mut walhook(&["completions", shell]), ""));
        assert!(script.contains("listen") && script.contains("teardown"), "{shell}");
    }
}

/// `walhook listen --json` on a free port.
struct Listener {
    child: Child,
    out: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Listener {
    fn start(arguments: &[&str]) -> Listener {
        let mut child =
            walhook(&["listen", "--port", "0", "--json"]).args(arguments).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let first: Value = serde_json::from_str(&line).unwrap();
        let url = first["listening"].as_str().unwrap();
        let address = url.strip_prefix("http://").unwrap().parse().unwrap();
        Listener { child, out, address }
    }

    /// The next request it shows.
    fn shown(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    /// Stops it as an init system would. Its exit status and what it said on stderr.
    fn stop(mut self) -> (ExitStatus, String) {
        let id = i32::try_from(self.child.id()).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not stop");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status, said)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a request; the status and the body that come back.
fn send(address: SocketAddr, method: &str, headers: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let headers: String = headers.lines().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    let head = format!(
        "{method} /hooks?a=b HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // What is too large may be refused before it is sent.
    let _ = stream.write_all(body.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).unwrap_or_default().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}

fn signed(scheme: &str, secret: &str, body: &str) -> String {
    let arguments = ["sign", "--scheme", scheme, "--secret", secret, "--id", "evt_1"];
    let output = run(&mut walhook(&arguments), body);
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

#[test]
fn listen_verifies_shows_and_counts() {
    let mut listener = Listener::start(&["--secret", FIRST]);
    let at = listener.address;
    let body = "{\"event\":\"person.created\",\"data\":{\"n\":1.10}}";

    let headers = signed("standard", FIRST, body) + "webhook-attempt: 2\n";
    assert_eq!(send(at, "POST", &headers, body).0, 200);
    let line = listener.line();
    // Byte for byte: neither the order of keys nor a digit is lost.
    assert!(line.ends_with(&format!(",\"body\":{body}}}\n")), "{line}");
    let shown: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(shown["verified"], true);
    assert_eq!(shown["schemes"], serde_json::json!(["standard"]));
    assert_eq!((&shown["id"], &shown["attempt"]), (&"evt_1".into(), &2.into()));
    assert_eq!((&shown["method"], &shown["path"]), (&"POST".into(), &"/hooks?a=b".into()));

    assert_eq!(send(at, "PUT", &signed("twenty", FIRST, body), body).0, 200);
    assert_eq!(listener.shown()["schemes"], serde_json::json!(["twenty"]));

    let (status, said) = send(at, "POST", &headers, &body.replace('1', "2"));
    assert_eq!(status, 401);
    assert!(said.contains("no signature in `webhook-signature` matches"), "{said}");
    let shown = listener.shown();
    assert_eq!((&shown["verified"], &shown["status"]), (&false.into(), &401.into()));

    assert_eq!(send(at, "POST", "", body).0, 401);
    listener.shown();
    // A browser's; and an endpoint's, whose event stands in the query.
    assert_eq!(send(at, "GET", "", "").0, 200);
    assert_eq!(send(at, "GET", "webhook-id: evt_1", "").0, 401);
    assert_eq!(listener.shown()["method"], "GET");
    assert_eq!(send(at, "GET", &signed("standard", FIRST, ""), "").0, 200);
    assert_eq!(listener.shown()["path"], "/hooks?a=b");

    let (status, said) = listener.stop();
    assert_eq!(status.code(), Some(0));
    assert!(
        said.contains(
            "received 6 requests, 3 with the right signature, 3 with a wrong or no signature"
        ),
        "{said}"
    );
}

#[test]
fn listen_answers_what_it_is_told() {
    let listener = Listener::start(&["--status-sequence", "500,503,204"]);
    let statuses: Vec<u16> =
        (0..4).map(|_| send(listener.address, "POST", "", "not json").0).collect();
    assert_eq!(statuses, [500, 503, 204, 204]);
    let listener = Listener::start(&["--status", "410"]);
    assert_eq!(send(listener.address, "POST", "", "{}").0, 410);
}

#[test]
fn listen_reads_no_more_than_it_should() {
    let mut listener = Listener::start(&["--max-body", "1kB"]);
    let (status, said) = send(listener.address, "POST", "", &"x".repeat(2_000));
    assert_eq!(status, 413);
    assert!(said.contains("larger than 1000 bytes"), "{said}");
    assert_eq!(listener.shown()["body"], "");
    let chunks = "7D0\r\n".to_owned() + &"x".repeat(2_000) + "\r\n0\r\n\r\n";
    let mut stream = TcpStream::connect(listener.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head =
        "POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all((head.to_owned() + &chunks).as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(listener.shown()["status"], 413);
    assert_eq!(send(listener.address, "POST", "", &"x".repeat(1_000)).0, 200);
}

#[test]
fn listen_forwards_what_is_genuine() {
    let mut behind = Listener::start(&["--status", "418"]);
    let url = format!("http://{}/other", behind.address);
    let front = Listener::start(&["--secret", FIRST, "--forward-to", &url]);
    assert_eq!(send(front.address, "POST", "", "{}").0, 401);
    assert_eq!(send(front.address, "POST", &signed("standard", FIRST, "{}"), "{}").0, 418);
    let shown = behind.shown();
    assert_eq!((&shown["path"], &shown["id"]), (&"/other?a=b".into(), &"evt_1".into()));
    assert_eq!(shown["headers"]["host"], behind.address.to_string());

    behind.stop();
    let (status, said) = send(front.address, "POST", &signed("standard", FIRST, "{}"), "{}");
    assert_eq!((status, said.as_str()), (502, "cannot forward: nothing answers there\n"));
}

#[test]
fn listen_says_that_a_port_is_taken() {
    let listener = Listener::start(&[]);
    let port = listener.address.port().to_string();
    assert_says(&run(&mut walhook(&["listen", "--port", &port]), ""), 1, "choose another port");
}

#[test]
fn listen_prints_for_people_without_colour_into_a_pipe() {
    let mut child = walhook(&["listen", "--port", "0"]).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    err.read_line(&mut line).unwrap();
    let rest = line.split_once("http://").unwrap().1;
    let address = rest.split([';', ' ']).next().unwrap().parse().unwrap();
    assert!(line.contains("signatures are not checked"), "{line}");
    send(address, "POST", "webhook-id: evt_1", "{\"event\":\"a.created\",\"data\":{\"id\":1}}");
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut lines = String::new();
    out.read_line(&mut lines).unwrap();
    out.read_line(&mut lines).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(lines.ends_with(" • a.created  evt_1\n    id  1\n"), "{lines:?}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut child = walhook(&["completions", "zsh"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

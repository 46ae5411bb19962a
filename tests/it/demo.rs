//! `walhook demo`, as `make demo` runs it.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// A folder for temporary files, open to the server's user as /tmp is.
fn temporary() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
    dir
}

fn demo(temporary: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_walhook"));
    command.arg("demo").env("TMPDIR", temporary.path()).env_remove("RUST_LOG");
    command
}

fn left_behind(temporary: &TempDir) -> Vec<std::path::PathBuf> {
    fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn ends_by_itself_with_books_that_agree() {
    let temporary = temporary();
    let output =
        demo(&temporary).args(["--for", "8s", "--rate", "200", "--json"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");

    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["complete"], true, "{summary}");
    assert_eq!(summary["committed"], summary["delivered"]);
    for kind in ["created", "updated", "deleted"] {
        assert!(summary["committed"][kind].as_u64() > Some(0), "{kind}: {summary}");
    }
    assert_eq!(summary["records"]["compared"], summary["records"]["equal"]);
    assert!(summary["latencyMs"]["p50"].as_f64() > Some(0.0), "{summary}");
    assert_eq!(left_behind(&temporary), Vec::<std::path::PathBuf>::new());
}

#[test]
fn ctrl_c_ends_it_with_the_summary() {
    let temporary = temporary();
    let mut child = demo(&temporary)
        .args(["--rate", "50"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let pid = Pid::from_child(&child);
    for line in lines.by_ref() {
        if line.unwrap().contains(".created") {
            kill_process(pid, Signal::INT).unwrap();
            break;
        }
    }
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}\n{}", rest.join("\n"));
    assert!(rest.last().unwrap().contains("committed changes were delivered"), "{rest:?}");
    // A pipe is no terminal.
    assert!(!rest.iter().any(|line| line.contains('\x1b')), "{rest:?}");
    assert_eq!(left_behind(&temporary), Vec::<std::path::PathBuf>::new());
}

#[test]
fn without_a_server_it_says_what_to_do() {
    let temporary = temporary();
    let output = demo(&temporary).env("WALHOOK_PG_BIN", temporary.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("WALHOOK_PG_BIN"), "{said}");
}

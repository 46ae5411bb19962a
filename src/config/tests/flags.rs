//! The command line instead of a file.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    flags: Flags,
}

fn flags(line: &[&str]) -> Flags {
    let words = ["walhook", "--source", "postgres://ann:hunter2@h/crm"];
    Line::try_parse_from(words.iter().chain(line)).unwrap_or_else(|e| panic!("{e}")).flags
}

fn config(line: &[&str], needs: Needs) -> Result<Config, String> {
    Config::from_flags(&flags(line), Some(("WALHOOK_SECRET", SECRET.into())), needs)
        .map_err(|e| e.to_string())
}

#[test]
fn are_enough() {
    let line = [
        "--table",
        "public.people=person",
        "--table",
        "crm.\"a=b\"=pair",
        "--table",
        "notes",
        "--to",
        "crm=https://example.com/hooks?a=b",
        "--to",
        "https://127.0.0.1:8443/?x=https://y",
        "--events",
        "person.*,*.deleted",
    ];
    let config = config(&line, Needs::Everything).unwrap();
    assert!(config.source.create);
    assert_eq!(
        records(&config),
        ["public.people=person", "crm.\"a=b\"=pair", "public.notes=notes"]
    );
    let names: Vec<_> = config.endpoints.iter().map(|e| (&*e.name, e.url.as_str())).collect();
    assert_eq!(
        names,
        [
            ("crm", "https://example.com/hooks?a=b"),
            ("127.0.0.1:8443", "https://127.0.0.1:8443/?x=https://y")
        ]
    );
    assert!(config.endpoints.iter().all(|e| e.signers.len() == 1));
    assert!(!config.endpoints[1].filter.matches("note.created"));
    assert_eq!(config.journal.path, PathBuf::from("walhook.db"));
}

#[test]
fn that_are_wrong_get_one_sentence() {
    let table = ["--table", "a"];
    let said = |line: &[&str]| config(&[&table, line].concat(), Needs::Everything).unwrap_err();
    assert_eq!(said(&[]), "the command line names no endpoint: add --to");
    assert!(said(&["--to", "example.com"]).starts_with("`--to` is no URL"));
    assert_eq!(
        said(&["--to", "https://h/a", "--to", "https://h/b"]),
        "`--to` names h a second time: write NAME=URL for each, to tell them apart"
    );
    assert!(said(&["--to", "https://h", "--slot", "A"]).starts_with("`--slot` is \"A\""));
    assert!(said(&["--to", "https://h", "--secret", "hunter2"]).starts_with("`--secret` cannot"));
    assert_eq!(
        config(&["--to", "https://h"], Needs::Everything).unwrap_err(),
        "the command line names no table: add --table"
    );
}

#[test]
fn without_a_signature_need_no_secret() {
    let flags = flags(&["--table", "a", "--to", "http://h", "--signature", "none"]);
    assert!(!flags.lacks_secret());
    let config = Config::from_flags(&flags, None, Needs::Everything).unwrap();
    assert!(config.endpoints[0].signers.is_empty());
    assert!(!format!("{flags:?}").contains("hunter2"));
}

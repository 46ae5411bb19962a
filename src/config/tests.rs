use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::capture::Origin;
use crate::delivery::{BatchOptions, Ordering, Scheme};
use crate::event::TableRule;
use crate::journal::Start;
use crate::postgres::TablePattern;

mod flags;
mod pace;
mod wrong;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn environment(name: &str) -> Option<String> {
    match name {
        "DATABASE_URL" => Some("postgres://ann:hunter2@db.example.com/crm".into()),
        "CRM_SECRET" => Some(SECRET.into()),
        "TOKEN" => Some("t0ken".into()),
        "WORKERS" => Some("7".into()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("conf/walhook.toml"), text, Needs::Everything, &environment)
}

/// A file in which `source`, `table`, `endpoint` and `rest` are lines of those sections; what they
/// leave out is as it should be.
fn file(source: &str, table: &str, endpoint: &str, rest: &str) -> String {
    let or = |given: &str, key: &str, default: &str| {
        let there = given.lines().any(|line| line.starts_with(key));
        if there { String::new() } else { format!("{default}\n") }
    };
    format!(
        "[source]\n{source}\n{}[[table]]\n{table}\n{}[[endpoint]]\n{endpoint}\n{}{}{rest}\n",
        or(source, "url =", "url = \"${DATABASE_URL}\""),
        or(table, "name", "name = \"public.people\""),
        or(endpoint, "url", "url = \"https://example.com/hooks\""),
        or(endpoint, "secret", "secret = \"${CRM_SECRET}\""),
    )
}

/// The tables and what their records are called.
fn records(config: &Config) -> Vec<String> {
    let record =
        |rule: &TableRule| format!("{}={}", rule.pattern, rule.record.as_deref().unwrap_or("?"));
    config.tables.iter().map(|table| record(&table.rule)).collect()
}

#[test]
fn the_smallest_file_gets_the_defaults() {
    let config = parse(&file("", "", "", "")).unwrap();
    assert_eq!(config.source.connection.database(), "crm");
    assert_eq!((&*config.source.slot, &*config.source.publication), ("walhook", "walhook"));
    assert!(!config.source.create && !config.source.int8_as_string && !config.source.failover);
    assert!(config.source.origin == Origin::Any && !config.source.replace_invalid_utf8);
    assert_eq!(config.source.lag_warning_bytes, Some(1 << 30));
    assert_eq!(
        config.tables,
        [TableConfig {
            rule: TableRule::new(TablePattern::exact("public", "people"), Some("people".into())),
            filter: None,
            whole: false,
        }]
    );
    let endpoint = &config.endpoints[0];
    assert_eq!(endpoint.name, "example.com");
    assert_eq!(endpoint.signers.len(), 1);
    assert_eq!(endpoint.signers[0].scheme(), Scheme::Standard);
    assert_eq!((endpoint.ordering, endpoint.concurrency), (Ordering::Record, 32));
    assert_eq!(endpoint.timeout, Duration::from_secs(15));
    assert_eq!(endpoint.connect_timeout, Duration::from_secs(5));
    assert_eq!(endpoint.start, Start::Now);
    assert_eq!(endpoint.batch, BatchOptions::SINGLE);
    assert!(endpoint.filter.matches("people.created") && !endpoint.networks.private);
    assert_eq!(
        config.journal,
        JournalConfig {
            path: PathBuf::from("conf/walhook.db"),
            retain: Duration::from_secs(7 * 86_400),
            max_size_bytes: 10 << 30,
        }
    );
    assert_eq!(config.daemon.stop_grace, Duration::from_secs(30));
}

#[test]
fn a_lag_is_said_at_a_size_or_never() {
    for (written, expected) in
        [("1B", Some(1)), ("0B", None), ("0", None), ("never", None), ("2GiB", Some(2 << 30))]
    {
        let text = file(&format!("lag_warning = \"{written}\""), "", "", "");
        assert_eq!(parse(&text).unwrap().source.lag_warning_bytes, expected, "{written}");
    }
}

#[test]
fn everything_that_is_written_counts() {
    let text = r#"
        [source]
        url = "host=/run dbname=crm user=ann"
        capture = "replication"
        slot = "crm_1"
        publication = "Größe"
        failover = false
        create = true
        int8 = "string"
        origin = "none"
        invalid_utf8 = "replace"
        lag_warning = "512MiB"

        [[table]]
        name = 'crm."old.people"'
        record = "person"

        [[table]]
        name = "notes"

        [[endpoint]]
        name = "crm-sync"
        url = "http://127.0.0.1:9000/hooks"
        events = ["person.*", "*.deleted"]
        secrets = ["${CRM_SECRET}", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"]
        signature = ["standard", "twenty"]
        signature_header_prefix = "X-Crm"
        headers = { Authorization = "Bearer ${TOKEN}", X-Z = "1", X-A = "2" }
        when = "data.status == 'active' && 'email' in updatedFields"
        ordering = "none"
        concurrency = "${WORKERS}"
        timeout = "2s"
        connect_timeout = "250ms"
        retry = { schedule = ["1s", "1m"], jitter = 0 }
        start = "earliest"

        [[endpoint]]
        url = "https://example.com"
        signature = ["none"]
        ordering = "strict"
        retry = { initial = "1s", factor = 2, max = "1m", give_up_after = "1h", jitter = 0.1 }
        allow_private_network = true

        [journal]
        path = "/var/lib/walhook.db"
        retain = "1h30m"
        max_size = "1GB"

        [daemon]
        stop_grace = "0s"
    "#;
    let config = parse(text).unwrap();
    assert_eq!(&*config.source.slot, "crm_1");
    assert_eq!(&*config.source.publication, "Größe");
    assert!(config.source.create && config.source.int8_as_string);
    assert!(config.source.origin == Origin::None && config.source.replace_invalid_utf8);
    assert_eq!(config.source.lag_warning_bytes, Some(512 << 20));
    assert_eq!(records(&config), ["crm.\"old.people\"=person", "public.notes=notes"]);
    let first = &config.endpoints[0];
    assert!(first.filter.matches("note.deleted") && !first.filter.matches("note.created"));
    assert!(first.when.is_some() && config.endpoints[1].when.is_none());
    let schemes: Vec<_> = first.signers.iter().map(|signer| signer.scheme()).collect();
    assert_eq!(schemes, [Scheme::Standard, Scheme::Twenty]);
    let signed = first.signers[1].sign("x", "", 0, b"").unwrap();
    assert!(signed.contains_key("x-crm-signature"));
    let headers: Vec<_> =
        first.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    assert_eq!(headers, [("authorization", &b"Bearer t0ken"[..]), ("x-z", b"1"), ("x-a", b"2")]);
    assert_eq!((first.ordering, first.concurrency), (Ordering::None, 7));
    assert_eq!(first.connect_timeout, Duration::from_millis(250));
    assert_eq!(first.start, Start::Earliest);
    assert!(first.networks.private, "a literal loopback address is meant");
    let second = &config.endpoints[1];
    assert!(second.signers.is_empty() && second.networks.private);
    assert_eq!((second.ordering, second.concurrency), (Ordering::Strict, 1));
    assert_eq!(config.journal.path, PathBuf::from("/var/lib/walhook.db"));
    assert_eq!(config.journal.retain, Duration::from_secs(5_400));
    assert_eq!(config.journal.max_size_bytes, 1_000_000_000);
    assert_eq!(config.daemon.stop_grace, Duration::ZERO);
}

/// Each wrong file and the sentence it gets. Lines of `file`: 1 is `[source]`.
#[test]
fn batches_have_defaults_and_limits() {
    let batch = |line: &str| parse(&file("", "", line, "")).unwrap().endpoints[0].batch;
    let default = BatchOptions { max_events: 100, max_bytes: 1 << 20, max_wait: Duration::ZERO };
    assert_eq!(batch("batch = {}"), default);
    let written =
        BatchOptions { max_events: 1_000, max_bytes: 2_000, max_wait: Duration::from_millis(250) };
    let line = "batch = { max_events = 1000, max_bytes = \"2kB\", max_wait = \"250ms\" }";
    assert_eq!(batch(line), written);
}

#[test]
fn nothing_secret_is_in_the_debug_text() {
    let config = parse(&file(
        "",
        "",
        "url = \"https://example.com/t0ken\"\nheaders = { Authorization = \"Bearer ${TOKEN}\" }",
        "",
    ))
    .unwrap();
    let shown = format!("{config:?}");
    for secret in ["hunter2", "t0ken", "MfKQ9r8"] {
        assert!(!shown.contains(secret), "{secret} is in {shown}");
    }
}

#[test]
fn secrets_and_urls_come_from_files_beside_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hook.secret"), format!("{SECRET}\n")).unwrap();
    std::fs::write(folder.path().join("url"), "postgres://ann@h/crm").unwrap();
    let path = folder.path().join("walhook.toml");
    let text = "[source]\nurl_file = 'url'\n[[table]]\nname = 'a'\n[[endpoint]]\nurl = 'http://h'\n\
                secret_file = 'hook.secret'";
    std::fs::write(&path, text).unwrap();
    let config = Config::load(&path, Needs::Everything).unwrap();
    assert_eq!(config.source.connection.database(), "crm");
    assert_eq!(config.endpoints[0].signers.len(), 1);
    assert_eq!(config.journal.path, folder.path().join("walhook.db"));
}

#[test]
fn each_scheme_takes_the_secrets_it_can_sign_with() {
    let folder = tempfile::tempdir().unwrap();
    let key = crate::delivery::signature::generate_key_pair().unwrap();
    let key = secrecy::ExposeSecret::expose_secret(&key.signing).to_owned();
    std::fs::write(folder.path().join("secrets"), format!("{key}\n{SECRET}\n\ntext\n")).unwrap();
    let path = folder.path().join("walhook.toml");
    let text = "[source]\nurl = 'postgres://ann@h/crm'\n[[table]]\nname = 'a'\n[[endpoint]]\n\
                url = 'http://h'\nsecret_file = 'secrets'\n\
                signature = ['standard', 'twenty', 'stripe', 'github']\nsignature_header = 'X-Pay'";
    std::fs::write(&path, text).unwrap();
    let config = Config::load(&path, Needs::Everything).unwrap();
    let signers = &config.endpoints[0].signers;
    let signed = |place: usize| signers[place].sign("evt_1", "a.created", 1_000, b"{}").unwrap();
    let standard = signed(0)["webhook-signature"].to_str().unwrap().to_owned();
    let versions: Vec<_> =
        standard.split(' ').map(|entry| entry.split_once(',').unwrap().0).collect();
    assert_eq!(versions, ["v1a", "v1"]);
    assert_eq!(signed(2)["x-pay"].to_str().unwrap().matches("v1=").count(), 2);
    for (place, scheme) in [(1, Scheme::Twenty), (3, Scheme::Github)] {
        let alone = crate::delivery::Signer::new(scheme, &[SECRET.into()]).unwrap();
        alone.verify(&signed(place), b"{}", 1_000, None).unwrap();
    }
}

#[test]
fn formats_and_templates_are_built() {
    let format =
        |endpoint: &str| parse(&file("", "", endpoint, "")).unwrap().endpoints.remove(0).format;
    assert_eq!(format("").name(), "walhook");
    for name in crate::event::Format::NAMES {
        assert_eq!(format(&format!("format = {name:?}")).name(), name);
    }
    let twenty = format("url = \"https://example.com/t0ken\"\nformat = \"twenty\"");
    assert!(!format!("{twenty:?}").contains("t0ken"));
    let inline =
        format("template = '{\"a\": {{ data.t0ken }}}'\ncontent_type = 'application/json'");
    let shown = format!("{inline:?}");
    assert!(shown.contains("application/json") && !shown.contains("t0ken"), "{shown}");
}

#[test]
fn templates_lie_beside_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("walhook.toml");
    let text = "[source]\nurl = 'postgres://ann@h/crm'\n[[table]]\nname = 'a'\n[[endpoint]]\n\
                url = 'http://h'\nsignature = ['none']\ntemplate = 'slack.json.j2'";
    std::fs::write(&path, text).unwrap();
    let template = folder.path().join("slack.json.j2");
    std::fs::write(&template, "{\"text\": {{ data.name }}}").unwrap();
    let config = Config::load(&path, Needs::Everything).unwrap();
    assert_eq!(config.endpoints[0].format.name(), "template");
    assert!(format!("{:?}", config.endpoints[0].format).contains("slack.json.j2"));
    for (text, sentence) in [
        (
            "{\"text\": {{ data.name }},\n}",
            "names slack.json.j2, which makes no JSON of a sample event: look for a comma too many or too few, or a quote that is missing",
        ),
        (
            "{\"text\":\n\n {{ data.name | upper(1, 2) }}}",
            "names slack.json.j2, which has an error in line 3: too many arguments",
        ),
        (
            "{% include 'passwd' %}",
            "names slack.json.j2, which has an error in line 1: syntax error: unknown statement include",
        ),
    ] {
        std::fs::write(&template, text).unwrap();
        let error = Config::load(&path, Needs::Everything).unwrap_err();
        assert_eq!(error.line(), Some(8));
        assert!(error.to_string().ends_with(&format!("`endpoint.template` {sentence}")), "{error}");
    }
}

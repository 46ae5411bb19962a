//! Files with faults: each fault gets one sentence, with its line.

use super::*;

#[test]
fn wrong_files_get_one_sentence() {
    let source = |line: &str| file(line, "", "", "");
    let table = |line: &str| file("", line, "", "");
    let endpoint = |line: &str| file("", "", line, "");
    let rest = |line: &str| file("", "", "", line);
    let long = |text: &str| format!("conf/walhook.toml:{text}");
    let mut wrong = String::new();
    for (text, sentence) in [
        (
            String::new(),
            "1: has no `url`: write [source] with url = \"postgres://user@host/database\"",
        ),
        ("[source".into(), "1: this is not TOML: "),
        ("[source]\nurl = \"hunter2\nx = 1".into(), "2: this is not TOML: "),
        ("source = 3".into(), "1: `source` is the number 3: write a table"),
        (
            format!("[soruce]\n{}", file("", "", "", "")),
            "1: `soruce` is an unknown key: did you mean `source`?",
        ),
        (source("ulr = 1"), "2: `source.ulr` is an unknown key: did you mean `url`?"),
        (
            endpoint("template = ' '"),
            "8: `endpoint.template` is empty: name a file, or write the text itself, such as \"{{ event }}\"",
        ),
        (
            endpoint("batch = { max_events = 1, max_wait = '1s' }"),
            "8: `endpoint.batch.max_wait` has no effect with max_events = 1, for there is nothing to wait for: remove one of the two",
        ),
        (
            endpoint("allow_networks = ['10.1.0.0/16']\ndeny_networks = ['10.0.0.0/8']"),
            "8: `endpoint.allow_networks` names 10.1.0.0/16, which `deny_networks` forbids with 10.0.0.0/8 and so wins: remove one of the two",
        ),
        (source("url = 5"), "2: `source.url` is the number 5: write a text in quotes"),
        (
            source("url = \"${MISSING}\""),
            "2: `source.url` needs the environment variable MISSING, which is not set: set it, or write ${MISSING:-default}",
        ),
        (
            source("url = \"mysql://hunter2@h/x\""),
            "2: `source.url` names no database walhook can connect to: ",
        ),
        (
            source("url_file = \"missing\""),
            "2: `source.url_file` stands beside `url`: keep one of them",
        ),
        (
            source("slot = \"Bad Slot\""),
            "2: `source.slot` is \"Bad Slot\", which is no name of a slot: use up to 63 lower-case letters, digits and underscores",
        ),
        (
            source("publication = \"\""),
            "2: `source.publication` is \"\", which is no name of a publication: use 1 to 63 bytes",
        ),
        (
            source("capture = \"x\""),
            "2: `source.capture` is \"x\": write \"replication\" or \"outbox\"",
        ),
        (source("failover = 1"), "2: `source.failover` is the number 1: write true or false"),
        (
            source("origin = \"local\""),
            "2: `source.origin` is \"local\": write \"any\" or \"none\"",
        ),
        (
            source("invalid_utf8 = \"skip\""),
            "2: `source.invalid_utf8` is \"skip\": write \"stop\" or \"replace\"",
        ),
        (
            source("lag_warning = \"much\""),
            "2: `source.lag_warning` is \"much\", which is no size: write a whole number with a unit (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB), such as \"512MiB\", or \"never\"",
        ),
        (
            source("lag_warning = 1024"),
            "2: `source.lag_warning` is the number 1024: write a size in quotes, such as \"1GiB\", or \"never\"",
        ),
        (
            source("int8 = \"float\""),
            "2: `source.int8` is \"float\": write \"number\" or \"string\"",
        ),
        (source("slot = \"a\"\nslot = \"b\""), "3: this is not TOML: duplicate key"),
        (table("nmae = \"x\""), "5: `table.nmae` is an unknown key: did you mean `name`?"),
        (
            table("name = \"crm.p?\""),
            "5: `table.name` is \"crm.p?\", and a question mark has no meaning in a pattern: write an asterisk for any characters, and double quotes around a name that really holds a question mark",
        ),
        (
            table("name = \"a.b.c\""),
            "5: `table.name` is \"a.b.c\", which has more than a schema and a table: write the table as \"schema.table\", with double quotes around a part that holds a dot, a quote or an asterisk",
        ),
        (
            table("name = \"two words\""),
            "5: `table.name` names the table \"two words\", which cannot begin an event's name: add record = \"…\", a word such as \"person\"",
        ),
        (
            table("record = \"two words\""),
            "5: `table.record` is \"two words\", which cannot begin an event's name: use a word without spaces and asterisks, such as \"person\"",
        ),
        (
            table("snapshot = true"),
            "5: `table.snapshot` is not supported by this version of walhook: remove it",
        ),
        (
            rest("[[table]]\nname = \"people\""),
            "12: `table.name` names the table public.people a second time (first in line 6): remove one of them",
        ),
        (rest("[table]\n"), "11: this is not TOML: duplicate key"),
        (
            endpoint("url = \"no url\""),
            "8: `endpoint.url` is no URL (relative URL without a base): write one such as \"https://example.com/hooks\"",
        ),
        (
            endpoint("url = \"ftp://example.com\""),
            "8: `endpoint.url` begins with ftp: and events go out by HTTP: write an https:// or http:// URL",
        ),
        (
            endpoint("url = \"https://ann:hunter2@example.com\""),
            "8: `endpoint.url` holds a user name or password: take it out and write headers = { Authorization = \"…\" }",
        ),
        (
            endpoint("name = \"a b\""),
            "8: `endpoint.name` is \"a b\", which cannot name an endpoint: use 1 to 100 letters, digits, hyphens, dots and underscores",
        ),
        (
            endpoint("secret = \"\""),
            "8: `endpoint.secret` is empty: `walhook secret` generates a secret",
        ),
        (
            endpoint("secret = \"hunter2\""),
            "8: `endpoint.secret` cannot be used: secret 1 does not begin with whsec_; ",
        ),
        (
            endpoint("secrets = []"),
            "7: `endpoint` \"example.com\" has no secret to sign with: run `walhook secret` and write secret = \"…\" (or signature = [\"none\"] to send without a signature)",
        ),
        (
            endpoint("secret_file = \"x\"\nsecret = \"y\""),
            "8: `endpoint.secret_file` says what another key says too: keep one of `secret`, `secrets` and `secret_file`",
        ),
        (
            endpoint("signature = [\"none\"]"),
            "10: `endpoint.secret` has no effect with signature = [\"none\"]: remove one of the two",
        ),
        (
            endpoint("signature = [\"none\", \"twenty\"]"),
            "8: `endpoint.signature` names \"none\" beside a scheme: keep one or the other",
        ),
        (
            endpoint("signature = [\"twnety\"]"),
            "8: `endpoint.signature` names \"twnety\": did you mean `twenty`?",
        ),
        (
            endpoint("signature = [\n\"twenty\",\n\"gihtub\"]"),
            "10: `endpoint.signature` names \"gihtub\": did you mean `github`?",
        ),
        (
            endpoint("signature = \"twenty\""),
            "8: `endpoint.signature` is a text: write a list of texts, such as [\"a\", \"b\"]",
        ),
        (
            endpoint("signature = []"),
            "8: `endpoint.signature` is empty: write [\"standard\"], or [\"none\"] to send without a signature",
        ),
        (
            endpoint("signature_header_prefix = \"X\""),
            "8: `endpoint.signature_header_prefix` has no effect without signature = [\"twenty\"]: remove it, or add the scheme",
        ),
        (
            endpoint("signature_header = \"X\""),
            "8: `endpoint.signature_header` has no effect without signature = [\"stripe\"]: remove it, or add the scheme",
        ),
        (
            endpoint("signature = [\"stripe\"]\nsignature_header = \"webhook-signature\""),
            "9: `endpoint.signature_header` cannot be used: \"webhook-signature\" is a header of the scheme `standard`; choose another name",
        ),
        (
            endpoint("signature = [\"stripe\"]\nsignature_header = \"Host\""),
            "9: `endpoint.signature_header` names the header host, which walhook writes for something else: choose another name",
        ),
        (
            endpoint(
                "signature = [\"stripe\", \"twenty\"]\nsignature_header_prefix = \"X\"\nsignature_header = \"X-Signature\"",
            ),
            "10: `endpoint.signature_header` names the header x-signature, which walhook writes for something else: choose another name",
        ),
        (
            endpoint("signature = [\"standard\", \"github\"]\nsecret = \"hunter2\""),
            "9: `endpoint.secret` holds nothing that the scheme standard can sign with: add a whsec_… or whsk_… secret (`walhook secret --scheme standard` generates one), or take \"standard\" out of `signature`",
        ),
        (
            endpoint(
                "signature = [\"standard\", \"github\"]\nsecrets = [\n\"${CRM_SECRET}\",\n\"whsk_hunter2\"]",
            ),
            "11: `endpoint.secrets` cannot be used: secret 2 is fit for none of the schemes standard, github; remove or replace it",
        ),
        (
            endpoint("secrets = [\n\"${CRM_SECRET}\",\n\"whsec_hunter2\"]"),
            "10: `endpoint.secrets` cannot be used: secret 2 ",
        ),
        (
            endpoint("signature = [\"stripe\"]\nheaders = { Stripe-Signature = \"x\" }"),
            "9: `endpoint.headers.Stripe-Signature` is written by walhook itself: remove it",
        ),
        (
            endpoint("when = \"evnt == 'x'\""),
            "8: `endpoint.when` cannot be used: names \"evnt\", which is not there: did you mean \"event\"? (character 1)",
        ),
        (endpoint("when = \"data.\""), "8: `endpoint.when` cannot be used: is no CEL: "),
        (endpoint("events = []"), "8: `endpoint.events` cannot be used: "),
        (endpoint("events = [\"person.*\",\n\"\"]"), "9: `endpoint.events` cannot be used: "),
        (
            endpoint("headers = { \"a b\" = \"c\" }"),
            "8: `endpoint.headers.a b` is no header's name: use letters, digits and hyphens",
        ),
        (
            endpoint("headers = { A = \"hunter2\\n\" , B = \"hunter2\\nx\" }"),
            "8: `endpoint.headers.B` holds a line break or another character that no header may carry",
        ),
        (
            endpoint("headers = { Webhook-Id = \"x\" }"),
            "8: `endpoint.headers.Webhook-Id` is written by walhook itself: remove it",
        ),
        (
            endpoint("headers = { A = \"x\", a = \"y\" }"),
            "8: `endpoint.headers.a` is the same header as one above, in other letters: remove one of them",
        ),
        (
            endpoint("headers = { \"a\\nb\" = \"c\" }"),
            "8: `endpoint.headers.a\u{fffd}b` is no header's name: use letters, digits and hyphens",
        ),
        (
            endpoint("ordering = \"some\""),
            "8: `endpoint.ordering` is \"some\": write \"record\" or \"strict\" or \"none\"",
        ),
        (
            endpoint("concurrency = 0"),
            "8: `endpoint.concurrency` is 0: write a number from 1 to 1024",
        ),
        (
            endpoint("concurrency = -1"),
            "8: `endpoint.concurrency` is the number -1: write a whole number, such as 8",
        ),
        (
            endpoint("concurency = 8"),
            "8: `endpoint.concurency` is an unknown key: did you mean `concurrency`?",
        ),
        (
            endpoint("ordering = \"strict\"\nconcurrency = 8"),
            "9: `endpoint.concurrency` has no effect with ordering = \"strict\", which sends one event after the other: remove one of the two",
        ),
        (
            endpoint("timeout = \"soon\""),
            "8: `endpoint.timeout` is \"soon\", which is no duration: write a whole number with a unit (ms, s, m, h, d, w), such as \"15s\" or \"1h30m\"",
        ),
        (
            endpoint("timeout = 15"),
            "8: `endpoint.timeout` is the number 15: write a duration in quotes, such as \"15s\"",
        ),
        (
            endpoint("timeout = \"0s\""),
            "8: `endpoint.timeout` is too short: write a duration from \"1ms\" to \"10m\"",
        ),
        (
            endpoint("connect_timeout = \"1h\""),
            "8: `endpoint.connect_timeout` is too long: write a duration from \"1ms\" to \"10m\"",
        ),
        (
            endpoint("retry = {}"),
            "8: `endpoint.retry` says nothing of when: write schedule = [\"5s\", \"5m\", …], or initial = \"…\" for growing delays",
        ),
        (
            endpoint("retry = { schedule = [\"5\"] }"),
            "8: `endpoint.retry.schedule` is \"5\", which has no unit: ",
        ),
        (
            endpoint("retry = { schedule = [], max = \"1m\" }"),
            "8: `endpoint.retry.max` stands beside `schedule`: keep either `schedule`, or `initial`, `factor`, `max` and `give_up_after`",
        ),
        (
            endpoint("retry = { intial = \"1s\" }"),
            "8: `endpoint.retry.intial` is an unknown key: did you mean `initial`?",
        ),
        (
            endpoint("retry = { initial = \"1s\", factor = 0.5 }"),
            "8: `endpoint.retry` cannot be used: ",
        ),
        (
            endpoint("start = \"later\""),
            "8: `endpoint.start` is \"later\": write \"now\" or \"earliest\" or \"evt_…\"",
        ),
        (
            endpoint("start = \"evt_1\""),
            "8: `endpoint.start` is \"evt_1\": not an event id: evt_ and 32 of the digits 0-9, a-z without i, l, o, u; copy it whole, or write \"earliest\"",
        ),
        (
            endpoint("format = \"cloudevent\""),
            "8: `endpoint.format` is \"cloudevent\": did you mean `cloudevents`?",
        ),
        (
            endpoint("format = \"twenty\"\ntemplate = \"{{ data }}\""),
            "9: `endpoint.template` stands beside `format`: keep one of the two",
        ),
        (
            endpoint("content_type = \"text/plain\""),
            "8: `endpoint.content_type` has no effect without a `template`: remove it, or add one",
        ),
        (
            endpoint("template = \"{{ data }}\"\ncontent_type = \"text\""),
            "9: `endpoint.content_type` is no media type: write one such as \"application/json\"",
        ),
        (
            endpoint("template = \"missing.j2\""),
            "8: `endpoint.template` names the file conf/missing.j2, which cannot be read: ",
        ),
        (
            endpoint("template = \"{{ data.id }\""),
            "8: `endpoint.template` has an error in line 1: syntax error: ",
        ),
        (
            endpoint("template = '''{{ data.id }}\n{{ dat.name }}'''"),
            "8: `endpoint.template` has an error in line 2: there is no dat: what can stand here is id, event, timestamp, data, previous, updatedFields, unchanged, source",
        ),
        (
            endpoint("template = \"{% if event == 'a' %}{{ data.id | shout }}{% endif %}\""),
            "8: `endpoint.template` has an error in line 1: there is no filter shout",
        ),
        (
            endpoint("batch = { max_events = 0 }"),
            "8: `endpoint.batch.max_events` is 0: write a number from 1 to 1000",
        ),
        (
            endpoint("batch = { max_bytes = \"1GiB\" }"),
            "8: `endpoint.batch.max_bytes` is not between \"1KiB\" and \"16MiB\": write a size in between",
        ),
        (
            endpoint("batch = { max_wait = \"2m\" }"),
            "8: `endpoint.batch.max_wait` is too long: write a duration from \"0s\" to \"1m\"",
        ),
        (
            rest("[[endpoint]]\nurl = \"https://example.com\"\nsecret = \"${CRM_SECRET}\""),
            "11: `endpoint` names example.com a second time: add a `name` to each, to tell them apart",
        ),
        (
            file(
                "",
                "",
                "name = \"a\"",
                "[[endpoint]]\nname = \"a\"\nurl = \"https://b\"\nsecret = \"${CRM_SECRET}\"",
            ),
            "12: `endpoint.name` names the endpoint \"a\" a second time (first in line 8): remove one of them",
        ),
        (
            rest("[[endpoint]]\nname = \"a\""),
            "11: `endpoint` has no `url`: write url = \"https://…\"",
        ),
        (
            rest("[journal]\nretain = \"7 days\""),
            "12: `journal.retain` is \"7 days\", which has no unit: ",
        ),
        (
            rest("[journal]\nmax_size = \"10\""),
            "12: `journal.max_size` is \"10\", which has no unit: write a whole number with a unit (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB), such as \"512MiB\"",
        ),
        (
            rest("[journal]\nmax_size = \"1kB\""),
            "12: `journal.max_size` is less than a journal needs: write at least \"1MiB\"",
        ),
        (rest("[journal]\npath = \"\""), "12: `journal.path` is \"\", which is no name of a file"),
        (rest("[[journal]]"), "11: `journal` is a list: write it once, as [journal]"),
        (
            rest("[daemon]\nstop_grace = \"2h\""),
            "12: `daemon.stop_grace` is too long: write a duration from \"0s\" to \"1h\"",
        ),
        (
            rest("[admin]\nlisten = \"x\""),
            "11: `admin` is not supported by this version of walhook: remove it",
        ),
        (rest("colour = 1"), "11: `endpoint.colour` is an unknown key: what can stand here is "),
    ] {
        let error = parse(&text).err().unwrap_or_else(|| panic!("accepted: {text}"));
        let said = error.to_string();
        // A sentence that another room ends is compared as far as it is ours.
        let ours = long(sentence);
        let same = if ours.ends_with(' ') { said.starts_with(&ours) } else { said == ours };
        if !same {
            wrong.push_str(&format!("{text}\nsays     {said}\nexpected {ours}\n\n"));
        }
        assert!(!said.contains('\n') && !said.contains("hunter2"), "{said}");
        let line = error.line().map(|line| line.to_string());
        assert_eq!(line.as_deref(), said.split(':').nth(1), "{said}");
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_is_missing_altogether_is_said() {
    let text = "[source]\nurl = \"${DATABASE_URL}\"\n";
    let said = |needs| {
        Config::parse(Path::new("w.toml"), text, needs, &environment).map_err(|e| e.to_string())
    };
    let ends = "(`walhook run --help` shows the short way)";
    assert_eq!(
        said(Needs::Everything).unwrap_err(),
        format!("w.toml names no table: add a [[table]] {ends}")
    );
    assert!(said(Needs::Tables).is_err());
    assert!(said(Needs::Source).is_ok());
    let text = format!("{text}[[table]]\nname = \"people\"\n");
    let said = |needs| {
        Config::parse(Path::new("w.toml"), &text, needs, &environment).map_err(|e| e.to_string())
    };
    assert_eq!(
        said(Needs::Everything).unwrap_err(),
        format!("w.toml names no endpoint: add a [[endpoint]] {ends}")
    );
    assert!(said(Needs::Tables).is_ok());
}

//! Names and values nobody expects, and envelopes that are none.

use proptest::prelude::*;

use super::*;

fn formats() -> Vec<Format> {
    let template = |name: &str, text: &str| {
        Format::Template(Arc::new(Template::new(name, text, None).unwrap()))
    };
    let mut formats: Vec<Format> = Format::NAMES.into_iter().map(named).collect();
    formats.push(template(
        "a.json.j2",
        r#"{"id": {{ id }}, "event": "about {{ event }}", "data": {{ data }}, "text": "{{ data }} {{ previous|tojson }}",
           "fields": [{% for key, value in data|items %}{"{{ key }}": {{ value }}, "again": "{{ value }}"}{% if not loop.last %},{% endif %}{% endfor %}],
           "n": {{ {"a": [data, 1.5, none, true], "s": source.table}|tojson }}, "set": {{ updatedFields }}}"#,
    ));
    formats.push(template("a.txt", "{{ event }} {{ data }} {{ data|tojson }} {{ previous }}"));
    formats
}

/// Any JSON, its numbers beyond what doubles hold.
fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        "-?[1-9][0-9]{0,60}(\\.[0-9]{1,60})?([eE][+-]?[0-9]{1,4})?",
        "\\PC{0,20}|[\"\\\\\u{0}-\u{20}{}%\u{7f}-\u{9f}\u{2028}]{0,10}".prop_map(text),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6)
                .prop_map(|items| format!("[{}]", items.join(","))),
            object(inner),
        ]
    })
}

fn text(text: String) -> String {
    serde_json::to_string(&text).unwrap()
}

fn object(values: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let key = "[a-z]{1,8}|\\PC{0,12}|[\"\\\\\u{0}-\u{1f}]{1,4}|__proto__|items".prop_map(text);
    prop::collection::vec((key, values), 0..6).prop_map(|members| {
        let members: Vec<_> = members.iter().map(|(key, value)| format!("{key}:{value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

/// As the rules make it: anything may stand in names and values.
fn any_event() -> impl Strategy<Value = (String, String, String)> {
    let verb = prop::sample::select(vec![
        "created",
        "updated",
        "deleted",
        "truncated",
        "restored",
        "snapshot",
        "x",
        "",
    ]);
    let source = ("\\PC{0,12}|[\"\\\\\u{0}-\u{1f}/%. ]{0,5}", prop::option::of("\\PC{0,12}"));
    let source = source.prop_map(|(database, table)| {
        let database = text(database);
        let table = table.map_or(String::new(), |table| {
            format!(r#""schema":"public","table":{},"#, text(table))
        });
        format!(
            r#""source":{{"database":{database},{table}"lsn":"FFFFFFFF/FFFFFFFF","commitLsn":"0/0","xid":4294967295,"ordinal":1}}"#
        )
    });
    let old = prop::option::of(object(any_json()));
    let fields = prop::option::of(prop::collection::vec("\\PC{0,9}".prop_map(text), 0..4));
    ("[^ \\*\u{0}-\u{1f}\u{7f}-\u{9f}]{1,20}", verb, object(any_json()), old, fields, source)
        .prop_map(|(record, verb, data, old, fields, source)| {
            let old = old.map_or(String::new(), |old| format!(r#","previous":{old}"#));
            let fields = fields.map_or(String::new(), |fields| {
                let fields = fields.join(",");
                format!(r#","updatedFields":[{fields}],"unchanged":[{fields}]"#)
            });
            (format!("{record}.{verb}"), format!(r#""data":{data}{old}{fields}"#), source)
        })
}

/// Numbers as text, so that none is rounded by the comparison.
fn tree(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

proptest! {
    #[test]
    fn every_format_makes_json_of_every_event((name, members, source) in any_event()) {
        let event = (name.as_str(), members.as_str(), source.as_str());
        let given = envelope(event);
        let data = serde_json::from_slice::<Value>(&given).unwrap()["data"].clone();
        for format in formats() {
            let rendered = format.render(&subject(&name, &given)).unwrap();
            for (header, value) in &rendered.headers {
                prop_assert!(header.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
                prop_assert!(value.bytes().all(|byte| matches!(byte, b'!'..=b'~')), "{value}");
            }
            if !rendered.content_type.ends_with("json") {
                continue;
            }
            let made = tree(std::str::from_utf8(&rendered.body).unwrap());
            match &format {
                Format::Walhook | Format::CloudEvents | Format::Standard => {
                    prop_assert_eq!(&made["data"], &data);
                }
                Format::Twenty(_) => prop_assert_eq!(&made["record"], &data),
                Format::CloudEventsBinary => prop_assert_eq!(&made, &data),
                Format::Template(_) => {
                    prop_assert_eq!(&made["data"], &data);
                    prop_assert_eq!(&made["event"], &Value::from(format!("about {name}")));
                    prop_assert_eq!(&made["n"]["a"][0], &data);
                }
                Format::Debezium => {
                    let op = made["op"].as_str().unwrap();
                    prop_assert!("cudtrm".contains(op));
                }
            }
        }
    }

    #[test]
    fn whatever_the_journal_holds_is_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let envelope = Bytes::from(bytes);
        for format in formats() {
            let _ = format.render(&subject("a.b", &envelope));
            let _ = format.render_batch(&[subject("", &envelope)]);
        }
    }

    /// JSON that is no envelope.
    #[test]
    fn a_mangled_envelope_is_an_error(
        at in 0usize..400,
        with in prop::sample::select(vec!["", "{", "]", "\"", "null", "1", "\u{0}"]),
    ) {
        let whole = String::from_utf8(envelope(UPDATED).to_vec()).unwrap();
        let at = at.min(whole.len() - 1);
        let mangled = Bytes::from(format!("{}{with}{}", &whole[..at], &whole[at + 1..]));
        for format in formats() {
            if let Err(error) = format.render(&subject(UPDATED.0, &mangled)) {
                let error = error.to_string();
                prop_assert!(!error.contains("Ann") && !error.contains('\n'), "{error}");
            }
        }
    }
}

#[test]
fn members_of_another_kind_are_errors_without_their_values() {
    for wrong in [
        r#""data":{},"source":"t0ken""#,
        r#""data":{},"source":{"xid":"t0ken"}"#,
        r#""data":{},"source":{"table":"x"},"unchanged":{"t0ken":1}"#,
        r#""data":"t0ken","source":{"table":"x"},"unchanged":["a"]"#,
    ] {
        let envelope = envelope(("person.updated", wrong, ""));
        let error = named("debezium").render(&subject("person.updated", &envelope)).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with("the envelope of evt_") && !error.contains("t0ken"), "{error}");
    }
    let envelope = Bytes::from_static(br#"{"timestamp":7,"data":{}}"#);
    assert!(named("standard").render(&subject("a.b", &envelope)).is_err());
}

#[test]
fn depth_overflows_no_stack() {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let members = format!(r#""data":{{"id":1,"deep":{deep}}},"previous":{{}},"updatedFields":[]"#);
    let envelope = envelope(("person.updated", &members, TABLE));
    let event = subject("person.updated", &envelope);
    for format in formats() {
        let rendered = format.render(&event).unwrap();
        assert!(rendered.body.len() > deep.len() / 2, "{}", format.name());
    }
    // A look into it all is refused.
    let text = "{% set ns = namespace(x=data.deep) %}{% for i in range(90) %}{% set ns.x = ns.x[0] %}{% endfor %}{{ ns.x }}";
    let template = Format::Template(Arc::new(Template::new("a.txt", text, None).unwrap()));
    assert!(template.render(&event).is_err());
}

//! What templates may, and what they may not.

use super::*;

fn template(name: &str, text: &str) -> Format {
    match Template::new(name, text, None) {
        Ok(template) => Format::Template(Arc::new(template)),
        Err(error) => panic!("{error}: {text}"),
    }
}

fn fails(name: &str, text: &str, event: (&str, &str, &str)) -> String {
    let envelope = envelope(event);
    let error = template(name, text).render(&subject(event.0, &envelope)).unwrap_err().to_string();
    assert!(!error.contains('\n') && !error.contains("Ann"), "{error}");
    error
}

fn refused(name: &str, text: &str) -> String {
    Template::new(name, text, None).err().unwrap_or_else(|| panic!("accepted: {text}")).to_string()
}

#[test]
fn text_is_as_it_is_printed() {
    for (text, event, expected) in [
        ("{{ event }}: {{ data.name }}", CREATED, "person.created: Ann"),
        (
            "{{ data.id }} {{ data.pay }}",
            CREATED,
            "9223372036854775807 12345678901234567890.1234567890",
        ),
        ("{{ data }}", CUSTOM, r#"{ "total": [99.50] }"#),
        (
            "{{ data.total[0] }} {{ data.total[0] * 2 }} {{ data.total[0] > 99 }}",
            CUSTOM,
            "99.50 199.0 True",
        ),
        ("{{ data.total | tojson }} {{ data.total[0] | string | length }}", CUSTOM, "[99.50] 5"),
        (
            "{{ data.pay | tojson }} {{ data.id | tojson }}",
            CREATED,
            "12345678901234567890.1234567890 9223372036854775807",
        ),
        ("{% if data.pay > 12345678901234567000 %}rich{% endif %}", CREATED, "rich"),
        (
            "{{ updatedFields | join(', ') }}; {{ 'email' in updatedFields }}",
            UPDATED,
            "email; True",
        ),
        ("{{ updatedFields }}{{ previous }}{{ unchanged | length }}", CREATED, "[]{}0"),
        ("{{ source.schema }}.{{ source.table }} {{ source.ordinal }}", UPDATED, "public.people 0"),
        ("{{ source }}", REPORT, "{}"),
        ("{{ data.bio | default('?') }}{% if data.bio %}!{% endif %}", UPDATED, "?"),
        ("{{ previous.email is none }} {{ data.email | upper }}", UPDATED, "True A@B"),
        (
            "{% for key, value in data | items %}{{ key }}={{ value }};{% endfor %}",
            UPDATED,
            "id=42;name=Ann;email=a@b;",
        ),
        ("{% for key in data %}{{ key }} {% endfor %}", CREATED, "id name pay "),
        ("{{ timestamp[:10] }} {{ id[:4] }}", DELETED, "2025-02-10 evt_"),
        (
            "{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(data.pay) }}",
            CREATED,
            "<12345678901234567890.1234567890>",
        ),
        ("", CREATED, ""),
    ] {
        let rendered = render(&template("a.txt", text), event);
        assert_eq!(String::from_utf8_lossy(&rendered.body), expected, "{text}");
        assert_eq!(rendered.content_type, "text/plain; charset=utf-8");
    }
}

#[test]
fn json_is_escaped_for_its_place() {
    let quoted = (
        "person.created",
        r#""data":{"id":1,"name":"a\"b\\c\nd","n":null,"o":{"k":"v\""},"f":1.50}"#,
        TABLE,
    );
    for (text, expected) in [
        ("{{ data.name }}", r#""a\"b\\c\nd""#),
        (r#"{"a": "Hello {{ data.name }}!"}"#, r#"{"a": "Hello a\"b\\c\nd!"}"#),
        (
            r#"["{{ data.id }}", {{ data.id }}, {{ data.n }}, {{ data.f }}]"#,
            r#"["1", 1, null, 1.50]"#,
        ),
        (r#"["{{ data.o }}", {{ data.o }}]"#, r#"["{\"k\":\"v\\\"\"}", {"k":"v\""}]"#),
        ("{{ 'Hello ' ~ data.name }}", r#""Hello a\"b\\c\nd""#),
        ("{{ data.name | upper }}", r#""A\"B\\C\nD""#),
        ("{{ data.name | tojson }}", r#""a\"b\\c\nd""#),
        (
            "{{ {'x': data.name, 'y': [data.f, data.o, true]} }}",
            r#"{"x":"a\"b\\c\nd","y":[1.50,{"k":"v\""},true]}"#,
        ),
        ("{% set t %}<{{ data.name }}>{% endset %}{{ t | tojson }}", r#""<a\"b\\c\nd>""#),
        ("{% set t %}<{{ data.name }}>{% endset %}[\"{{ t }}\"]", r#"["<a\"b\\c\nd>"]"#),
        (
            "[{% for key in data %}{{ key }}{% if not loop.last %},{% endif %}{% endfor %}]",
            r#"["id","name","n","o","f"]"#,
        ),
        ("{{ data }}", r#"{"id":1,"name":"a\"b\\c\nd","n":null,"o":{"k":"v\""},"f":1.50}"#),
        ("[{{ true }}, {{ none }}, {{ 1.0 / 4 }}]", "[true, null, 0.25]"),
    ] {
        let rendered = render(&template("a.json.j2", text), quoted);
        assert_eq!(String::from_utf8_lossy(&rendered.body), expected, "{text}");
        assert_eq!(rendered.content_type, "application/json");
    }
    let text = r#"{"id": {{ data.id }}, "pay": {{ data.pay }}, "both": {{ data | tojson }}}"#;
    assert_eq!(
        body(&template("a.json", text), CREATED),
        r#"{"id": 9223372036854775807, "pay": 12345678901234567890.1234567890, "both": {"id":9223372036854775807,"name":"Ann","pay":12345678901234567890.1234567890}}"#
    );
}

#[test]
fn the_media_type_decides() {
    let made = |name: &str, content_type: Option<&str>| {
        let template = Template::new(name, "{{ data.name }}", content_type).unwrap();
        let rendered = render(&Format::Template(Arc::new(template)), CREATED);
        (String::from_utf8(rendered.body.to_vec()).unwrap(), rendered.content_type)
    };
    assert_eq!(made("a.json.j2", Some("text/html")), ("Ann".into(), "text/html".into()));
    for json in ["application/json; charset=utf-8", "application/vnd.api+json", "text/JSON"] {
        assert_eq!(made("a.j2", Some(json)), ("\"Ann\"".into(), json.into()));
    }
    for wrong in ["", "json", "text/", "/x", "a/b\r\nX: y", "a b/c"] {
        assert!(Template::new("a", "", Some(wrong)).is_err(), "{wrong:?}");
    }
}

#[test]
fn requests_get_paths_and_headers() {
    let text = "{{ set_path('/crm/people/' ~ data.id | urlencode ~ '?x=1') }}\
                {% do set_header('X-Table', source.table) %}{{ set_header('x-table', 'b') }}\
                {{ set_header('authorization', 'Bearer ' ~ data.name) }}{}";
    for name in ["a.json.j2", "a.txt"] {
        let rendered = render(&template(name, text), CREATED);
        assert_eq!(rendered.path.as_deref(), Some("/crm/people/9223372036854775807?x=1"));
        let headers = [("x-table", "b"), ("authorization", "Bearer Ann")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(rendered.headers, headers);
        assert_eq!(&rendered.body[..], b"{}");
    }
    let hostile = ("person.created", r#""data":{"id":"../../Ann","name":"Ann\r\nX: y"}"#, TABLE);
    for (text, why) in [
        ("{{ set_path('/a/' ~ data.id) }}", "with . or .. in it"),
        ("{{ set_path('/a/' ~ data.id | urlencode) }}", "with . or .. in it"),
        ("{{ set_path('/a/' ~ data.name) }}", "no path may hold"),
        ("{{ set_path(data.id) }}", "exactly one slash"),
        ("{{ set_path(data.none) }}", "a column is missing"),
        ("{{ set_header('x', data.name) }}", "no header may carry"),
        ("{{ set_header('x', data.none) }}", "a column is missing"),
        ("{{ set_header(data.name, 'x') }}", "a name that no header can have"),
    ] {
        let error = fails("a.txt", text, hostile);
        assert!(error.starts_with("the template a.txt fails in line 1: set_"), "{error}");
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_missing_column_is_said() {
    let text = "{{ data.id }}\n\n{{ data.nmae }}";
    assert_eq!(
        fails("slack.txt.j2", text, CREATED),
        "the template slack.txt.j2 fails in line 3: `data.nmae` is undefined: where a column may \
         be missing, write {{ data.column | default(\"\") }}"
    );
    let error = fails("a.txt", "{{ data.name.first.second }}", CREATED);
    assert!(error.contains("`data.name.first` is undefined"), "{error}");
}

#[test]
fn nothing_runs_for_ever_or_fills_the_memory() {
    for text in [
        "{% for i in range(100000) %}{% for i in range(100000) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 1000000000 }}",
        "{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ] {
        let Err(error) = Template::new("a.txt", text, None) else {
            fails("a.txt", text, CREATED);
            continue;
        };
        assert!(error.to_string().starts_with("has an error in line 1: "), "{error}");
    }
    let large = format!(r#""data":{{"name":"{}"}}"#, "Ann ".repeat(1 << 18));
    let large = ("person.created", large.as_str(), TABLE);
    let text = "{{ data.name }}{{ data.name }}{{ data.name }}";
    assert_eq!(render(&template("a.txt", text), large).body.len(), 3 << 20);
    let text = "{{ data }}{{ data.name }}{{ data.name }}{{ data.name }}";
    let error = fails("a.txt", text, large);
    assert!(error.ends_with("it makes more than 4 MiB of this event"), "{error}");
}

#[test]
fn mistakes_are_found_at_the_start() {
    for (name, text, sentence) in [
        ("a", "{{ data.id }", "has an error in line 1: syntax error: "),
        ("a", "\n\n{{ person.id }}", "has an error in line 3: there is no person: what can stand"),
        ("a", "{% if false %}\n{{ x }}{% endif %}", "has an error in line 2: there is no x: "),
        (
            "a",
            "{% if false %}{{ f(1) }}{% endif %}",
            "has an error in line 1: there is no function f",
        ),
        (
            "a",
            "{% if false %}{{ id | f }}{% endif %}",
            "has an error in line 1: there is no filter f",
        ),
        ("a", "{% if id is f %}{% endif %}", "has an error in line 1: there is no test f"),
        ("a", "{{ id | truncate }}", "has an error in line 1: there is no filter truncate"),
        ("a", "{{ debug() }}", "has an error in line 1: there is no function debug"),
        (
            "a",
            "{% include 'x' %}",
            "has an error in line 1: syntax error: unknown statement include",
        ),
        (
            "a",
            "{% extends 'x' %}",
            "has an error in line 1: syntax error: unknown statement extends",
        ),
        (
            "a",
            "{% import 'x' as x %}",
            "has an error in line 1: syntax error: unknown statement import",
        ),
        ("a", "{{ id | replace('a') }}", "has an error in line 1: missing argument"),
        ("a", "{{ id.upper() }}", "has an error in line 1: unknown method: "),
        (
            "a",
            "{{ set_path('people') }}",
            "has an error in line 1: set_path() got a path that does",
        ),
        ("a", "{{ set_path('//evil/x') }}", "has an error in line 1: set_path() got a path"),
        (
            "a",
            "{{ set_header('Webhook-Id', 'x') }}",
            "has an error in line 1: set_header() got webhook-id",
        ),
        (
            "a",
            "{{ set_header('Host', data.name) }}",
            "has an error in line 1: set_header() got host",
        ),
        ("a", "{{ set_header('x', 'a\nb') }}", "has an error in line 1: set_header() got a value"),
        ("a.json", r#"{"a": {{ data.name }},}"#, "makes no JSON of a sample event: "),
        ("a.json", "hello", "makes no JSON of a sample event: "),
        ("a", "\u{1}", "holds a control character: remove it"),
    ] {
        let error = refused(name, text);
        assert!(error.starts_with(sentence), "{text}\nsays     {error}\nexpected {sentence}");
    }
}

#[test]
fn what_may_be_right_is_accepted() {
    for text in [
        "{{ data.price * 2 }}",
        "{{ data.address.city.name }}",
        "{% for item in data.items %}{{ item.name.x | upper }}{% endfor %}",
        "{% set x = 1 %}{{ x }}{% macro m(a) %}{{ a }}{{ caller is defined }}{% endmacro %}{{ m(data.b) }}",
        "{% for x in [1] recursive %}{{ loop.index }}{{ loop([]) }}{% endfor %}",
        "{% if event == 'a' %}{{ data.created_at[:10] | replace('-', '/') }}{% endif %}",
        "{{ range(3) | list }}{{ dict(a=1) }}{% set ns = namespace() %}{% set ns.a = data.x %}",
        "{{ set_path('/x/' ~ data.x) }}{{ set_header('x', data.x) }}",
        "{{ set_path(data.path) }}{{ set_path('/' ~ data.tenant ~ '/x') }}{{ set_path(data.x ~ '?a') }}",
        "{{ data.x | selectattr('y') | map(attribute='z') | join(',') }}",
        "{{ source.table is startingwith 'p' }}",
    ] {
        template("a.txt", text);
    }
    for text in [
        r#"{"text": "{{ event }} {{ data.name }}", "n": {{ data.n }}}"#,
        r#"{% if event == "person.created" %}{"a": {{ data.name }}}{% endif %}"#,
        r#"{% if event.endswith is defined %}{% endif %}{"a": [{% for x in data.items %}{{ x }},{% endfor %}0]}"#,
    ] {
        template("a.json.j2", text);
    }
}

#[test]
fn an_output_that_is_no_json_is_an_error() {
    let text = r#"{% if data.name %}{"a": {% endif %}{}"#;
    let error = fails("slack.json.j2", text, CREATED);
    assert!(error.starts_with("the template slack.json.j2 makes no JSON of person.created: "));
    let error = fails("a.json", r#"{% if event == "x" %}{}{% endif %}"#, CREATED);
    assert!(error.contains("makes no JSON"), "{error}");
}

/// The examples are checked as they would be at a start, and make something of events of a CRM.
#[test]
fn examples_render() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut seen = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.ends_with(".j2") {
            continue;
        }
        seen += 1;
        let format = template(&name, &std::fs::read_to_string(&path).unwrap());
        for event in ALL {
            let rendered = render(&format, event);
            assert!(!rendered.body.is_empty(), "{name} {}", event.0);
        }
    }
    assert!(seen > 0);
}

#[test]
fn templates_stay_out_of_logs() {
    let format = template("a.json", r#"{"token": "t0ken", "text": {{ data.id }}}"#);
    assert_eq!(
        format!("{format:?}"),
        r#"Template(Template { name: "a.json", content_type: "application/json", .. })"#
    );
    assert!(!format.can_batch() && format.name() == "template");
}

/// Neither a value with slashes nor one that is missing leads to another place than was meant.
#[test]
fn a_value_is_one_segment_of_a_path() {
    let path = |data: &str| {
        let members = format!("\"data\":{data}");
        let envelope = envelope(("person.created", &members, TABLE));
        let made = template("t", "{{ set_path('/people/' ~ data.id | urlencode ~ '?x=1') }}");
        made.render(&subject("person.created", &envelope)).map(|made| made.path.unwrap())
    };
    for (data, expected) in [
        (r#"{"id":"7/delete?all=1&b#c"}"#, "/people/7%2Fdelete%3Fall%3D1%26b%23c?x=1"),
        (r#"{"id":"a b-c_d.e\u00e9\n"}"#, "/people/a%20b-c_d.e%C3%A9%0A?x=1"),
        (
            r#"{"id":123456789012345678901234567890123456789012345.50}"#,
            "/people/123456789012345678901234567890123456789012345.50?x=1",
        ),
    ] {
        assert_eq!(path(data).unwrap(), expected);
    }
    for data in ["{}", r#"{"id":null}"#] {
        let error = path(data).unwrap_err().to_string();
        assert!(error.contains("urlencode() got nothing: a column is missing or null"), "{error}");
    }
    // With an alternative it is meant.
    let text = "{{ set_path('/p/' ~ data.id | default('all') | urlencode) }}";
    assert_eq!(render(&template("t", text), TRUNCATED).path.unwrap(), "/p/all");
    let query = "{{ {'a': data.name, 'b': 'c d'} | urlencode }}";
    assert_eq!(body(&template("t", query), CREATED), "a=Ann&b=c%20d");
}

#[test]
fn what_is_missing_is_not_joined_to_a_path() {
    for text in
        ["{{ set_path('/people/' ~ data.nothing) }}", "{{ set_header('x', 'a' ~ data.nothing) }}"]
    {
        let error = fails("t", text, CREATED);
        assert!(error.contains("data.nothing"), "{error}");
    }
}

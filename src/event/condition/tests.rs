use super::*;

const UPDATED: &str = r#"{"id":"evt_1","event":"person.updated","timestamp":"2025-02-10T15:30:50.123456Z",
    "data":{"id":7,"status":"active","email":"ann@example.com","age":41,"price":10.50,"none":null,
            "tags":["a","b"],"address":{"city":"Ulm","zip":"89073"},"matrix":[[1,2],[3]],
            "big":18446744073709551615,"huge":123456789012345678901234567890,
            "fine":0.12345678901234567890,"tiny":1e-400,"vast":1e400,"whole":9223372036854775807,
            "at":"2025-02-10T15:30:50Z","first name":"Ann","vip":true},
    "previous":{"email":"al@example.com"},"updatedFields":["email"],
    "source":{"database":"crm","schema":"public","table":"people","lsn":"0/16B3748",
              "commitLsn":"0/16B3790","xid":743,"ordinal":0,"capture":"replication"}}"#;
const CREATED: &str = r#"{"id":"evt_2","event":"person.created","timestamp":"2025-02-10T15:30:50.1Z",
    "data":{"id":8,"status":"active","tags":[]},"source":{"database":"crm","schema":"public","table":"people"}}"#;
const MESSAGE: &str =
    r#"{"id":"evt_3","event":"invoice.paid","data":"plain","source":{"database":"crm"}}"#;

fn condition(text: &str) -> EventCondition {
    EventCondition::new(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn expressions_judge_events() {
    // The expression, and what it says of each event: E is an error.
    for (text, expected) in [
        ("true", "TTT"),
        ("event == 'person.updated'", "TFF"),
        ("event.startsWith('person.')", "TTF"),
        ("event in ['person.created', 'invoice.paid']", "FTT"),
        ("data.status == 'active'", "TTE"),
        ("data.status == 'active' && 'email' in updatedFields", "TEE"),
        ("event == 'person.updated' && 'email' in updatedFields", "TFF"),
        ("has(data.email)", "TFE"),
        ("has(data.email) && data.email.endsWith('@example.com')", "TFE"),
        ("has(previous.email)", "TFF"),
        ("has(previous.email) && previous.email != data.email", "TFF"),
        ("previous.email == 'al@example.com'", "TEE"),
        ("size(previous) == 0", "FTT"),
        ("data['first name'] == 'Ann'", "TEE"),
        ("data.address.city == 'Ulm'", "TEE"),
        ("has(data.address) && has(data.address.zip)", "TFE"),
        ("data.tags.exists(t, t == 'b')", "TFE"),
        ("data.tags.all(t, t != 'b')", "FTE"),
        ("data.tags.filter(t, t > 'a').size() == 1", "TFE"),
        ("data.tags.map(t, t + '!') == ['a!', 'b!']", "TFE"),
        ("data.tags.exists_one(t, t == 'a')", "TFE"),
        ("data.matrix.exists(row, row.exists(x, x == 3))", "TEE"),
        ("'a' in data.tags", "TFE"),
        ("'email' in data", "TFE"),
        ("data.exists(name, name == 'vip')", "TFE"),
        ("data.age > 40 && data.age <= 41.5", "TEE"),
        ("data.price == 10.5", "TEE"),
        ("data.price * 2.0 > 20.0", "TEE"),
        ("data.none == null", "TEE"),
        ("data.vip", "TEE"),
        ("data.age", "EEE"),
        ("data.age == '41'", "FEE"),
        ("data.age > 'x'", "EEE"),
        ("data.email.matches('^[a-z]+@example[.]com$')", "TEE"),
        ("matches(event, 'paid$')", "FFT"),
        ("source.table == 'people' && source.database == 'crm'", "TTE"),
        ("source.xid > 700", "TEE"),
        ("timestamp(data.at) > timestamp('2025-01-01T00:00:00Z')", "TEE"),
        ("timestamp(data.at).getFullYear() == 2025", "TEE"),
        ("timestamp(data.at) - timestamp('2025-02-10T15:30:00Z') == duration('50s')", "TEE"),
        ("timestamp(data.email) > timestamp('2025-01-01T00:00:00Z')", "EEE"),
        ("int(data.address.zip) == 89073", "TEE"),
        ("int(data.email) == 1", "EEE"),
        ("data.age / 0 == 1", "EEE"),
        ("data.age % 0 == 1", "EEE"),
        ("data.whole + 1 > 0", "EEE"),
        ("-(-9223372036854775807 - 1) > 0", "EEE"),
        ("data.tags[7] == 'x'", "EEE"),
        ("data.tags[0] == 'a'", "TEE"),
        ("type(data.age) == int", "TEE"),
        ("dyn(data) == 'plain'", "FFT"),
        ("(has(data.vip) ? data.vip : false)", "TFE"),
        ("{'a': 1}['a'] == 1", "TTT"),
        // What no number of CEL holds exactly is a text.
        ("data.big == 18446744073709551615u", "TEE"),
        ("data.big > 5", "TEE"),
        ("data.huge == '123456789012345678901234567890'", "TEE"),
        ("data.huge > 5", "EEE"),
        ("data.fine == '0.12345678901234567890'", "TEE"),
        ("data.fine < 0.5", "EEE"),
        ("data.tiny > 0.0", "EEE"),
        ("data.vast > 0.0", "EEE"),
        ("data.whole == 9223372036854775807", "TEE"),
        ("data.whole == 9223372036854775806", "FEE"),
    ] {
        let condition = condition(text);
        let said: String = [UPDATED, CREATED, MESSAGE]
            .iter()
            .map(|event| match condition.matches(event.as_bytes()) {
                Ok(true) => 'T',
                Ok(false) => 'F',
                Err(_) => 'E',
            })
            .collect();
        assert_eq!(said, expected, "{text}: {:?}", condition.matches(UPDATED.as_bytes()));
    }
}

#[test]
fn what_is_wrong_is_said_at_the_start() {
    for (text, words) in [
        ("", "is empty"),
        (
            "evnt == 'x'",
            "names \"evnt\", which is not there: did you mean \"event\"? (character 1)",
        ),
        ("data.x == 1 && nothing", "there are event, data"),
        ("source.tabel == 'x'", "did you mean \"table\"?"),
        ("event == 5", "compares a text with a number (==)"),
        ("event + 1 == 2", "calculates a text + a number"),
        ("!event", "negates a text"),
        ("-event == 'x'", "negates a text"),
        ("event", "yields a text, not true or false"),
        ("size(event)", "yields a number, not true or false"),
        ("data.tags.map(t, t)", "yields a list"),
        ("event && true", "has a text beside &&"),
        ("event > 5", "compares a text with a number (>)"),
        ("data > data", "compares a map with a map"),
        ("1 + 1.5 == 2.5", "both have to be of one type"),
        ("event.startWith('p')", "did you mean \"startsWith\"?"),
        ("startsWith(event, 'p')", "write x.startsWith(…)"),
        ("event.startsWith()", "with 0 arguments, and it takes 1"),
        ("event.startsWith('a', 'b')", "with 2 arguments, and it takes 1"),
        ("event.startsWith(1)", "and it takes a text"),
        ("size() == 1", "without anything to take"),
        ("size(1) == 1", "calls size for a number"),
        ("updatedFields.email", "asks for .email of a list"),
        ("event[0] == 'p'", "takes [a number] of a text"),
        ("updatedFields['x'] == 'p'", "takes [a text] of a list"),
        ("'x' in event", "looks for something in a text"),
        ("event ? true : false", "has a text before ?"),
        ("event.exists(x, x == 'a')", "goes through a text"),
        ("[1].exists(a, [1].exists(b, [1].exists(c, true)))", "more than 2 deep"),
        ("data.tags.exists(data, data == 'a')", "choose another name"),
        ("event == ", "is no CEL: "),
        ("event = 'x'", "is no CEL: "),
        ("event == 'x", "is no CEL: "),
        ("data.?x == 1", "is no CEL: "),
        ("optional.none() == 1", "calls \"none\", which is no function"),
        ("Foo{a: 1} == 1", "a part of CEL that conditions don't have"),
        ("event.matches(event)", "no literal text"),
        ("event.matches('(')", "it is no regular expression"),
        ("event.matches('(\\\\pL{1000}){1000}')", "it is too large"),
        ("data.x == 0.1234567890123456789", "in quotes"),
    ] {
        let error = EventCondition::new(text).err().unwrap_or_else(|| panic!("accepted: {text}"));
        let said = error.to_string();
        assert!(said.contains(words), "{text}: {said}");
        assert!(!said.contains('\n') && said.len() < 400, "{said}");
    }
}

#[test]
fn errors_name_columns_and_no_values() {
    for (text, words) in [
        ("data.nope == 1", "asks for \"nope\", which the event does not have"),
        ("data.age > 'secret'", "`>` takes no int and string"),
        ("data.email > 1", "`>` takes no string and int"),
        ("data.email + 1 == 'x'", "these types"),
        ("int(data.email) == 1", "`int` cannot take"),
        ("data.age / 0 == 1", "divides by zero"),
        ("data.email", "yields a string, not true or false"),
    ] {
        let said = condition(text).matches(UPDATED.as_bytes()).unwrap_err().to_string();
        assert!(said.contains(words), "{text}: {said}");
        assert!(!said.contains("ann@") && !said.contains("secret"), "{said}");
    }
    let said = condition("'a' in updatedFields").matches(CREATED.as_bytes()).unwrap_err();
    assert!(
        said.to_string().contains("`updatedFields`, which is not known of this event"),
        "{said}"
    );
    let said = condition("event == 'a'").matches(b"{\"event\":").unwrap_err();
    assert!(said.to_string().contains("cannot be read"), "{said}");
}

#[test]
fn only_what_is_asked_for_is_read() {
    let read = |text: &str| {
        let input = input::read(UPDATED.as_bytes(), &condition(text).0.uses).unwrap();
        input.variables.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(read("event == 'x'"), "event");
    assert_eq!(read("data.id == 1 && has(previous.email)"), "data previous");
    assert_eq!(read("source.xid == 1"), "source");
    let size =
        |text: &str| input::read(UPDATED.as_bytes(), &condition(text).0.uses).unwrap().size.values;
    assert_eq!(size("data.id == 1"), 2.0);
    assert_eq!(size("data['first name'] == 'Ann' && data.vip"), 4.0);
    assert!(size("'id' in data") > 30.0);
}

/// Expressions whose work grows faster than the event.
const ATTACKS: [&str; 9] = [
    "data.l.exists(a, data.l.exists(b, a == b + 1))",
    "data.l.map(a, data.l).map(b, b).size() == 0",
    "data.l.map(a, data.l).exists(b, b.map(c, data.l).size() == 0)",
    "data.l.map(a, data.l + data.l + data.l).filter(b, b == data.l).size() == 0",
    "data.l.all(a, data.t.matches('(a|aa)+$') || data.t.matches('(.*)(.*)(.*)x'))",
    "data.l.all(a, (data.t + data.t + data.t + data.t).contains('x') || a > 0)",
    "data.l.map(a, [data.l, data.l, data.l].map(b, [b, b, b])).size() == 0",
    "data.l.map(a, string(a) + data.t).exists(s, s == data.t)",
    "data.exists(k, data.exists(m, data[k] == data[m]))",
];

#[test]
fn nothing_takes_longer_than_the_budget() {
    for text in ATTACKS {
        let condition = condition(text);
        let mut refused = false;
        for count in [1, 10, 100, 1_000, 10_000, 100_000] {
            let numbers = vec!["1"; count].join(",");
            let event = format!(
                r#"{{"event":"x","data":{{"l":[{numbers}],"t":"{}"}}}}"#,
                "a".repeat(count)
            );
            let input = input::read(event.as_bytes(), &condition.0.uses).unwrap();
            assert!(input.size.values >= count as f64);
            let estimate = cost::estimate_ns(&condition.0.expression, input.size);
            let too_much = match condition.matches(event.as_bytes()) {
                Err(error) => error.to_string().contains("would cost too much"),
                Ok(_) => false,
            };
            assert_eq!(too_much, estimate > BUDGET_NS, "{text} with {count}");
            assert!(!refused || too_much, "{text}: a larger event costs less");
            refused = too_much;
        }
        assert!(refused, "{text} was evaluated over 100,000 elements");
        // Small events are judged.
        let small = r#"{"event":"x","data":{"l":[1,2,3],"t":"aaa"}}"#;
        if let Err(error) = condition.matches(small.as_bytes()) {
            assert!(!error.to_string().contains("cost"), "{text}: {error}");
        }
    }
}

#[test]
fn expressions_that_only_grow_are_refused_at_once() {
    for text in [
        "(".repeat(2_000) + "true" + &")".repeat(2_000),
        "data".to_owned() + &".a".repeat(2_000) + " == 1",
        "data".to_owned() + &"[0]".repeat(1_300) + " == 1",
        vec!["1"; 2_000].join("+") + " == 1",
        "true ? ".repeat(500) + "true" + &" : true".repeat(500),
        "[".repeat(2_000),
        "(".repeat(31),
        "a".repeat(5_000),
        "é".repeat(2_000),
        format!("event == '{}", "\\".repeat(4_000)),
    ] {
        assert!(EventCondition::new(&text).is_err(), "{}…", &text[..20]);
    }
    // The parser takes these for one.
    assert_eq!(condition(&("!".repeat(4_001) + "true")).matches(CREATED.as_bytes()), Ok(false));
    assert_eq!(condition(&("-".repeat(4_001) + "1 == 1")).matches(CREATED.as_bytes()), Ok(false));
    // Long is not deep.
    let wide = vec!["data.id == 1"; 250].join(" || ");
    assert!(condition(&wide).matches(CREATED.as_bytes()).is_ok());
}

#[test]
fn the_deepest_expression_fits_into_a_small_stack() {
    let mut text = "data.id".to_owned();
    let mut deepest = None;
    while let Ok(condition) = EventCondition::new(&format!("[1].exists(x, {text} == 1)")) {
        deepest = Some(condition);
        text.push_str(" + 1");
    }
    let condition = deepest.unwrap();
    let deep =
        format!(r#"{{"event":"x","data":{{"id":{}1{}}}}}"#, "[".repeat(120), "]".repeat(120));
    let judge = move || {
        assert_eq!(condition.matches(CREATED.as_bytes()), Ok(false));
        assert!(condition.matches(deep.as_bytes()).is_err());
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(judge).unwrap().join().unwrap();
}

#[test]
fn deep_events_are_an_error() {
    let event = format!(
        r#"{{"event":"x","data":{{"a":{}{},"b":1}}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert!(condition("data.a == 1").matches(event.as_bytes()).is_err());
    assert_eq!(condition("data.b == 1").matches(event.as_bytes()), Ok(true));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Expressions as a grammar makes them: most are read, many are judged.
    fn expressions() -> impl Strategy<Value = String> {
        let leaf = proptest::sample::select(vec![
            "true",
            "null",
            "0",
            "1",
            "-1",
            "9223372036854775807",
            "-9223372036854775808",
            "1u",
            "18446744073709551615u",
            "0.0",
            "1.5",
            "-1e308",
            "''",
            "'a'",
            "b'a'",
            "[]",
            "{}",
            "event",
            "data",
            "previous",
            "updatedFields",
            "source",
            "data.id",
            "data.tags",
            "data.email",
            "data.big",
            "data.huge",
            "data.at",
            "data.address",
            "data.matrix",
            "source.xid",
            "x",
            "int",
            "duration('-9223372036s')",
            "duration('1h')",
            "timestamp('9999-12-31T23:59:59Z')",
            "timestamp('0001-01-01T00:00:00Z')",
            "dyn(1)",
        ])
        .prop_map(String::from);
        leaf.prop_recursive(5, 24, 3, |inner| {
            let binary = proptest::sample::select(vec![
                "+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "in", "&&", "||",
            ]);
            let unary = proptest::sample::select(vec![
                "!({})",
                "-({})",
                "size({})",
                "string({})",
                "int({})",
                "uint({})",
                "double({})",
                "bool({})",
                "bytes({})",
                "dyn({})",
                "type({})",
                "timestamp({})",
                "duration({})",
                "({}).size()",
                "({}).getFullYear()",
                "({}).getHours('UTC')",
                "({}).getMilliseconds()",
                "({}).matches('a.*')",
                "({}).id",
                "has(({}).id)",
                "[{}]",
                "{'a': {}}",
                "{{}: 1}",
            ]);
            let methods = proptest::sample::select(vec![
                ".contains",
                ".startsWith",
                ".endsWith",
                ".getDayOfWeek",
            ]);
            let macros =
                proptest::sample::select(vec!["exists", "all", "exists_one", "map", "filter"]);
            prop_oneof![
                4 => (inner.clone(), binary, inner.clone())
                    .prop_map(|(a, operator, b)| format!("({a} {operator} {b})")),
                4 => (unary, inner.clone()).prop_map(|(form, a)| form.replacen("{}", &a, 1)),
                1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
                1 => (inner.clone(), methods, inner.clone())
                    .prop_map(|(a, method, b)| format!("({a}){method}({b})")),
                2 => (inner.clone(), macros, inner.clone())
                    .prop_map(|(a, name, b)| format!("({a}).{name}(x, {b})")),
                1 => (inner.clone(), inner.clone(), inner)
                    .prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_expression_panics_or_overflows(text in expressions(), wrap in 0..3_u8) {
            let text = match wrap {
                0 => text,
                1 => format!("({text}) == ({text})"),
                _ => format!("[1, 'a'].exists(x, dyn({text}) == x)"),
            };
            if let Ok(condition) = EventCondition::new(&text) {
                for event in [UPDATED, CREATED, MESSAGE] {
                    if let Err(error) = condition.matches(event.as_bytes()) {
                        prop_assert!(!error.to_string().contains("the interpreter failed"), "{}", text);
                    }
                }
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "[a-z0-9 .,:?!'\"(){}\\[\\]+*/%<>=&|\\\\-]{0,60}|\\PC{0,60}") {
            if let Err(error) = EventCondition::new(&text) {
                prop_assert!(!error.to_string().contains("gave up"), "{}", text);
            }
        }

        #[test]
        fn no_event_makes_it_panic(event in "\\PC{0,80}") {
            let _ = condition("data.a == 1 || event == 'x'").matches(event.as_bytes());
        }
    }
}

/// What an application can put into one row must not take a multiple of its size in memory.
#[test]
fn a_row_of_a_million_values_is_refused_unread() {
    let body = format!(r#"{{"event":"a","data":{{"id":1,"tags":[{}0]}}}}"#, "0,".repeat(1 << 20));
    for text in ["has(data.tags)", "size(data.tags) > 0", "0 in data.tags", "size(data) > 0"] {
        let error = condition(text).matches(body.as_bytes()).unwrap_err().to_string();
        // What was read and counted is refused in other words.
        assert!(error.contains("too much") && error.contains(" values and more"), "{error}");
    }
    // What is not looked at does not count.
    assert_eq!(condition("data.id == 1").matches(body.as_bytes()), Ok(true));
}

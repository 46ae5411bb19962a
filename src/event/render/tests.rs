use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::postgres::relation::Composite;

fn json_with(kind: &TypeKind, text: &str, options: RenderOptions) -> String {
    let mut out = b"before".to_vec();
    value(&mut out, kind, text.as_bytes(), options).unwrap();
    String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
}

fn json(kind: &TypeKind, text: &str) -> String {
    json_with(kind, text, RenderOptions::default())
}

fn array(element: TypeKind) -> TypeKind {
    TypeKind::Array { element: Arc::new(element), delimiter: b',' }
}

fn composite(attributes: &[(&str, TypeKind)]) -> TypeKind {
    let attributes: Vec<_> = attributes.iter().map(|(n, k)| ((*n).to_owned(), k.clone())).collect();
    let firm = attributes.len();
    TypeKind::Composite(Arc::new(Composite { attributes, firm, others: Vec::new() }))
}

#[test]
fn numbers_keep_their_digits() {
    for text in ["0", "-1", "1.50", "0.00", "-0.5", "123456789012345678901234567890.1234567890"] {
        assert_eq!(json(&TypeKind::Number, text), text);
    }
    for text in ["NaN", "Infinity", "-Infinity", "", "-", "1.", ".5", "007", "1e", "1e9999", "1 "] {
        assert_eq!(json(&TypeKind::Number, text), format!("{text:?}"));
    }
}

#[test]
fn floats_become_what_numeric_makes_of_them() {
    for (text, expected) in [
        ("-0", "0"),
        ("1e+15", "1000000000000000"),
        ("-1.5e+20", "-150000000000000000000"),
        ("1.2345e+2", "123.45"),
        ("1.5e-07", "0.00000015"),
        ("-5e-05", "-0.00005"),
        ("12.5e-1", "1.25"),
        ("1e+00", "1"),
    ] {
        assert_eq!(json(&TypeKind::Number, text), expected, "{text}");
    }
    let largest = json(&TypeKind::Number, "1.7976931348623157e+308");
    assert_eq!(largest, format!("17976931348623157{}", "0".repeat(292)));
    let smallest = json(&TypeKind::Number, "5e-324");
    assert_eq!(smallest, format!("0.{}5", "0".repeat(323)));
}

#[test]
fn bigint_is_a_number_or_a_string() {
    let text = "-9223372036854775808";
    assert_eq!(json(&TypeKind::Int8, text), text);
    let options = RenderOptions { int8_as_string: true, ..RenderOptions::default() };
    assert_eq!(json_with(&TypeKind::Int8, text, options), format!("\"{text}\""));
    assert_eq!(json_with(&array(TypeKind::Int8), "{1,NULL}", options), r#"["1",null]"#);
    assert_eq!(json_with(&TypeKind::Number, "1", options), "1");
}

#[test]
fn bigint_is_a_string_wherever_it_is() {
    let options = RenderOptions { int8_as_string: true, ..RenderOptions::default() };
    let id = composite(&[("id", TypeKind::Int8), ("n", TypeKind::Number)]);
    assert_eq!(json_with(&id, "(-5,6)", options), r#"{"id":"-5","n":6}"#);
    let ids = composite(&[("ids", array(TypeKind::Int8))]);
    assert_eq!(json_with(&ids, r#"("{{1,2}}")"#, options), r#"{"ids":[["1","2"]]}"#);
    assert_eq!(json_with(&ids, r#"("{{1,2}}")"#, RenderOptions::default()), r#"{"ids":[[1,2]]}"#);
}

#[test]
fn vectors_are_arrays() {
    let int2vector = TypeKind::Vector(Arc::new(TypeKind::Number));
    let oidvector = TypeKind::Vector(Arc::new(TypeKind::Text));
    assert_eq!(json(&int2vector, "1 -2 3"), "[1,-2,3]");
    assert_eq!(json(&int2vector, ""), "[]");
    assert_eq!(json(&oidvector, "16 4294967295"), r#"["16","4294967295"]"#);
    assert_eq!(json(&array(int2vector.clone()), r#"{"1 2",3,"",NULL}"#), "[[1,2],[3],[],null]");
    for text in ["1  2", " 1", "1 "] {
        assert_eq!(json(&int2vector, text), format!("{text:?}"));
    }
}

#[test]
fn a_char_that_is_no_text_is_written_as_newer_servers_write_it() {
    let rendered = |kind: &TypeKind, text: &[u8]| {
        let mut out = Vec::new();
        value(&mut out, kind, text, RenderOptions::default()).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(rendered(&TypeKind::Char, b"\xFF"), r#""\\377""#);
    assert_eq!(rendered(&TypeKind::Char, b"\x80"), r#""\\200""#);
    assert_eq!(rendered(&TypeKind::Char, "é".as_bytes()), r#""é""#);
    assert_eq!(rendered(&TypeKind::Char, b""), r#""""#);
    assert_eq!(rendered(&TypeKind::Char, b"\""), r#""\"""#);
    assert_eq!(rendered(&array(TypeKind::Char), b"{\xFF,a}"), r#"["\\377","a"]"#);
    let pair = composite(&[("c", TypeKind::Char)]);
    assert_eq!(rendered(&pair, b"(\xE9)"), r#"{"c":"\\351"}"#);
}

#[test]
fn booleans() {
    assert_eq!(json(&TypeKind::Bool, "t"), "true");
    assert_eq!(json(&TypeKind::Bool, "f"), "false");
    assert_eq!(json(&TypeKind::Bool, "true"), "\"true\"");
}

#[test]
fn timestamps_are_iso_8601() {
    for (text, expected) in [
        ("2024-02-10 15:30:50", "2024-02-10T15:30:50"),
        ("2024-02-10 15:30:50.123456", "2024-02-10T15:30:50.123456"),
        ("0044-03-15 12:00:00 BC", "0044-03-15T12:00:00 BC"),
        ("294276-12-31 23:59:59.999999", "294276-12-31T23:59:59.999999"),
        ("infinity", "infinity"),
        ("", ""),
        ("now then", "now then"),
    ] {
        assert_eq!(json(&TypeKind::Timestamp, text), format!("\"{expected}\""));
    }
    for (text, expected) in [
        ("2024-02-10 15:30:50+00", "2024-02-10T15:30:50+00:00"),
        ("2024-02-10 15:30:50.1-03", "2024-02-10T15:30:50.1-03:00"),
        ("2024-02-10 15:30:50+05:30", "2024-02-10T15:30:50+05:30"),
        ("1800-01-01 00:00:00+00:53:28", "1800-01-01T00:00:00+00:53:28"),
        ("0044-03-15 12:00:00+00 BC", "0044-03-15T12:00:00+00:00 BC"),
        ("-infinity", "-infinity"),
        ("2024-02-10 15:30:50", "2024-02-10 15:30:50"),
    ] {
        assert_eq!(json(&TypeKind::TimestampTz, text), format!("\"{expected}\""));
    }
    assert_eq!(json(&TypeKind::Timestamp, "2024 \"x\""), r#""2024 \"x\"""#);
}

#[test]
fn json_is_embedded_as_written() {
    assert_eq!(json(&TypeKind::Json, r#" {"a" : 1.50} "#), r#" {"a" : 1.50} "#);
    assert_eq!(json(&TypeKind::Json, ""), r#""""#);
    assert_eq!(json(&TypeKind::Json, " "), r#"" ""#);
}

#[test]
fn text_is_escaped() {
    let text = "\u{0}\u{1}\u{8}\t\n\u{b}\u{c}\r\u{1f} !\"#[\\]~\u{7f}\u{80}é漢🦀";
    let expected = "\"\\u0000\\u0001\\b\\t\\n\\u000b\\f\\r\\u001f !\\\"#[\\\\]~\u{7f}\u{80}é漢🦀\"";
    assert_eq!(json(&TypeKind::Text, text), expected);
    assert_eq!(json(&TypeKind::Text, r"\x00ff"), r#""\\x00ff""#);
}

#[test]
fn what_is_not_utf8_is_an_error() {
    let composite = composite(&[("a", TypeKind::Text)]);
    for kind in [
        TypeKind::Text,
        TypeKind::Number,
        TypeKind::Bool,
        TypeKind::Json,
        TypeKind::Timestamp,
        array(TypeKind::Text),
        composite,
    ] {
        for text in [&b"\xFF"[..], b"long enough for a word \xC3", b"{\xC3(}", b"(\xED\xA0\x80)"] {
            let error = value(&mut Vec::new(), &kind, text, RenderOptions::default());
            assert_eq!(error, Err(InvalidUtf8), "{kind:?}");
        }
    }
}

#[test]
fn what_is_not_utf8_is_replaced_on_request() {
    let options = RenderOptions { replace_invalid_utf8: true, ..RenderOptions::default() };
    for (kind, text, expected) in [
        (TypeKind::Text, &b"plain"[..], r#""plain""#),
        (TypeKind::Text, b"na\xEFve \"\xC3\xA4\"", "\"na\u{fffd}ve \\\"\u{e4}\\\"\""),
        (TypeKind::Text, b"a long prefix, then \xC3", "\"a long prefix, then \u{fffd}\""),
        (TypeKind::Json, b"{\"a\": \"\xFF\"}", "{\"a\": \"\u{fffd}\"}"),
        (TypeKind::Number, b"1\xFF", "\"1\u{fffd}\""),
        (array(TypeKind::Text), b"{a,\"\xFF,\",NULL}", "[\"a\",\"\u{fffd},\",null]"),
    ] {
        let mut out = b"before ".to_vec();
        value(&mut out, &kind, text, options).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!("before {expected}"), "{kind:?}");
    }
}

#[test]
fn arrays_nest() {
    for (text, expected) in [
        ("{}", "[]"),
        ("{1,2,NULL}", "[1,2,null]"),
        ("{{1,2},{3,4}}", "[[1,2],[3,4]]"),
        ("[2:3]={1,2}", "[1,2]"),
        ("[-1:0][0:1]={{1,2},{3,NaN}}", "[[1,2],[3,\"NaN\"]]"),
        ("{{{{{{1}}}}}}", "[[[[[[1]]]]]]"),
    ] {
        assert_eq!(json(&array(TypeKind::Number), text), expected);
    }
    for (text, expected) in [
        (
            r#"{a,"b c","","NULL","d\"e\\f","{x}","é🦀\""}"#,
            r#"["a","b c","","NULL","d\"e\\f","{x}","é🦀\""]"#,
        ),
        (r#"{null,Nulls}"#, r#"["null","Nulls"]"#),
        (r#"{"[1:2]={}"}"#, r#"["[1:2]={}"]"#),
    ] {
        assert_eq!(json(&array(TypeKind::Text), text), expected);
    }
    assert_eq!(json(&array(TypeKind::Bool), "{t,f}"), "[true,false]");
    assert_eq!(
        json(&array(TypeKind::Json), r#"{"{\"a\": [1]}",1,NULL,null}"#),
        r#"[{"a": [1]},1,null,null]"#
    );
    assert_eq!(
        json(&array(TypeKind::TimestampTz), r#"{"2024-02-10 15:30:50+00",infinity}"#),
        r#"["2024-02-10T15:30:50+00:00","infinity"]"#
    );
    let boxes = TypeKind::Array { element: Arc::new(TypeKind::Text), delimiter: b';' };
    assert_eq!(json(&boxes, "{(1,1),(0,0);(2,2),(1,1)}"), r#"["(1,1),(0,0)","(2,2),(1,1)"]"#);
}

#[test]
fn composites_are_objects() {
    let inner = composite(&[("x", TypeKind::Text), ("y", array(TypeKind::Number))]);
    let outer = composite(&[
        ("n", TypeKind::Number),
        ("na\"me", TypeKind::Text),
        ("inner", inner),
        ("when", TypeKind::Timestamp),
    ]);
    let text = r#"(1,"a ""quoted"" \\ thing","(""x """"y"""""",""{1,2}"")","2024-02-10 15:30:50")"#;
    let expected = concat!(
        r#"{"n":1,"na\"me":"a \"quoted\" \\ thing","#,
        r#""inner":{"x":"x \"y\"","y":[1,2]},"when":"2024-02-10T15:30:50"}"#
    );
    assert_eq!(json(&outer, text), expected);
    let nulls = r#"{"n":null,"na\"me":"","inner":null,"when":null}"#;
    assert_eq!(json(&outer, r#"(,"",,)"#), nulls);
    assert_eq!(json(&composite(&[]), "()"), "{}");
    let pairs = array(composite(&[("a", TypeKind::Number), ("b", TypeKind::Text)]));
    let expected = r#"[{"a":1,"b":"x y"},{"a":2,"b":null}]"#;
    assert_eq!(json(&pairs, r#"{"(1,\"x y\")","(2,)"}"#), expected);
}

#[test]
fn a_composite_has_the_shape_that_its_fields_fit() {
    let attribute = |name: &str| (name.to_owned(), TypeKind::Number);
    let shapes = |firm: usize, now: &[&str], others: &[&[&str]]| {
        let shape = |names: &[&str]| names.iter().map(|name| attribute(name)).collect();
        let others = others.iter().map(|names| shape(names)).collect();
        TypeKind::Composite(Arc::new(Composite { attributes: shape(now), firm, others }))
    };
    // Added since the row was written.
    let added = shapes(3, &["a", "b", "c"], &[]);
    assert_eq!(json(&added, "(1,2)"), r#"{"a":1,"b":2}"#);
    assert_eq!(json(&added, "(1)"), r#"{"a":1}"#);
    assert_eq!(json(&added, "()"), r#"{"a":null}"#);
    // Something dropped lies behind the first.
    let dropped = shapes(1, &["a", "c", "d"], &[&["a", "b", "c", "d"]]);
    assert_eq!(json(&dropped, "(1,,3)"), r#"{"a":1,"c":null,"d":3}"#);
    assert_eq!(json(&dropped, "(1,2,3,)"), r#"{"a":1,"b":2,"c":3,"d":null}"#);
    assert_eq!(json(&dropped, "(1,2)"), r#""(1,2)""#);
    assert_eq!(json(&dropped, "(1,2,3,4,5)"), r#""(1,2,3,4,5)""#);
    assert_eq!(
        json(&array(dropped), r#"{"(1,2,3,4)","(1,2)"}"#),
        r#"[{"a":1,"b":2,"c":3,"d":4},"(1,2)"]"#
    );
    let all_dropped = shapes(0, &[], &[&["a", "b"]]);
    assert_eq!(json(&all_dropped, "()"), "{}");
    assert_eq!(json(&all_dropped, "(1,2)"), r#"{"a":1,"b":2}"#);
}

#[test]
fn malformed_text_is_rendered_as_text() {
    let numbers = array(TypeKind::Number);
    let pair = composite(&[("a", TypeKind::Number), ("b", TypeKind::Text)]);
    for (kind, text) in [
        (&numbers, ""),
        (&numbers, "{"),
        (&numbers, "}"),
        (&numbers, "{1"),
        (&numbers, "{1,"),
        (&numbers, "{1,}"),
        (&numbers, "{,1}"),
        (&numbers, "{1}2"),
        (&numbers, "{1\"2\"}"),
        (&numbers, "{\"1}"),
        (&numbers, "{\"1\\"),
        (&numbers, "{\"1\"2}"),
        (&numbers, "[1:2]{1}"),
        (&numbers, "[x]={1}"),
        (&numbers, "{{{{{{{1}}}}}}}"),
        (&numbers, "1 2 3"),
        (&pair, ""),
        (&pair, "("),
        (&pair, "(1"),
        (&pair, "(1,2"),
        (&pair, "(1,2,3)"),
        (&pair, "(1,\"2)"),
        (&pair, "(1,\"2\\x\")"),
        (&pair, "(1,2)x"),
        (&pair, "1,2)"),
    ] {
        assert_eq!(json(kind, text), serde_json::to_string(text).unwrap(), "{kind:?}");
    }
    // Only the part that is malformed.
    assert_eq!(json(&array(pair), r#"{"(1,2)","(1"}"#), r#"[{"a":1,"b":"2"},"(1"]"#);
}

#[test]
fn deep_nesting_does_not_recurse_deep() {
    let text = "{".repeat(1_000_000);
    assert_eq!(json(&array(TypeKind::Number), &text), format!("\"{text}\""));
}

fn kinds() -> impl Strategy<Value = TypeKind> {
    let leaf = prop_oneof![
        Just(TypeKind::Bool),
        Just(TypeKind::Number),
        Just(TypeKind::Int8),
        Just(TypeKind::Timestamp),
        Just(TypeKind::TimestampTz),
        Just(TypeKind::Text),
        Just(TypeKind::Char),
    ];
    leaf.prop_recursive(3, 8, 3, |kind| {
        let attributes = proptest::collection::vec((any::<String>(), kind.clone()), 0..3);
        prop_oneof![
            kind.clone().prop_map(array),
            (attributes, 0usize..3).prop_map(|(attributes, firm)| {
                let composite = Composite { attributes, firm, others: Vec::new() };
                TypeKind::Composite(Arc::new(composite))
            }),
            kind.prop_map(|kind| TypeKind::Vector(Arc::new(kind))),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_of_any_kind_is_valid_json(
        kind in kinds(),
        text in prop_oneof![any::<String>(), r#"[\[({]?[-{}(),"\\0-9eEtfx .:+\]=NUL]{0,20}"#],
    ) {
        let rendered = json(&kind, &text);
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(&rendered);
        prop_assert!(parsed.is_ok(), "{} gave {}", text, rendered);
    }

    #[test]
    fn text_reads_back(text in any::<String>()) {
        let rendered = json(&TypeKind::Text, &text);
        prop_assert_eq!(serde_json::from_str::<String>(&rendered).unwrap(), text);
    }

    #[test]
    fn doubles_are_what_they_were(number in any::<f64>()) {
        prop_assume!(number.is_finite() && number != 0.0);
        let rendered = json(&TypeKind::Number, &format!("{number:e}"));
        prop_assert_eq!(rendered.parse::<f64>().unwrap(), number);
    }
}

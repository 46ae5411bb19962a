//! Whether two values are the same, numbers by what they are worth.

use serde_json::Value;

#[track_caller]
pub(super) fn same(found: &Value, expected: &Value, name: &str) {
    if found != expected {
        assert_eq!(exact(found), exact(expected), "a value of {name}");
    }
}

/// Numbers by their decimal value: only json as written has more than one way to write one.
fn exact(value: &Value) -> Value {
    match value {
        Value::Number(number) => Value::String(format!("number {}", decimal(&number.to_string()))),
        Value::Array(values) => values.iter().map(exact).collect(),
        Value::Object(values) => {
            values.iter().map(|(name, value)| (name.clone(), exact(value))).collect()
        }
        other => other.clone(),
    }
}

/// Digits without zeros at either end, and the exponent.
fn decimal(text: &str) -> String {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let sign = if mantissa.starts_with('-') { "-" } else { "" };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{}{fraction}", whole.trim_start_matches('-'));
    let exponent: i64 = exponent.parse::<i64>().unwrap() - fraction.len() as i64;
    let digits = digits.trim_start_matches('0');
    let short = digits.trim_end_matches('0');
    match short {
        "" => "0".to_owned(),
        _ => format!("{sign}{short}e{}", exponent + (digits.len() - short.len()) as i64),
    }
}

#[test]
fn decimals_are_compared_by_value() {
    for (one, other) in [("1.50", "15e-1"), ("-0.0", "0"), ("100", "1E+2"), ("0.001", "1e-3")] {
        assert_eq!(decimal(one), decimal(other));
    }
    assert_ne!(decimal("9007199254740993"), decimal("9007199254740992"));
}

//! Numbers that keep their digits.
//!
//! Whole numbers of up to 128 bits are exact. All others calculate and compare as doubles, but
//! print as they were written: while a template renders, it is remembered which text each double
//! stands for. Two numbers that differ and would be the same double are made neighbours.

use std::cell::RefCell;
use std::collections::HashMap;

use minijinja::value::Value;
use minijinja::{Error, ErrorKind};

/// So many different numbers may lie as close to each other as doubles can tell.
const MOST_ALIKE: usize = 64;

thread_local! {
    static TEXTS: RefCell<HashMap<u64, Box<str>>> = RefCell::new(HashMap::new());
}

/// While it lives, numbers read on this thread are remembered.
pub(super) struct Remembered(());

impl Remembered {
    pub(super) fn start() -> Remembered {
        TEXTS.with_borrow_mut(HashMap::clear);
        Remembered(())
    }
}

impl Drop for Remembered {
    fn drop(&mut self) {
        TEXTS.with_borrow_mut(HashMap::clear);
    }
}

/// A number of a JSON text.
pub(super) fn of_json(text: &str) -> Value {
    let is_whole = text != "-0" && !text.contains(['.', 'e', 'E']);
    if is_whole {
        if let Ok(number) = text.parse::<i64>() {
            return Value::from(number);
        }
        if let Ok(number) = text.parse::<i128>() {
            return Value::from(number);
        }
        if let Ok(number) = text.parse::<u128>() {
            return Value::from(number);
        }
    }
    let Ok(mut double) = text.parse::<f64>() else {
        return Error::new(ErrorKind::BadSerialization, "a number is malformed").into();
    };
    TEXTS.with_borrow_mut(|texts| {
        for _ in 0..MOST_ALIKE {
            match texts.get(&double.to_bits()) {
                None => {
                    texts.insert(double.to_bits(), text.into());
                    return Value::from(double);
                }
                Some(other) if canonical(other) == canonical(text) => return Value::from(double),
                // Infinity stands for numbers beyond the range of doubles.
                Some(_) if double == f64::INFINITY => double = f64::MAX,
                Some(_) if double >= f64::MAX => double = double.next_down(),
                Some(_) if double == f64::NEG_INFINITY => double = f64::MIN,
                Some(_) => double = double.next_up(),
            }
        }
        Error::new(ErrorKind::BadSerialization, "too many numbers are almost the same").into()
    })
}

/// A double as it was written; a calculated one in the shortest way. Nothing for what is no JSON.
pub(super) fn text(double: f64) -> Option<String> {
    TEXTS
        .with_borrow(|texts| texts.get(&double.to_bits()).map(|text| text.to_string()))
        .or_else(|| serde_json::Number::from_f64(double).map(|number| number.to_string()))
}

/// Sign, digits without zeros at either end, and the exponent of the last: the same for all ways to
/// write a number.
fn canonical(text: &str) -> (bool, String, i64) {
    let (negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let kept = digits.trim_end_matches('0');
    let dropped = digits.len() - kept.len();
    let kept = kept.trim_start_matches('0').to_owned();
    let exponent = exponent.parse::<i64>().unwrap_or(i64::MAX);
    let exponent = exponent.saturating_sub(fraction.len() as i64).saturating_add(dropped as i64);
    if kept.is_empty() { (negative, kept, 0) } else { (negative, kept, exponent) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let value = of_json(text);
        match f64::try_from(value.clone()) {
            Ok(double) if !value.is_integer() => super::text(double).unwrap(),
            _ => value.to_string(),
        }
    }

    #[test]
    fn numbers_come_out_as_they_went_in() {
        let _numbers = Remembered::start();
        for text in [
            "0",
            "-0",
            "9223372036854775807",
            "-9223372036854775808",
            "18446744073709551615",
            "340282366920938463463374607431768211455",
            "340282366920938463463374607431768211456",
            "99.50",
            "1e400",
            "2e400",
            "-1e400",
            "-2E+400",
            "1e-400",
            "12345678901234567890.123456789",
            "12345678901234567890.123456788",
            "12345678901234567890.1234567880001",
            "0.1",
            "0.10000000000000000001",
        ] {
            assert_eq!(shown(text), text);
        }
        assert_eq!(shown("99.5"), "99.50", "the same number");
    }

    #[test]
    fn one_number_written_in_two_ways_is_equal() {
        for (a, b) in [("99.5", "99.50"), ("1e2", "100.0"), ("0.0", "0e7"), ("-12.30e1", "-123.0")]
        {
            assert_eq!(canonical(a), canonical(b), "{a} {b}");
        }
        assert_ne!(canonical("99.5"), canonical("9.95"));
        assert_ne!(canonical("1"), canonical("-1"));
    }
}

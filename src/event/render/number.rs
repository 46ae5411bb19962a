//! Numbers.

/// Appends the text of an integer, float or numeric as a JSON number with the digits `to_jsonb`
/// gives it. `None` for what is not a JSON number: NaN, the infinities, anything unexpected.
pub(super) fn write(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let whole = leading_digits(digits);
    if whole == 0 || (whole > 1 && digits[0] == b'0') {
        return None;
    }
    let (whole, rest) = digits.split_at(whole);
    let (fraction, rest) = match rest.strip_prefix(b".") {
        Some(rest) => {
            let fraction = leading_digits(rest);
            if fraction == 0 {
                return None;
            }
            rest.split_at(fraction)
        }
        None => (&rest[..0], rest),
    };
    match rest {
        // Negative zero, which only floats have, is a plain zero in jsonb.
        [] if text == b"-0" => out.push(b'0'),
        [] => out.extend_from_slice(text),
        [b'e', exponent @ ..] => {
            if digits.len() < text.len() {
                out.push(b'-');
            }
            shift(out, whole, fraction, exponent)?;
        }
        _ => return None,
    }
    Some(())
}

fn leading_digits(text: &[u8]) -> usize {
    text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len())
}

/// Floats beyond 15 digits come with an exponent; jsonb holds numbers as numeric, which has none.
fn shift(out: &mut Vec<u8>, whole: &[u8], fraction: &[u8], exponent: &[u8]) -> Option<()> {
    let (down, exponent) = match exponent {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    // A float's exponent is at most 324.
    if exponent.is_empty() || exponent.len() > 3 || leading_digits(exponent) < exponent.len() {
        return None;
    }
    let places = exponent.iter().fold(0, |places, digit| places * 10 + usize::from(digit - b'0'));
    let zeros = |out: &mut Vec<u8>, count: usize| out.resize(out.len() + count, b'0');
    if down {
        if places >= whole.len() {
            out.extend_from_slice(b"0.");
            zeros(out, places - whole.len());
            out.extend_from_slice(whole);
        } else {
            let (left, right) = whole.split_at(whole.len() - places);
            out.extend_from_slice(left);
            if places > 0 || !fraction.is_empty() {
                out.push(b'.');
            }
            out.extend_from_slice(right);
        }
        out.extend_from_slice(fraction);
    } else {
        let (left, right) = fraction.split_at(places.min(fraction.len()));
        // No leading zeros: JSON has none, and neither has a float's text with an exponent.
        if whole == b"0" {
            return None;
        }
        out.extend_from_slice(whole);
        out.extend_from_slice(left);
        zeros(out, places - left.len());
        if !right.is_empty() {
            out.push(b'.');
            out.extend_from_slice(right);
        }
    }
    Some(())
}

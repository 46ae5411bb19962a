//! Timestamps: from the `ISO` date style, to which walhook's connections are pinned, to the ISO
//! 8601 form of `to_jsonb`. Years before Christ keep their ` BC`; the infinities are words.

use super::string;

/// `2024-02-10 15:30:50.123` becomes `"2024-02-10T15:30:50.123"`.
pub(super) fn timestamp(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    let (date, time) = split(text)?;
    out.push(b'"');
    out.extend_from_slice(date);
    out.push(b'T');
    out.extend_from_slice(time);
    out.push(b'"');
    Some(())
}

/// `2024-02-10 15:30:50.123+00` becomes `"2024-02-10T15:30:50.123+00:00"`.
pub(super) fn timestamp_tz(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    let (date, time) = split(text)?;
    let (time, era) = match time.strip_suffix(b" BC") {
        Some(time) => (time, &b" BC"[..]),
        None => (time, &b""[..]),
    };
    let zone = time.iter().rposition(|&byte| byte == b'+' || byte == b'-')?;
    out.push(b'"');
    out.extend_from_slice(date);
    out.push(b'T');
    out.extend_from_slice(time);
    if time.len() - zone == 3 {
        // Whole hours are written short.
        out.extend_from_slice(b":00");
    }
    out.extend_from_slice(era);
    out.push(b'"');
    Some(())
}

/// Date and time, made of nothing that would need an escape; not the infinities.
fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if !text.first()?.is_ascii_digit() || !string::is_plain(text) {
        return None;
    }
    // Where it is in a year of four digits.
    let space = match text.get(10) {
        Some(b' ') => 10,
        _ => text.iter().position(|&byte| byte == b' ')?,
    };
    Some((&text[..space], &text[space + 1..]))
}

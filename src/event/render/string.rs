//! JSON strings (RFC 8259, section 7).

/// A value's bytes are not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::event) struct InvalidUtf8;

pub(super) fn utf8(text: &[u8]) -> Result<&str, InvalidUtf8> {
    std::str::from_utf8(text).map_err(|_| InvalidUtf8)
}

/// Appends text as a JSON string.
pub(in crate::event) fn quoted(out: &mut Vec<u8>, text: &[u8]) -> Result<(), InvalidUtf8> {
    out.push(b'"');
    escaped(out, text)?;
    out.push(b'"');
    Ok(())
}

/// Appends text as the inside of a JSON string.
pub(in crate::event) fn escaped(out: &mut Vec<u8>, text: &[u8]) -> Result<(), InvalidUtf8> {
    let plain = plain_prefix::<true>(text);
    out.extend_from_slice(&text[..plain]);
    if plain < text.len() {
        // What precedes is ASCII, so the rest starts at a character.
        escape_rest(out, utf8(&text[plain..])?.as_bytes());
    }
    Ok(())
}

fn escape_rest(out: &mut Vec<u8>, mut text: &[u8]) {
    loop {
        let plain = plain_prefix::<false>(text);
        out.extend_from_slice(&text[..plain]);
        let Some((&byte, rest)) = text[plain..].split_first() else { return };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0C => out.extend_from_slice(b"\\f"),
            other => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(other >> 4)]);
                out.push(HEX[usize::from(other & 15)]);
            }
        }
        text = rest;
    }
}

/// Whether text is ASCII and needs no escape.
pub(super) fn is_plain(text: &[u8]) -> bool {
    plain_prefix::<true>(text) == text.len()
}

/// How many bytes from the start need no escape and, with `ASCII`, are ASCII: found eight at a
/// time.
fn plain_prefix<const ASCII: bool>(text: &[u8]) -> usize {
    let (words, tail) = text.as_chunks::<8>();
    for (place, word) in words.iter().enumerate() {
        let found = special::<ASCII>(u64::from_le_bytes(*word));
        if found != 0 {
            // The lowest flag is exact; those above it may be a borrow's.
            return place * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let special =
        |&byte: &u8| byte < 0x20 || byte == b'"' || byte == b'\\' || (ASCII && !byte.is_ascii());
    words.len() * 8 + tail.iter().position(special).unwrap_or(tail.len())
}

/// Sets the highest bit of each byte that is below 0x20, a quote, a backslash or, with `ASCII`,
/// above 0x7F (Bit Twiddling Hacks, "Determine if a word has a byte less than n").
fn special<const ASCII: bool>(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let less = |word: u64, than: u64| word.wrapping_sub(ONES * than) & !word;
    let quote = less(word ^ (ONES * 0x22), 1);
    let backslash = less(word ^ (ONES * 0x5C), 1);
    let beyond = if ASCII { word } else { 0 };
    (less(word, 0x20) | quote | backslash | beyond) & HIGH
}

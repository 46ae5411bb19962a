//! Names that are not UTF-8, as a database of the encoding SQL_ASCII may have them.

/// A Relation message whose names are UTF-8: U+FFFD stands for what is none in them. Nothing for
/// other messages, and for one that is cut off, of which [`decode`](super::decode) says more.
pub fn with_valid_names(data: &[u8]) -> Option<Vec<u8>> {
    let mut rest = data;
    let mut out = Vec::with_capacity(data.len() + 16);
    if rest.first() != Some(&b'R') {
        return None;
    }
    // The tag and the oid; schema and name; the replica identity.
    copy(&mut rest, &mut out, 5)?;
    copy_name(&mut rest, &mut out)?;
    copy_name(&mut rest, &mut out)?;
    copy(&mut rest, &mut out, 1)?;
    let columns = u16::from_be_bytes(*rest.first_chunk()?);
    copy(&mut rest, &mut out, 2)?;
    for _ in 0..columns {
        // The flags; the name; the type's oid and modifier.
        copy(&mut rest, &mut out, 1)?;
        copy_name(&mut rest, &mut out)?;
        copy(&mut rest, &mut out, 8)?;
    }
    out.extend_from_slice(rest);
    Some(out)
}

fn copy(rest: &mut &[u8], out: &mut Vec<u8>, length: usize) -> Option<()> {
    let (taken, after) = rest.split_at_checked(length)?;
    out.extend_from_slice(taken);
    *rest = after;
    Some(())
}

fn copy_name(rest: &mut &[u8], out: &mut Vec<u8>) -> Option<()> {
    let end = rest.iter().position(|&byte| byte == 0)?;
    let (name, after) = rest.split_at_checked(end)?;
    out.extend_from_slice(String::from_utf8_lossy(name).as_bytes());
    *rest = after;
    copy(rest, out, 1)
}

#[cfg(test)]
mod tests {
    use super::super::{LogicalMessage, decode};
    use super::*;

    #[test]
    fn names_become_utf8_and_nothing_else_changes() {
        let message = b"R\0\0\0\x07s\xff\0t\xc3\xa4\0d\0\x02\
            \x01i\xe4d\0\0\0\0\x17\xff\xff\xff\xff\0ok\0\0\0\0\x19\xff\xff\xff\xff";
        assert!(decode(message).is_err());
        let repaired = with_valid_names(message).unwrap();
        let Ok(LogicalMessage::Relation(relation)) = decode(&repaired) else { panic!() };
        assert_eq!((relation.schema, relation.name, relation.id.0), ("s\u{fffd}", "t\u{e4}", 7));
        let columns: Vec<_> = relation.columns.iter().map(|it| (it.name, it.type_oid)).collect();
        assert_eq!(columns, [("i\u{fffd}d", 23), ("ok", 25)]);
        assert_eq!(with_valid_names(&repaired), Some(repaired));
        for length in 0..message.len() {
            assert_eq!(with_valid_names(&message[..length]), None, "{length}");
        }
        assert_eq!(with_valid_names(b"B\0\0"), None);
    }
}

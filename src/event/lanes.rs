//! Hashes for [`Lanes`](super::Lanes). They are stored with waiting deliveries, so what is hashed
//! must stay as it is.

/// FNV-1a, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneHash(u64);

/// Ends a part; no UTF-8 text contains it, so that parts cannot run into each other.
const END: u8 = 0xFF;
/// Stands for a part that is null or not known.
const ABSENT: u8 = 0xFE;

impl LaneHash {
    /// A hash that starts with some parts.
    pub(super) fn of(parts: &[&[u8]]) -> LaneHash {
        parts.iter().fold(LaneHash(0xCBF2_9CE4_8422_2325), |hash, part| hash.with(part))
    }

    /// One part more.
    pub(super) fn with(self, part: &[u8]) -> LaneHash {
        part.iter().fold(self, |hash, &byte| hash.byte(byte)).byte(END)
    }

    /// One part more, of which there is no value.
    pub(super) fn with_absent(self) -> LaneHash {
        self.byte(ABSENT).byte(END)
    }

    fn byte(self, byte: u8) -> LaneHash {
        LaneHash((self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
    }

    /// The lane.
    pub(super) fn lane(self) -> i64 {
        self.0.cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_1a_as_published() {
        let plain =
            |text: &[u8]| text.iter().fold(LaneHash::of(&[]), |hash, &byte| hash.byte(byte)).0;
        assert_eq!(plain(b""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(plain(b"a"), 0xAF63_DC4C_8601_EC8C);
        assert_eq!(plain(b"foobar"), 0x8594_4171_F739_67E8);
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(LaneHash::of(&[b"a", b"bc"]), LaneHash::of(&[b"ab", b"c"]));
        assert_ne!(LaneHash::of(&[b"a", b""]), LaneHash::of(&[b"a"]));
        assert_ne!(LaneHash::of(&[b"a"]).with_absent(), LaneHash::of(&[b"a", b""]));
    }
}

//! The receive buffer: frames are cut out of it in place.

use std::io;
use std::ops::Range;

/// The size it has unless a message is larger.
pub(super) const USUAL_BYTES: usize = 256 * 1024;
/// From here on it shrinks as soon as the large message is behind it.
const LARGE_BYTES: usize = 16 * 1024 * 1024;
/// How many reads without a large message it stays large otherwise.
const PATIENCE: u32 = 64;
/// The largest frame there can be: Postgres allocates no more than 1 GiB for a message.
pub(super) const MAX_FRAME_BYTES: usize = 0x4000_0000 + 64;
/// A tag and a length.
const HEADER_BYTES: usize = 5;

/// Received bytes, of which `filled` are not yet used up.
pub(super) struct ReceiveBuffer {
    bytes: Vec<u8>,
    filled: Range<usize>,
    /// Reads since a frame last needed more than the usual size.
    reads_since_large: u32,
    /// What the last read brought.
    last_read_bytes: usize,
}

/// A whole message in the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) tag: u8,
    /// Where its body is: what follows tag and length.
    pub(super) body: Range<usize>,
}

/// The length in a frame's header can't be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadLength(pub(super) i32);

impl ReceiveBuffer {
    pub(super) fn new() -> ReceiveBuffer {
        ReceiveBuffer {
            bytes: vec![0; USUAL_BYTES],
            filled: 0..0,
            reads_since_large: 0,
            last_read_bytes: 0,
        }
    }

    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// The next frame, if all of it is here; it counts as used up, and stays readable until more
    /// is read. `limit` bounds its length.
    #[inline]
    pub(super) fn take_frame(&mut self, limit: usize) -> Result<Option<Frame>, BadLength> {
        let start = self.filled.start;
        match self.next_length(limit)? {
            Some(length) if length <= self.filled.len() => {
                self.filled.start += length;
                let body = start + HEADER_BYTES..start + length;
                Ok(Some(Frame { tag: self.bytes[start], body }))
            }
            _ => Ok(None),
        }
    }

    /// Whether [`take_frame`](Self::take_frame) would yield a frame (or an error).
    pub(super) fn has_frame(&self) -> bool {
        match self.next_length(MAX_FRAME_BYTES) {
            Ok(length) => length.is_some_and(|length| length <= self.filled.len()),
            Err(_) => true,
        }
    }

    /// The length of the next frame with its tag, once its header is here.
    #[inline]
    fn next_length(&self, limit: usize) -> Result<Option<usize>, BadLength> {
        let waiting = &self.bytes[self.filled.clone()];
        let Some([_, length @ ..]) = waiting.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(*length);
        // The length counts itself, but not the tag.
        match usize::try_from(length) {
            Ok(body) if (4..=limit).contains(&body) => Ok(Some(body + 1)),
            _ => Err(BadLength(length)),
        }
    }

    /// Reads more, as much as fits. `read` is told where to put it and says how much it was; zero
    /// is the end of the stream. Frames taken before are gone afterwards.
    pub(super) fn fill(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.make_room();
        let room = &mut self.bytes[self.filled.end..];
        let received = read(room)?;
        debug_assert!(received <= room.len());
        self.filled.end += received;
        self.last_read_bytes = received;
        Ok(received)
    }

    /// How many bytes the last read brought.
    pub(super) fn last_read_bytes(&self) -> usize {
        self.last_read_bytes
    }

    fn make_room(&mut self) {
        let needed = self.next_length(MAX_FRAME_BYTES).ok().flatten().unwrap_or(HEADER_BYTES);
        if needed > USUAL_BYTES {
            self.reads_since_large = 0;
        } else {
            self.reads_since_large = self.reads_since_large.saturating_add(1);
        }
        let size = self.bytes.len();
        let patience = if size >= LARGE_BYTES { 0 } else { PATIENCE };
        if size > USUAL_BYTES && needed <= USUAL_BYTES && self.reads_since_large > patience {
            self.shrink();
        }
        if self.filled.is_empty() {
            self.filled = 0..0;
        } else if self.filled.start > 0 {
            // What is left is the head of one frame. Moving it is worth it when the frame doesn't
            // fit behind it, or when little room would make for small reads.
            let room = self.bytes.len() - self.filled.end;
            if self.filled.start + needed > self.bytes.len() || room < self.bytes.len() / 2 {
                self.bytes.copy_within(self.filled.clone(), 0);
                self.filled = 0..self.filled.len();
            }
        }
        if self.filled.end == self.bytes.len() {
            // Grows with what has really come, not with what a header claims.
            let size = (self.bytes.len() * 2).min(needed.max(self.bytes.len() + 1));
            self.bytes.resize(size, 0);
        }
    }

    /// Gives memory back that a large message needed, unless one is just coming in.
    pub(super) fn shrink(&mut self) {
        if self.bytes.len() <= USUAL_BYTES || self.filled.len() > USUAL_BYTES / 2 {
            return;
        }
        let mut bytes = vec![0; USUAL_BYTES];
        bytes[..self.filled.len()].copy_from_slice(&self.bytes[self.filled.clone()]);
        self.bytes = bytes;
        self.filled = 0..self.filled.len();
    }

    #[cfg(test)]
    fn size(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![tag];
        frame.extend((body.len() as i32 + 4).to_be_bytes());
        frame.extend(body);
        frame
    }

    fn pour(buffer: &mut ReceiveBuffer, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let poured = buffer.fill(|room| {
                let count = room.len().min(bytes.len());
                room[..count].copy_from_slice(&bytes[..count]);
                Ok(count)
            });
            bytes = &bytes[poured.unwrap()..];
        }
    }

    #[test]
    fn lengths_that_can_not_be_are_refused() {
        for length in [-1, i32::MIN, 0, 3, i32::MAX] {
            let mut buffer = ReceiveBuffer::new();
            let mut bytes = vec![b'd'];
            bytes.extend(length.to_be_bytes());
            pour(&mut buffer, &bytes);
            assert_eq!(buffer.take_frame(MAX_FRAME_BYTES), Err(BadLength(length)));
            assert!(buffer.has_frame());
        }
    }

    #[test]
    fn a_claimed_gigabyte_costs_no_memory_until_it_comes() {
        let mut buffer = ReceiveBuffer::new();
        let mut bytes = vec![b'd'];
        bytes.extend(0x3fff_ffff_i32.to_be_bytes());
        bytes.extend([0; 1000]);
        pour(&mut buffer, &bytes);
        assert_eq!(buffer.take_frame(MAX_FRAME_BYTES), Ok(None));
        pour(&mut buffer, &[0; 10]);
        assert_eq!(buffer.size(), USUAL_BYTES);
        pour(&mut buffer, &vec![0; 2 * USUAL_BYTES]);
        assert!(buffer.size() <= 4 * USUAL_BYTES, "{}", buffer.size());
    }

    #[test]
    fn it_shrinks_after_a_giant_message() {
        let mut buffer = ReceiveBuffer::new();
        let giant = frame(b'd', &vec![7; LARGE_BYTES + 5]);
        pour(&mut buffer, &giant);
        let taken = buffer.take_frame(MAX_FRAME_BYTES).unwrap().unwrap();
        assert_eq!(taken.body.len(), LARGE_BYTES + 5);
        assert!(buffer.bytes(taken.body).iter().all(|b| *b == 7));
        pour(&mut buffer, &frame(b'k', b"small"));
        assert_eq!(buffer.size(), USUAL_BYTES);
        let taken = buffer.take_frame(MAX_FRAME_BYTES).unwrap().unwrap();
        assert_eq!(buffer.bytes(taken.body), b"small");
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(
            bodies in prop::collection::vec(
                prop_oneof![
                    8 => prop::collection::vec(any::<u8>(), 0..300),
                    1 => (0..600_000_usize).prop_map(|n| vec![b'x'; n]),
                ],
                1..40,
            ),
            chunk in 1..300_000_usize,
        ) {
            let stream: Vec<u8> = bodies.iter().flat_map(|b| frame(b'd', b)).collect();
            let mut buffer = ReceiveBuffer::new();
            let mut out = Vec::new();
            for piece in stream.chunks(chunk) {
                let mut piece = piece;
                while !piece.is_empty() {
                    let read = buffer.fill(|room| {
                        let count = room.len().min(piece.len());
                        room[..count].copy_from_slice(&piece[..count]);
                        Ok(count)
                    }).unwrap();
                    piece = &piece[read..];
                    while let Some(frame) = buffer.take_frame(MAX_FRAME_BYTES).unwrap() {
                        out.push(buffer.bytes(frame.body).to_vec());
                    }
                }
            }
            prop_assert_eq!(out, bodies);
        }
    }
}

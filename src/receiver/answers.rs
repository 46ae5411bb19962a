//! What a receiver answers.

use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::StatusCode;

/// Chosen statuses: one after the other, and the last of them from then on.
#[derive(Debug)]
pub struct Answers {
    statuses: Vec<StatusCode>,
    given: AtomicUsize,
}

impl Default for Answers {
    /// 200, always.
    fn default() -> Answers {
        Answers::new(vec![StatusCode::OK])
    }
}

impl Answers {
    /// These; 200 if there are none.
    pub fn new(statuses: Vec<StatusCode>) -> Answers {
        Answers { statuses, given: AtomicUsize::new(0) }
    }

    /// The next one.
    pub fn next(&self) -> StatusCode {
        let Some(last) = self.statuses.len().checked_sub(1) else { return StatusCode::OK };
        // Counts no further than needed, so that it never wraps.
        let given = self
            .given
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |given| {
                (given < last).then_some(given + 1)
            })
            .unwrap_or(last);
        self.statuses[given.min(last)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_stays() {
        let answers =
            Answers::new([500, 503, 200].map(|s| StatusCode::from_u16(s).unwrap()).into());
        let given: Vec<u16> = (0..5).map(|_| answers.next().as_u16()).collect();
        assert_eq!(given, [500, 503, 200, 200, 200]);
        assert_eq!(Answers::new(Vec::new()).next(), StatusCode::OK);
        assert_eq!(Answers::default().next(), StatusCode::OK);
    }
}

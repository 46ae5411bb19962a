//! What an answer's headers say of the receiver's own limits.

use std::time::SystemTime;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use super::attempt::Steering;

/// What the answer asks of the sender's pace.
pub(super) fn steering(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Steering {
    let _ = (headers, now);
    let throttle = matches!(status.as_u16(), 429 | 502 | 503 | 504);
    Steering { throttle, allowance: None }
}

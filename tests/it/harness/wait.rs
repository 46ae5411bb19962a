//! Waiting for what will come true.

use std::time::{Duration, Instant};

const POLL_EVERY: Duration = Duration::from_millis(10);

/// Asks again and again until the answer is there, and fails the test when it is not in time.
pub(crate) async fn eventually<T>(
    within: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        pause(POLL_EVERY).await;
    }
}

/// For tests in which time itself is the matter: how long an outage lasts, when a kill comes.
pub(crate) async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

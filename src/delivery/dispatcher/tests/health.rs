//! What is told of an endpoint that fails, and when it is disabled for that.

use super::*;
use crate::delivery::dispatcher::health;
use crate::delivery::pace::Pace;

const SECOND_MS: i64 = 1_000;

/// The names of all reports about the endpoint so far.
async fn reports(bed: &Bed) -> Vec<String> {
    let page = bed.journal.page(Seq(0), usize::MAX, usize::MAX).await.unwrap();
    let names = page.events().events().iter().map(|event| event.name.to_string());
    names.filter_map(|name| name.strip_prefix("walhook.endpoint.").map(str::to_owned)).collect()
}

/// Waits until these are the reports.
async fn reported(bed: &Bed, expected: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    while reports(bed).await != expected {
        assert!(Instant::now() < deadline, "{:?}, not {expected:?}", reports(bed).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A dispatcher that is not running, where every event goes by itself, and what the clock says.
async fn start(bed: &Bed, change: impl Fn(&mut EndpointOptions)) -> Dispatcher {
    let mut options = options("http://127.0.0.1:9/".parse().unwrap());
    options.retry = every(3_600_000, 9);
    change(&mut options);
    Dispatcher::start(options, bed.journal.clone(), &hosts()).await.unwrap()
}

/// The next request ends like that, so long after the first one.
async fn end(dispatcher: &mut Dispatcher, verdict: Verdict, at_ms: i64) {
    dispatcher.wall = Some((Instant::now(), at_ms));
    let launch = dispatcher.next_launch(Instant::now()).unwrap();
    dispatcher.landed(landing(launch, verdict));
    settle(dispatcher).await;
}

async fn fail(dispatcher: &mut Dispatcher, times: usize, at_ms: i64) {
    for _ in 0..times {
        end(dispatcher, Verdict::Retry { after: None }, at_ms).await;
    }
}

async fn bed() -> Bed {
    let mut bed = Bed::new();
    bed.journal.want_reports(true);
    bed.append(100, 100);
    until(|| bed.journal.tail().last_seq() == Seq(100)).await;
    bed
}

#[tokio::test]
async fn an_episode_of_failures_is_reported_once_whatever_restarts_fall_into_it() {
    let bed = bed().await;
    let mut dispatcher = start(&bed, |_| {}).await;
    // Neither many failures at once are an episode, nor a few in a long time.
    fail(&mut dispatcher, 15, SECOND_MS).await;
    end(&mut dispatcher, Verdict::Succeeded, 2 * SECOND_MS).await;
    fail(&mut dispatcher, 1, 3 * SECOND_MS).await;
    fail(&mut dispatcher, 8, 300 * SECOND_MS).await;
    reported(&bed, &[]).await;
    // A restart meanwhile makes no episode of it, and an end none that was not told to begin.
    drop(dispatcher);
    let mut dispatcher = start(&bed, |_| {}).await;
    end(&mut dispatcher, Verdict::Succeeded, 400 * SECOND_MS).await;
    reported(&bed, &[]).await;

    fail(&mut dispatcher, 9, 500 * SECOND_MS).await;
    reported(&bed, &[]).await;
    fail(&mut dispatcher, 5, 511 * SECOND_MS).await;
    reported(&bed, &["failing"]).await;
    drop(dispatcher);
    let mut dispatcher = start(&bed, |_| {}).await;
    fail(&mut dispatcher, 15, 530 * SECOND_MS).await;
    reported(&bed, &["failing"]).await;
    end(&mut dispatcher, Verdict::Succeeded, 540 * SECOND_MS).await;
    reported(&bed, &["failing", "recovered"]).await;
    drop(dispatcher);
    let mut dispatcher = start(&bed, |_| {}).await;
    end(&mut dispatcher, Verdict::Succeeded, 550 * SECOND_MS).await;
    reported(&bed, &["failing", "recovered"]).await;
    // The next one.
    fail(&mut dispatcher, 9, 600 * SECOND_MS).await;
    fail(&mut dispatcher, 2, 620 * SECOND_MS).await;
    reported(&bed, &["failing", "recovered", "failing"]).await;
}

#[tokio::test]
async fn one_that_is_enabled_again_begins_anew() {
    let bed = bed().await;
    let mut dispatcher = start(&bed, |_| {}).await;
    fail(&mut dispatcher, 9, 0).await;
    fail(&mut dispatcher, 2, 20 * SECOND_MS).await;
    end(&mut dispatcher, Verdict::Disable { delivered: false }, 21 * SECOND_MS).await;
    reported(&bed, &["failing", "disabled"]).await;
    bed.journal.set_disabled(dispatcher.endpoint, None).await.unwrap();
    drop(dispatcher);
    let mut dispatcher = start(&bed, |_| {}).await;
    end(&mut dispatcher, Verdict::Succeeded, 30 * SECOND_MS).await;
    reported(&bed, &["failing", "disabled"]).await;
}

#[tokio::test]
async fn nothing_but_failures_for_long_enough_disables() {
    let bed = bed().await;
    let days = |days: i64| days * 86_400 * SECOND_MS;
    let limit = |options: &mut EndpointOptions| {
        options.disable_after = Some(Duration::from_secs(86_400));
    };
    let mut dispatcher = start(&bed, limit).await;
    fail(&mut dispatcher, 30, 0).await;
    end(&mut dispatcher, Verdict::Succeeded, days(1)).await;
    fail(&mut dispatcher, 1, days(1)).await;
    // A minute less, as the clock goes on while this runs.
    fail(&mut dispatcher, 20, days(2) - 60 * SECOND_MS).await;
    assert!(!dispatcher.disabled, "a success counts from anew");
    // Two failures of this run are not enough: the daemon may have been away.
    drop(dispatcher);
    let mut dispatcher = start(&bed, limit).await;
    fail(&mut dispatcher, 2, days(30)).await;
    assert!(!dispatcher.disabled);
    fail(&mut dispatcher, 1, days(30)).await;
    assert!(dispatcher.disabled && dispatcher.disable.is_none(), "and it is written down");
    let reason = bed.status("crm").disabled.unwrap();
    assert!(reason.starts_with("nothing but failures since"), "{reason}");
    assert!(reason.ends_with("for a day: no"), "{reason}");
    let last = reports(&bed).await.pop();
    assert_eq!(last.as_deref(), Some("disabled"));
}

/// What is told about walhook itself must not beget more of that without end; but an episode that
/// was told to begin is told to end, whatever is accepted first.
#[tokio::test]
async fn only_failures_of_changes_begin_an_episode_and_anything_ends_it() {
    let bed = bed().await;
    let host = hosts().of(&"http://127.0.0.1:9/".parse().unwrap());
    let pace = Pace::new(None, 1);
    let mut health = Health::new("crm".into(), bed.journal.clone(), host, pace, None);
    let mut end = |success: bool, own: bool, at_ms: i64| {
        let ticket = health.try_start(Instant::now()).unwrap();
        let result = health::Result {
            success,
            failure: !success,
            host: HostAnswer::Alive,
            after: None,
            steering: Steering::default(),
            error: "no",
            own,
        };
        assert_eq!(health.landed(ticket, result, Instant::now(), at_ms), None);
    };
    for at_ms in 0..20 {
        end(false, true, at_ms * SECOND_MS);
    }
    reported(&bed, &[]).await;
    end(false, false, 20 * SECOND_MS);
    reported(&bed, &["failing"]).await;
    end(true, true, 21 * SECOND_MS);
    reported(&bed, &["failing", "recovered"]).await;
    end(true, false, 22 * SECOND_MS);
    reported(&bed, &["failing", "recovered"]).await;
}

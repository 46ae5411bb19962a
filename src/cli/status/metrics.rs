//! The status as metrics, in Prometheus' text format
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>): for a collector
//! that reads files, which also sees what grows while the daemon is away.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Status, json};

/// A metric, and where the [status](json::of) has its value.
struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    pointer: &'static str,
}

const fn gauge(name: &'static str, pointer: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: "gauge", help, pointer }
}

const fn counter(name: &'static str, pointer: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: "counter", help, pointer }
}

const OF_ALL: &[Metric] = &[
    gauge("walhook_slot_active", "/source/slot/active", "Whether somebody reads the slot."),
    gauge("walhook_slot_lost", "/source/slot/lost", "Whether the slot can't be read any more."),
    gauge("walhook_slot_lag_bytes", "/source/slot/lagBytes", "Log not confirmed yet."),
    gauge(
        "walhook_slot_retained_bytes",
        "/source/slot/retainedBytes",
        "Log the server keeps for the slot.",
    ),
    gauge(
        "walhook_slot_lag_seconds",
        "/source/lagSeconds",
        "How long the newest unconfirmed commit has waited.",
    ),
    gauge("walhook_outbox_rows", "/source/outbox/rows", "Rows that wait in the outbox."),
    gauge("walhook_outbox_max_rows", "/source/outbox/maxRows", "How many may wait there."),
    gauge(
        "walhook_outbox_oldest_seconds",
        "/source/outbox/oldestSeconds",
        "How long ago the oldest of them was written.",
    ),
    gauge(
        "walhook_outbox_size_bytes",
        "/source/outbox/bytes",
        "What the outbox takes on the disk, dead rows included.",
    ),
    gauge(
        "walhook_outbox_dropped_unread",
        "/source/outbox/dropped",
        "Rows dropped by outbox_policy, as far as the daemon has not read of it.",
    ),
    counter(
        "walhook_outbox_lost_total",
        "/journal/outboxLost",
        "Changes of the outbox that were dropped or could not be recorded.",
    ),
    gauge("walhook_journal_events", "/journal/events", "Events in the journal."),
    gauge("walhook_journal_size_bytes", "/journal/sizeBytes", "The journal's size."),
];

const OF_ENDPOINTS: &[Metric] = &[
    gauge("walhook_endpoint_disabled", "/disabled", "Whether the endpoint is disabled."),
    gauge("walhook_endpoint_backlog", "/backlog", "Events the endpoint has yet to look at."),
    gauge("walhook_endpoint_in_flight", "/inFlight", "Deliveries on their way."),
    gauge("walhook_endpoint_waiting", "/waiting", "Deliveries that wait for their retry."),
    gauge("walhook_endpoint_blocked", "/blocked", "Deliveries that wait for an earlier one."),
    gauge("walhook_endpoint_dead", "/dead", "Dead deliveries that are kept."),
    counter("walhook_endpoint_dropped_total", "/dropped", "Events that retention took."),
    counter("walhook_endpoint_succeeded_total", "/succeeded", "Attempts that succeeded."),
    counter("walhook_endpoint_failed_total", "/failed", "Attempts that failed."),
];

pub(super) fn of(status: &Status) -> String {
    let mut text = String::new();
    let up = gauge("walhook_source_up", "", "Whether the database answers.");
    family(&mut text, &up, [(None, Value::Bool(status.database.is_ok()))]);
    let well = "Whether changes can come and be kept: what the exit code of status says.";
    let well = gauge("walhook_ready", "", well);
    family(&mut text, &well, [(None, Value::Bool(status.is_well()))]);
    let all = json::of(status);
    for metric in OF_ALL {
        let value = all.pointer(metric.pointer).cloned();
        family(&mut text, metric, value.map(|value| (None, value)));
    }
    let endpoints = all["endpoints"].as_array().map(Vec::as_slice).unwrap_or_default();
    for metric in OF_ENDPOINTS {
        let values = endpoints.iter().filter_map(|endpoint| {
            let value = endpoint.pointer(metric.pointer)?;
            // A reason, where it is.
            let value = match metric.pointer {
                "/disabled" => Value::Bool(!value.is_null()),
                _ => value.clone(),
            };
            Some((endpoint["name"].as_str(), value))
        });
        family(&mut text, metric, values);
    }
    text
}

/// A metric with its values, each of an endpoint or of all; those that are not known are left out.
fn family<'v>(
    text: &mut String,
    metric: &Metric,
    values: impl IntoIterator<Item = (Option<&'v str>, Value)>,
) {
    let mut begun = false;
    for (endpoint, value) in values {
        let value = match value {
            Value::Bool(value) => u8::from(value).to_string(),
            Value::Number(value) => value.to_string(),
            _ => continue,
        };
        let Metric { name, kind, help, .. } = metric;
        // writing to a String cannot fail
        if !std::mem::replace(&mut begun, true) {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        }
        let _ = match endpoint {
            None => writeln!(text, "{name} {value}"),
            Some(endpoint) => writeln!(text, "{name}{{endpoint=\"{}\"}} {value}", label(endpoint)),
        };
    }
}

/// A label's value.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_left_out() {
        let mut text = String::new();
        let metric = gauge("walhook_x", "", "Some.");
        family(&mut text, &metric, [(None, Value::Null)]);
        assert_eq!(text, "");
        let hostile = "a\"\\\nb";
        family(&mut text, &metric, [(Some(hostile), Value::from(7)), (None, Value::Bool(true))]);
        let expected = "# HELP walhook_x Some.\n# TYPE walhook_x gauge\n\
                        walhook_x{endpoint=\"a\\\"\\\\\\nb\"} 7\nwalhook_x 1\n";
        assert_eq!(text, expected);
    }
}

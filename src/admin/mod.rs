//! Health, metrics, API, dashboard.

//! The reproducible benchmark behind `make bench`.
//!
//! Starts a throwaway Postgres, a bare receiver and the real daemon on this machine, and prints one
//! table: every figure next to a limit measured in the same run, so that a noisy or slow machine
//! shows in both. Times are medians over `WALHOOK_BENCH_RUNS` runs (3); `WALHOOK_BENCH_ROWS` sets
//! the rows a run (100,000) and `WALHOOK_BENCH_ONLY` the scenarios, separated by commas, of
//! `journal`, `end-to-end`, `latency`, `batches`, `neighbours`, `fanout`, `large` and `backlog`.

mod bare_client;
mod daemon;
mod load;
mod receiver;
mod report;
mod scenarios;

use std::error::Error;
use std::process::ExitCode;

fn main() -> ExitCode {
    // `cargo test --benches` and editors run benchmarks with this flag only to see that they start.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benchmark: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let rows = number_from_env("WALHOOK_BENCH_ROWS", 100_000)?;
    let runs = number_from_env("WALHOOK_BENCH_RUNS", 3)?.max(1);
    let report = runtime.block_on(scenarios::run(rows, runs))?;
    println!("{report}");
    let path = report.write_json()?;
    println!("\nwritten to {}", path.display());
    Ok(())
}

fn number_from_env(name: &str, default: usize) -> Result<usize, Box<dyn Error>> {
    match std::env::var(name) {
        Err(_) => Ok(default),
        Ok(text) => text.parse().map_err(|_| format!("{name} is not a number: {text:?}").into()),
    }
}
